"""A disk that fills up in the middle of a stage: the error is on record, nothing is lost, and with space the run goes on."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from deft_aoi.contract.errors import Blocked
from deft_aoi.loop.driver import drive
from deft_aoi.record import log
from deft_aoi.record.log import load_state

from .conftest import FAST, deft, only_run

LEFT_BYTES = (0, 16_384, 65_536, 262_144)
"""What is left of the disk: too little for the attempt's mark, for a first image, for all of them, for the pool's tables."""


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 300 MB in memory."""
    if os.geteuid() != 0:
        pytest.skip("needs root to mount a tmpfs")
    mount = tmp_path / "disk"
    mount.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=300m", "tmpfs", str(mount)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("a tmpfs cannot be mounted here")
    yield mount
    subprocess.run(["umount", str(mount)], check=True)


def fill(disk: Path, left: int) -> None:
    """Use all of the disk but ``left`` bytes."""
    with (disk / "filler").open("wb", buffering=0) as handle, contextlib.suppress(OSError):
        while True:
            handle.write(b"x" * 65_536)
    os.truncate(disk / "filler", max(0, (disk / "filler").stat().st_size - left))


def test_a_stage_on_a_full_disk_is_on_record_as_an_error_and_goes_on_with_space(demo_source: Path, small_disk: Path) -> None:
    shutil.copytree(demo_source, small_disk / "ws")
    digest = deft("preflight", "--workspace", small_disk / "ws", *FAST, "--json").json["digest"]
    assert deft("approve", digest[:12], "--confirm", digest[-6:]).code == 0
    assert deft("init_deft_state", "--plan-digest", digest[:12]).code == 0
    run = only_run(small_disk / "ws")
    silent = {"say": lambda _line: None, "progress": lambda _line: None, "limit": 1}
    drive(run, **silent)
    blocked = 0
    for left in LEFT_BYTES:
        (run / "run" / "reserve").write_bytes(b"\0" * (1 << 20))
        fill(small_disk, left)
        try:
            drive(run, **silent)
        except Blocked as error:
            blocked += 1
            assert "no space" in error.message.lower()
            last = log.read(run)[-1]
            assert (last["stage"], last["status"], last["data"]["exit_code"]) == ("prestage", "error", 4)
            assert load_state(run)["status"] == "error"
        finally:
            (small_disk / "filler").unlink()
    assert blocked >= 3
    if "prestage" not in load_state(run)["run"]["stages"]:
        drive(run, **silent)
    done = log.read(run)[-1]
    assert (done["stage"], done["status"], done["op_id"]) == ("prestage", "ok", "run/prestage/1")
    assert load_state(run)["open_error"] is None
    assert not list(run.glob("synth_pool.tmp-*"))
