"""Repairing a damaged record: for a person, who sees what is lost and types the digest of what stays.

The log is cut after its last whole line that follows the chain; the damaged file and the snapshot are kept in
``run/torn/``, and a note in the log says what happened. Nothing else in the project shortens a log.
"""

from __future__ import annotations

import os
import time
from typing import Any, NamedTuple

from deft_aoi.contract.errors import ApprovalNeeded, HardStop, UsageError
from deft_aoi.contract.files import fsync_dir, sha256_bytes
from deft_aoi.contract.text import printable
from deft_aoi.record import log, log_event, log_file, state
from deft_aoi.record.lock import DriverLock
from deft_aoi.record.log_file import LOG, STATE, StrPath


class Damage(NamedTuple):
    """What is wrong with a record.

    Attributes:
        problem: one line; empty when nothing is.
        kept_events: whole events at the beginning that follow the chain.
        kept_bytes: their bytes.
        head: digest of the last of them.
        lost_lines: complete lines behind them.
        known_events: acknowledged events that the snapshot lists.
    """

    problem: str
    kept_events: int
    kept_bytes: int
    head: str
    lost_lines: int
    known_events: int

    @property
    def code(self) -> str:
        """What a person types to accept the loss."""
        return self.head[-6:]

    def text(self) -> str:
        """The damage in words."""
        if not self.problem:
            return f"nothing to repair: {self.kept_events} events in an unbroken chain"
        lost = max(self.lost_lines, self.known_events - self.kept_events)
        return (
            f"damaged: {printable(self.problem, 200)}\n"
            f"  {self.kept_events} events stay ({self.kept_bytes} bytes, digest {self.head})\n"
            f"  {lost} acknowledged events behind them would be lost from the record; the files are kept in run/torn/\n"
            "  better: restore loop_log.jsonl from a backup"
        )


def assess(results_dir: StrPath) -> Damage:
    """Say what is damaged; reads only.

    Raises:
        UsageError: not a run's folder.
    """
    root = os.path.realpath(results_dir)
    try:
        with open(os.path.join(root, LOG), "rb") as handle:
            raw = handle.read()
    except FileNotFoundError as error:
        raise UsageError("this is not a run", expected=f"a folder with {LOG}", found=printable(root, 200)) from error
    own = state.parse_snapshot(state.read_bytes(root))
    known = own["seq"] if own else 0
    problem, count, size, head = "", 0, 0, log_event.GENESIS
    lines = raw[: raw.rfind(b"\n") + 1].split(b"\n")[:-1]
    for text in lines:
        whole = text + b"\n"
        try:
            log_event.decode(whole, count + 1, head)
        except HardStop as error:
            problem = f"{error.message}: {error.found}"
            break
        count, size, head = count + 1, size + len(whole), log_event.digest(whole)
    if not problem:
        try:
            log.read(root, look_again=False)
        except HardStop as error:
            problem = f"{error.message}: {error.found}"
    return Damage(problem, count, size, head, len(lines) - count, known)


def accept_loss(results_dir: StrPath, confirm: str) -> tuple[Damage, str]:
    """Cut the log after its last good line.

    Args:
        results_dir: the run's folder.
        confirm: last six characters of the digest that :func:`assess` names, typed by a person.

    Returns:
        What was damaged, and where the damaged log is kept (empty when nothing was).

    Raises:
        ApprovalNeeded: the code does not fit.
        RunLocked: a driver holds the run.
        HardStop: the damaged log cannot be kept aside; it stays as it is.
    """
    root = os.path.realpath(results_dir)
    with DriverLock(root, verify=False), log_file.LogFile(root) as opened:
        damage = assess(root)
        if not damage.problem:
            return damage, ""
        if confirm != damage.code:
            raise ApprovalNeeded(
                "the code does not fit what would stay",
                expected="the last six characters of the digest that repair_run.py shows",
                found=printable(confirm, 20),
                hint="a person runs repair_run.py --results-dir R, reads what is lost, and types the code",
            )
        raw = opened.read()
        kept = log_file.keep_copy(root, f"damaged-{LOG}", raw)
        if not kept:
            raise HardStop("the damaged log cannot be kept aside", found=os.path.join(root, "run", "torn"), hint="free space")
        fsync_dir(os.path.dirname(kept))
        if os.path.exists(snapshot := os.path.join(root, STATE)):
            os.rename(snapshot, f"{kept.removesuffix('.bin')}-{STATE}")
        fsync_dir(root)
        os.ftruncate(opened.fd, damage.kept_bytes)
        os.fsync(opened.fd)
    _note(root, damage, kept, raw)
    return damage, os.path.relpath(kept, root)


def _note(root: str, damage: Damage, kept: str, raw: bytes) -> None:
    data: dict[str, Any] = {
        "kept_as": os.path.relpath(kept, root),
        "sha256": sha256_bytes(raw),
        "kept_events": damage.kept_events,
        "lost_lines": damage.lost_lines,
        "known_events": damage.known_events,
    }
    log.append(
        root,
        iter_label="run",
        stage="note",
        status="ok",
        data=data,
        op_id=f"note/repair-{time.time_ns()}",
        duration_sec=0.0,
        summary=f"run log repaired: {damage.kept_events} events kept, {damage.lost_lines} lines moved to run/torn/",
    )
