"""A tiny workspace that trains in seconds, and a way to run the real scripts on it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.forked_python import forks

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


def deft(script: str, *args: object, timeout: float = 300, env: dict[str, str] | None = None) -> Said:
    """Run ``scripts/<script>.py`` as a user would; ``env`` is added to the environment."""
    done = subprocess.run(
        [sys.executable, str(SCRIPTS / f"{script}.py"), *map(str, args)],
        capture_output=True,
        text=True,
        timeout=timeout,
        env={**os.environ, **(env or {})},
        stdin=subprocess.DEVNULL,
    )
    return Said(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def forked() -> Iterator[None]:
    """Scripts and jobs of the test are forks that need not import torch again (see `tests/forked_python.py`)."""
    with forks():
        yield


@pytest.fixture(scope="session")
def demo_source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A rendered tiny workspace; never written to."""
    target = tmp_path_factory.mktemp("demo") / "ws"
    said = deft("make_demo_workspace", "--output", target, "--scale", "small", "--seed", 3)
    assert said.code == 0, said.err
    return target


@pytest.fixture(scope="session")
def finished(demo_source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of one iteration on registered goldens, three epochs each: a checkpoint is pruned; never written to."""
    base = tmp_path_factory.mktemp("finished")
    shutil.copytree(demo_source, base / "ws")
    said = deft(
        "run_loop",
        "--workspace",
        base / "ws",
        "--kpi-target",
        NEVER,
        "--training-epochs",
        3,
        "--max-iterations",
        1,
        "--registration",
        6,
        "--yes",
        env={f"XDG_{name}_HOME": str(base / name) for name in ("STATE", "CACHE", "DATA")},
    )
    assert said.code == 0, said.out + said.err
    return only_run(base / "ws")


@pytest.fixture
def finished_copy(finished: Path, tmp_path: Path) -> Path:
    """A private copy of the finished run and its workspace."""
    shutil.copytree(finished.parents[1], tmp_path / "ws", symlinks=True)
    return only_run(tmp_path / "ws")


@pytest.fixture
def workspace(demo_source: Path, tmp_path: Path) -> Path:
    """A private copy of the tiny workspace."""
    target = tmp_path / "ws"
    shutil.copytree(demo_source, target)
    return target


def only_run(workspace: Path) -> Path:
    """The workspace's one run."""
    runs = sorted((workspace / "results").glob("run_*"))
    assert len(runs) == 1, runs
    return runs[0]


@pytest.fixture
def bare_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No GPU, no credential, no model cache, no Docker Engine: what is here is what a test puts here."""
    for name in ("NGC_API_KEY", "NGC_KEY", "HF_TOKEN", "CUDA_VISIBLE_DEVICES", "TAO_SKILL_BANK_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    commands = tmp_path / "bin"
    commands.mkdir()
    monkeypatch.setenv("PATH", f"{commands}:/usr/bin:/bin")
