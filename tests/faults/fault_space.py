"""A full disk: a small tmpfs filled to the byte, then space again; and real short writes at every length."""

from __future__ import annotations

import contextlib
import os
import resource
import subprocess
from pathlib import Path

from rig import Budget, Row, drain, forked, judge, new_run, note

from deft_aoi.contract.errors import Blocked
from deft_aoi.record import log


def _fill(folder: Path) -> None:
    """Use every byte that is left."""
    with (folder / "filler").open("ab", buffering=0) as handle:
        for size in (4096, 1):
            with contextlib.suppress(OSError):
                while True:
                    handle.write(b"x" * size)


def _error_event(folder: Path, op_id: str) -> int:
    return log.append(
        folder, iter_label="baseline", stage="train", status="error", summary="no space", op_id=op_id, duration_sec=0.0
    ).seq


def full_disk(base: Path, budget: Budget, *, cycles: int = 40) -> Row:
    """Fill the disk between and during appends: every refusal is clean, an error can be recorded, nothing is wedged."""
    row = Row("ENOSPC on a small tmpfs", {"cycles": 0, "refused": 0, "acknowledged": 0})
    # A line that is a little shorter may still fit, so not every error needs the reserve.
    row.target = {"cycles": cycles, "refused": cycles, "acknowledged": cycles, "reserves given up": cycles // 2}
    if os.geteuid() != 0:
        row.skipped = "needs root to mount a tmpfs"
        return row
    mount = base / "tmpfs"
    mount.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(mount)], capture_output=True, check=False)
    if done.returncode:
        row.skipped = "a tmpfs cannot be mounted here"
        return row
    try:
        folder, acks = new_run(mount / "run"), {}
        while row.counts["cycles"] < cycles and budget.left() and not row.problems:
            _cycle(folder, row, acks)
    finally:
        subprocess.run(["umount", str(mount)], check=True)
    return row


def _cycle(folder: Path, row: Row, acks: dict[str, int]) -> None:
    number = row.counts["cycles"]
    row.counts["cycles"] += 1
    reserve = folder / "run" / "reserve"
    reserve.write_bytes(b"\0" * 16384)
    _fill(folder)
    refused = 0
    for at in range(40):
        key = f"note/{number}-{at}"
        try:
            acks[key] = note(folder, key).seq
        except Blocked:
            refused += 1
            break
    row.counts["refused"] += refused
    error_key = f"error/{number}"
    acks[error_key] = _error_event(folder, error_key)  # the reserve exists for this
    row.counts["reserves given up"] = row.counts.get("reserves given up", 0) + (not reserve.exists())
    row.problems += [p for p in judge(folder, acks, repair_view=False) if "snapshot" not in p]
    (folder / "filler").unlink()
    again = f"note/{number}-{at}"
    acks[again] = note(folder, again).seq
    row.problems += judge(folder, acks, repair_view=False)
    row.counts["acknowledged"] = len(acks)


def short_writes(base: Path, budget: Budget, *, step: int = 1) -> Row:
    """The kernel takes n bytes of the line and then refuses (a file size limit), for every n: the log is as it was."""
    folder = new_run(base / "short")
    path = folder / "loop_log.jsonl"
    before = path.read_bytes()
    length = len(before) // 3
    row = Row("short write of n bytes, then an error", {"lengths": 0}, {"lengths": len(range(0, length, step))})

    def limited(extra: int):
        def work(pipe: int) -> None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + extra, resource.RLIM_INFINITY))
            os.write(pipe, f"ack {note(folder, 'note/n').seq}\n".encode())

        return work

    for extra in range(0, length, step):
        if not budget.left():
            break
        pid, pipe = forked(limited(extra))
        said, code = drain(pipe), os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        if path.read_bytes() != before or code != 3 or "error 3" not in said:
            row.problems.append(f"{extra} bytes: exit {code}, {said.strip()}, {path.stat().st_size - len(before)} bytes stay")
            break
        row.counts["lengths"] += 1
    ack = note(folder, "note/n")
    row.problems += judge(folder, {"note/n": ack.seq}, repair_view=False)
    return row
