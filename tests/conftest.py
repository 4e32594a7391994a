"""Shared fixtures: the DeepPCB workspaces and the real TAO run files, where they are at hand."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest

from tests.forked_python import forks

REPO = Path(__file__).resolve().parents[1]
SCRIPTS = REPO / "scripts"
T = TypeVar("T")
FORKED = {"agent", "analysis", "loop", "mining", "report", "security", "workspaces"}
"""Rooms whose tests start our scripts often."""
INTERPRETERS = {"test_hostile_run.py", "test_secrets_in_failures.py"}
"""Their interpreters are told something at their start, or their command lines are read."""
LONG = bool(os.environ.get("DEFT_LONG_TESTS"))
"""Set by ``make faults``: random cases in their full number, ten times that of ``make test``."""
HANG_SEC = 600
"""After so long what never comes is a failure, not a hang; no result depends on it."""


def wait_until(what: str, look: Callable[[], T]) -> T:
    """Look again and again until ``look`` returns something true, and return it."""
    end = time.monotonic() + HANG_SEC
    while not (found := look()):
        assert time.monotonic() < end, f"never came: {what}"
        time.sleep(0.01)
    return found


def _beside(variable: str, *parts: str) -> Path:
    return Path(os.environ[variable]) if variable in os.environ else REPO.parent.joinpath("shared", *parts)


def _copy_workspace(name: str, target: Path) -> Path:
    source = _beside("DEFT_DEEPPCB", "data", "deeppcb") / name
    if not source.is_dir():
        pytest.skip("no DeepPCB workspace: set DEFT_DEEPPCB to a folder that holds workspace/ and workspace_tiny/")
    shutil.copytree(source, target, copy_function=shutil.copyfile)
    for folder, _dirs, _files in os.walk(target):
        Path(folder).chmod(0o755)
    return target


@pytest.fixture(autouse=True)
def _own_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give every test its own state, cache and data folders."""
    home = tmp_path_factory.mktemp("home")
    for variable in ("XDG_STATE_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME"):
        monkeypatch.setenv(variable, str(home / variable.lower()))


@pytest.fixture(scope="module", autouse=True)
def _forked(request: pytest.FixtureRequest) -> Iterator[None]:
    """Our scripts and jobs of the loop's tests are forks that need not import torch again (see `tests/forked_python.py`)."""
    place = request.node.path
    with forks() if place.parent.name in FORKED and place.name not in INTERPRETERS else contextlib.nullcontext():
        yield


@pytest.fixture
def deeppcb_tiny(tmp_path: Path) -> Path:
    """A private copy of the tiny DeepPCB workspace."""
    return _copy_workspace("workspace_tiny", tmp_path / "ws")


@pytest.fixture
def deeppcb_full(tmp_path: Path) -> Path:
    """A private copy of the full DeepPCB workspace."""
    return _copy_workspace("workspace", tmp_path / "ws")


@pytest.fixture
def tao_fixtures() -> Path:
    """Output files of real TAO runs."""
    path = _beside("DEFT_TAO_FIXTURES", "fixtures")
    if not path.is_dir():
        pytest.skip("no TAO run files: set DEFT_TAO_FIXTURES")
    return path
