"""What several test files and both xdist workers need is built once a session, behind a file lock."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.forked_python import forks


def built_once(factory: pytest.TempPathFactory, name: str, build: Callable[[Path], None]) -> Path:
    """The folder that ``build(folder)`` filled; only the first asker of a session builds, whichever worker it is in.

    Nobody may write to it: a test that changes something takes a copy. The builder's commands are forks.
    """
    base = factory.getbasetemp()
    base = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "built-once"
    base.mkdir(exist_ok=True)
    folder, done = base / name, base / f"{name}.done"
    with (base / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            shutil.rmtree(folder, ignore_errors=True)  # of a build that failed
            folder.mkdir()
            with forks():
                build(folder)
            done.touch()
    return folder
