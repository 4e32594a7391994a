"""What every fault needs: a run to hurt, a way to judge it afterwards, and a line to report."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
if str(SCRIPTS) not in sys.path:
    sys.path.insert(0, str(SCRIPTS))

from deft_aoi.contract.errors import DeftError  # noqa: E402
from deft_aoi.record import log, state  # noqa: E402

BASE_EVENTS = 3


@dataclass
class Row:
    """One line of the table.

    Attributes:
        fault: what was done to the record.
        counts: what was reached, by name.
        target: least counts, by name; ``bad`` must stay 0.
        problems: what did not hold.
        skipped: what is missing on this machine; empty when the fault ran.
    """

    fault: str
    counts: dict[str, int] = field(default_factory=dict)
    target: dict[str, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    skipped: str = ""

    @property
    def met(self) -> bool:
        """Whether every target is reached and nothing was bad."""
        return not self.problems and all(self.counts.get(name, 0) >= least for name, least in self.target.items())

    def text(self) -> str:
        """The line."""
        if self.skipped:
            return f"{self.fault}: SKIPPED ({self.skipped})"
        counts = ", ".join(f"{n} {name}" for name, n in self.counts.items())
        least = ", ".join(f">= {n} {name}" for name, n in self.target.items())
        verdict = "ok" if self.met else f"MISSED {'; '.join(self.problems[:3])}"
        return f"{self.fault}: {counts}, {len(self.problems)} bad (target {least}, 0 bad): {verdict}"


def new_run(folder: Path) -> Path:
    """A run with its first three events on record."""
    folder.mkdir(parents=True)
    for stage in ("approve", "assets", "prestage"):
        log.append(folder, iter_label="run", stage=stage, status="ok", summary=stage, op_id=f"run/{stage}/1", duration_sec=0.0)
    return folder


def note(folder: Path, op_id: str) -> log.Ack:
    """Append a note under a key."""
    return log.append(
        folder, iter_label="run", stage="note", status="ok", summary=op_id, data={"of": op_id}, op_id=op_id, duration_sec=0.0
    )


def judge(folder: Path, acks: dict[str, int], *, repair_view: bool = True) -> list[str]:
    """What does not hold: every acknowledged event under its number, no number or key twice, snapshot == fold(log)."""
    try:
        if repair_view:
            log.verify_whole(folder)
        events = log.read(folder)
    except (DeftError, OSError) as error:
        return [f"{type(error).__name__}: {error}"]
    problems = []
    if [e["seq"] for e in events] != list(range(1, len(events) + 1)):
        problems.append("numbers are not 1, 2, 3, …")
    by_key = {e["op_id"]: e["seq"] for e in events}
    if len(by_key) != len(events):
        problems.append(f"{len(events) - len(by_key)} keys twice")
    lost = [key for key, seq in acks.items() if by_key.get(key) != seq]
    if lost:
        problems.append(f"{len(lost)} acknowledged events lost, {lost[0]} first")
    if state.read_bytes(str(folder)) != state.snapshot_bytes(events):
        problems.append("the snapshot is not the fold of the log")
    return problems


class Budget:
    """Time that a fault may take; it ends early once its targets are reached."""

    def __init__(self, seconds: float) -> None:
        self.end = time.monotonic() + seconds

    def left(self) -> bool:
        """Whether there is time."""
        return time.monotonic() < self.end


def forked(work: Callable[[int], None]) -> tuple[int, int]:
    """Run ``work(write_end)`` in a child process.

    Returns:
        ``(pid, read end of its pipe)``.
    """
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid:
        os.close(write_end)
        return pid, read_end
    code = 1
    try:
        os.close(read_end)
        work(write_end)
        code = 0
    except DeftError as error:
        os.write(write_end, f"error {error.exit_code} {error.message}\n".encode())
        code = error.exit_code
    finally:
        os._exit(code)


def drain(fd: int) -> str:
    """Everything that the child wrote."""
    parts = []
    while part := os.read(fd, 1 << 16):
        parts.append(part)
    os.close(fd)
    return b"".join(parts).decode()
