"""The forks that stand for new interpreters inherit nothing that a new interpreter would not have."""

from __future__ import annotations

import subprocess
import sys
from multiprocessing import resource_tracker
from pathlib import Path

from tests.forked_python import SCRIPTS, forks


def test_a_fork_may_start_processes_of_its_own_beside_the_tests_resource_tracker(tmp_path: Path) -> None:
    resource_tracker.ensure_running()  # as any test with a pool of processes does
    command = [sys.executable, str(SCRIPTS / "make_demo_workspace.py"), "--output", str(tmp_path / "demo")]
    with forks():
        done = subprocess.run([*command, "--scale", "small", "--workers", "2"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
