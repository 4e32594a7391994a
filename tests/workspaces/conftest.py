"""One rendered workspace for all tests of this room; each test that changes it gets its own copy."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from deft_aoi.demo.workspace import make_demo


@pytest.fixture(scope="session")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small demo workspace; read only."""
    output = tmp_path_factory.mktemp("rendered") / "ws"
    make_demo(output, seed=3, scale="small")
    return output


@pytest.fixture
def workspace(rendered: Path, tmp_path: Path) -> Path:
    """A private copy of the small demo workspace."""
    return Path(shutil.copytree(rendered, tmp_path / "ws"))
