"""A tiny workspace that trains in seconds, and a way to run the real scripts on it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
FAST = ("--training-epochs", "2", "--max-iterations", "1")
NEVER = "FAR < 0.0001% at recall=100%"


@dataclass(frozen=True)
class Said:
    """What a command said."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict:
        return json.loads(self.out.strip().splitlines()[-1])


def deft(script: str, *args: object, timeout: float = 300) -> Said:
    """Run ``scripts/<script>.py`` as a user would."""
    done = subprocess.run(
        [sys.executable, str(SCRIPTS / f"{script}.py"), *map(str, args)],
        capture_output=True, text=True, timeout=timeout, env=os.environ.copy(), stdin=subprocess.DEVNULL,
    )  # fmt: skip
    return Said(done.returncode, done.stdout, done.stderr)


@pytest.fixture(scope="session")
def demo_source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A rendered tiny workspace; never written to."""
    target = tmp_path_factory.mktemp("demo") / "ws"
    said = deft("make_demo_workspace", "--output", target, "--scale", "small", "--seed", 3)
    assert said.code == 0, said.err
    return target


@pytest.fixture
def workspace(demo_source: Path, tmp_path: Path) -> Path:
    """A private copy of the tiny workspace."""
    import shutil

    target = tmp_path / "ws"
    shutil.copytree(demo_source, target)
    return target


def only_run(workspace: Path) -> Path:
    """The workspace's one run."""
    runs = sorted((workspace / "results").glob("run_*"))
    assert len(runs) == 1, runs
    return runs[0]
