"""A tiny workspace that trains in seconds, and a way to run the real scripts on it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.built_once import built_once

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


@pytest.fixture(scope="session")
def demo_source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A rendered tiny workspace; never written to."""
    return made_demo(tmp_path_factory)


def made_demo(factory: pytest.TempPathFactory) -> Path:
    """The same, for a fixture of another scope."""

    def build(folder: Path) -> None:
        said = deft("make_demo_workspace", "--output", folder / "ws", "--scale", "small", "--seed", 3)
        assert said.code == 0, said.err

    return built_once(factory, "demo", build) / "ws"


@pytest.fixture(scope="session")
def finished(demo_source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of one iteration on registered goldens, three epochs each: a checkpoint is pruned; never written to."""

    def build(folder: Path) -> None:
        shutil.copytree(demo_source, folder / "ws")
        options = ("--training-epochs", 3, "--max-iterations", 1, "--registration", 6, "--yes")
        home = {f"XDG_{name}_HOME": str(folder / name) for name in ("STATE", "CACHE", "DATA")}
        said = deft("run_loop", "--workspace", folder / "ws", "--kpi-target", NEVER, *options, env=home)
        assert said.code == 0, said.out + said.err

    return only_run(built_once(tmp_path_factory, "finished", build) / "ws")


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
