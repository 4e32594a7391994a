"""Each byte cut and each byte flipped of a short log, with and without the caches that witness what was acknowledged."""

from __future__ import annotations

import shutil
from pathlib import Path

from rig import Budget, Row, judge, new_run, note

from deft_aoi.contract.errors import HardStop
from deft_aoi.record import log

TAILS = (b"", b"\0" * 64, b"\xff{}[]garbage")


def _made(base: Path) -> tuple[Path, bytes, list[dict[str, object]]]:
    folder = new_run(base)
    note(folder, "note/last")
    return folder, (folder / "loop_log.jsonl").read_bytes(), log.read(folder)


def _bare(folder: Path, raw: bytes) -> Path:
    """The log alone, without its witnesses."""
    bare = folder.parent / f"{folder.name}-bare"
    shutil.rmtree(bare, ignore_errors=True)
    bare.mkdir()
    (bare / "loop_log.jsonl").write_bytes(raw)
    return bare


def _events(folder: Path) -> list[dict[str, object]] | None:
    """The events, or ``None`` when the log is refused."""
    try:
        return log.read(folder, look_again=False)
    except HardStop:
        return None


def flips(base: Path, budget: Budget, *, step: int = 1, bits: tuple[int, ...] = tuple(range(8))) -> Row:
    """Every flipped bit is refused, or at most the last line counts as torn; never read as something else."""
    folder, raw, events = _made(base / "flip")
    wanted = len(range(0, len(raw), step)) * len(bits)
    row = Row("each byte flipped", {"flips": 0, "refused": 0}, {"flips": wanted, "refused": wanted})
    path, bare = folder / "loop_log.jsonl", _bare(folder, raw) / "loop_log.jsonl"
    for at in range(0, len(raw), step):
        for bit in bits:
            if not budget.left():
                return row
            damaged = raw[:at] + bytes([raw[at] ^ (1 << bit)]) + raw[at + 1 :]
            path.write_bytes(damaged)
            bare.write_bytes(damaged)
            row.counts["flips"] += 1
            row.counts["refused"] += _events(folder) is None
            found = _events(bare.parent)
            torn = at == len(raw) - 1 and found == events[:-1]
            if found is not None and not torn:
                row.problems.append(f"byte {at} bit {bit} was misread")
    return row


def cuts(base: Path, budget: Budget, *, step: int = 1) -> Row:
    """Every cut is refused where the loss is known, else recovered to whole lines, and the log goes on."""
    folder, raw, events = _made(base / "cut")
    wanted = len(range(0, len(raw), step)) * len(TAILS)
    row = Row("each byte cut", {"cuts": 0, "recovered": 0}, {"cuts": wanted, "recovered": wanted})
    ends = [n + 1 for n, byte in enumerate(raw) if byte == 10]
    for at in range(0, len(raw), step):
        for tail in TAILS:
            if not budget.left():
                return row
            row.counts["cuts"] += 1
            (folder / "loop_log.jsonl").write_bytes(raw[:at] + tail)
            if _events(folder) is not None:
                row.problems.append(f"cut {at}: lost events were not noticed")
            bare = _bare(folder, raw[:at] + tail)
            whole = sum(end <= at for end in ends)
            if _events(bare) != events[:whole]:
                row.problems.append(f"cut {at}: misread")
            key = "note/next" if whole else "run/approve/1"
            try:
                ack = note(bare, key)
            except HardStop as error:
                row.problems.append(f"cut {at}: {error}")
                continue
            row.problems += judge(bare, {key: ack.seq}, repair_view=False)
            row.counts["recovered"] += ack.seq == whole + 1
    return row
