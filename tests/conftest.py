"""Shared fixtures: the DeepPCB workspaces and the real TAO run files, where they are at hand."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[1]
SCRIPTS = REPO / "scripts"


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
