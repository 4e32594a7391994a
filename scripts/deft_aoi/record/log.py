"""Appending to and reading ``loop_log.jsonl`` (DESIGN section 4).

Append: lock → recover a torn tail → catch up with the chain from the last verified line → repeated ``op_id`` → order of
stages → one write, fsync → snapshot → only then is the sequence number returned. A line that was acknowledged is never
lost; bytes after the last newline were never acknowledged, so they are set aside and cut off.

Two small caches make an append cost the same at any length: ``run/log.tip`` (offset, seq and digest of the last verified
line) and ``run/ops/`` (op_id → seq, in 256 shards). Both are checked against the log and made again when they do not fit.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import time
from typing import Any

from deft_aoi.contract.errors import Blocked, HardStop, RunLocked
from deft_aoi.record import line, state, transitions
from deft_aoi.record.line import GENESIS, Event

LOG = "loop_log.jsonl"
STATE = "deft_state.json"
LOCK_TIMEOUT_SEC = 30.0

StrPath = str | os.PathLike[str]


class Ack:
    """What an append returns: the event is durable.

    Attributes:
        seq: the event's number.
        duplicate: the same ``op_id`` and payload were there already.
        snapshot: ``ok``, or ``stale`` when the view could not be written (it is rebuilt by the next append).
    """

    def __init__(self, seq: int, duplicate: bool, snapshot: str) -> None:
        self.seq = seq
        self.duplicate = duplicate
        self.snapshot = snapshot


def append(
    results_dir: StrPath,
    *,
    iter_label: str,
    stage: str,
    status: str,
    summary: str,
    data: dict[str, Any] | None = None,
    op_id: str,
    duration_sec: float | None = None,
    context_tokens: int = 0,
) -> Ack:
    """Append one event.

    Args:
        results_dir: the run's folder.
        iter_label: ``run``, ``baseline`` or ``iterN``.
        stage: one of :data:`deft_aoi.record.line.STAGES`.
        status: ``ok``, ``error`` or ``started``.
        summary: one line, composed by code.
        data: state change (``data["state"]``) and evidence.
        op_id: idempotency key; repeating it with the same payload returns the old number.
        duration_sec: ``None``: measured from the previous event, and marked so.
        context_tokens: kept for readers of older logs.

    Raises:
        HardStop: damaged record, stage out of order, other payload under this ``op_id``, event too large.
        Blocked: no space left; the log is as it was.
        RunLocked: another writer held the log for 30 seconds.
    """
    event: Event = {
        "iter": iter_label, "stage": stage, "status": status, "summary": summary, "context_tokens": context_tokens,
        "data": dict(data or {}), "op_id": op_id,
    }  # fmt: skip
    root = os.fspath(results_dir)
    with _Locked(root) as fd:
        _recover(root, fd)
        tip = _catch_up(root, fd)
        known = _find_op(root, op_id)
        if known is not None:
            if known[1] != line.payload_digest(event):
                raise HardStop(
                    f"the op_id {op_id} is on record with another payload",
                    expected=f"event {known[0]} again",
                    hint="use a new --op-id",
                )
            return Ack(known[0], True, "ok")
        view = _view(root, fd, tip)
        transitions.check(view, iter_label, stage, status)
        now = time.time()
        if duration_sec is None:
            duration_sec = max(0.0, now - _epoch(view.get("updated"))) if tip["seq"] else 0.0
            event["data"][line.DURATION_MARK] = "previous_event"
        event |= {
            "seq": tip["seq"] + 1,
            "ts": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now * 1000) % 1000:03d}Z",
            "duration_sec": round(float(duration_sec), 3),
            "prev": tip["head"],
        }
        event["crc"] = line.crc_of(event)
        problem = line.check_event(event)
        if problem:
            raise HardStop("an event does not fit the log", found=problem, expected=f"fields {', '.join(line.FIELDS)}")
        raw = line.encode(event)
        if not tip["seq"] and os.path.exists(os.path.join(root, STATE)):
            _import_state(root)
        _write(root, fd, tip["offset"], raw, release=status == "error")
        tip = {"offset": tip["offset"] + len(raw), "seq": event["seq"], "head": line.digest(raw)}
        snapshot = "ok"
        try:
            state.write_snapshot(os.path.join(root, STATE), state.advance(view, event, tip["head"]))
            _note_op(root, event)
            _write_tip(root, tip)
        except (OSError, Blocked):
            snapshot = "stale"
        return Ack(event["seq"], False, snapshot)


def read(results_dir: StrPath) -> list[Event]:
    """Every event, verified from the first line; a torn tail is not part of the log.

    Raises:
        HardStop: the log is damaged, missing, or shorter than the snapshot says.
    """
    path = os.path.join(results_dir, LOG)
    try:
        with open(path, "rb") as handle:
            raw = handle.read()
    except FileNotFoundError as error:
        raise HardStop("the run record is missing", expected=path) from error
    events, _head = parse(raw)
    return events


def parse(raw: bytes) -> tuple[list[Event], str]:
    """Verify a whole log.

    Returns:
        ``(events, digest of the last line)``.
    """
    events: list[Event] = []
    prev = GENESIS
    for number, text in enumerate(raw[: raw.rfind(b"\n") + 1].splitlines(keepends=True), start=1):
        events.append(line.decode(text, number, prev))
        prev = line.digest(text)
    return events, prev


def head(results_dir: StrPath) -> tuple[int, str]:
    """``(seq, digest)`` of the last line."""
    events = read(results_dir)
    return (len(events), line.digest(line.encode(events[-1]))) if events else (0, GENESIS)


def verify_whole(results_dir: StrPath) -> int:
    """Verify everything and rebuild caches and snapshot: what a driver does when it opens a run.

    Returns:
        The number of events.

    Raises:
        HardStop: damaged, or shorter than the snapshot says.
    """
    root = os.fspath(results_dir)
    with _Locked(root) as fd:
        _recover(root, fd)
        for name in ("log.tip",):
            _unlink(os.path.join(root, "run", name))
        tip = _catch_up(root, fd)
        view = _view(root, fd, tip, rebuild=True)
        if tip["seq"]:
            state.write_snapshot(os.path.join(root, STATE), view)
        return int(tip["seq"])


# --- the pieces of an append ---------------------------------------------------------------------------------------


class _Locked:
    """The log opened for appending, under its lock; the lock file is never deleted."""

    def __init__(self, root: str) -> None:
        self.root = root
        self.lock = self.fd = -1

    def __enter__(self) -> int:
        folder = os.path.join(self.root, "run")
        os.makedirs(folder, exist_ok=True)
        self.lock = os.open(os.path.join(folder, "log.lock"), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
        end = time.monotonic() + LOCK_TIMEOUT_SEC
        delay = 0.0005
        while True:
            try:
                fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError as error:
                if error.errno not in (errno.EWOULDBLOCK, errno.EINTR) or time.monotonic() > end:
                    os.close(self.lock)
                    raise RunLocked("another writer holds the log", found=f"for {LOCK_TIMEOUT_SEC:g} seconds") from error
            time.sleep(delay)
            delay = min(delay * 2, 0.02)
        path = os.path.join(self.root, LOG)
        new = not os.path.exists(path)
        try:
            self.fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
            if new:
                _fsync_dir(self.root)
        except BaseException:
            self.__exit__()
            raise
        return self.fd

    def __exit__(self, *_: object) -> None:
        if self.fd >= 0:
            os.close(self.fd)
        os.close(self.lock)


def _recover(root: str, fd: int) -> None:
    """Set aside and cut off bytes after the last newline."""
    size = os.fstat(fd).st_size
    if size == 0 or os.pread(fd, 1, size - 1) == b"\n":
        return
    start, tail = size, b""
    while start > 0 and b"\n" not in tail:
        step = min(start, 1 << 16)
        start -= step
        tail = os.pread(fd, step, start) + tail
    keep = start + tail.rfind(b"\n") + 1
    torn = os.pread(fd, size - keep, keep)
    folder = os.path.join(root, "run", "torn")
    try:
        os.makedirs(folder, exist_ok=True)
        with open(os.path.join(folder, f"{keep:012d}-{time.time_ns()}.bin"), "wb") as handle:
            handle.write(torn)
    except OSError:
        pass  # a copy for the curious; the bytes were never acknowledged, and a full disk must not wedge the log
    os.ftruncate(fd, keep)
    os.fsync(fd)


def _catch_up(root: str, fd: int) -> dict[str, Any]:
    """Verify the lines after the last verified one and put them into the op index.

    Returns:
        The tip: ``offset`` (= the log's size), ``seq`` and ``head``.
    """
    size = os.fstat(fd).st_size
    tip = _read_tip(root, fd, size)
    if tip["offset"] == 0:
        _clear_ops(root)
    if tip["offset"] == size:
        return tip
    raw = _pread_all(fd, size - tip["offset"], tip["offset"])
    for text in raw.splitlines(keepends=True):
        event = line.decode(text, tip["seq"] + 1, tip["head"])
        _note_op(root, event)
        tip = {"offset": tip["offset"] + len(text), "seq": event["seq"], "head": line.digest(text)}
    _write_tip(root, tip)
    return tip


def _read_tip(root: str, fd: int, size: int) -> dict[str, Any]:
    start: dict[str, Any] = {"offset": 0, "seq": 0, "head": GENESIS}
    try:
        with open(os.path.join(root, "run", "log.tip"), encoding="ascii") as handle:
            tip = json.loads(handle.read())
        offset, seq, known = int(tip["offset"]), int(tip["seq"]), str(tip["head"])
    except (OSError, ValueError, KeyError, TypeError):
        return start
    if not 0 < offset <= size or seq < 1:
        return start
    begin = max(0, offset - line.MAX_LINE - 1)
    before = os.pread(fd, offset - begin, begin)
    last = before[before.rfind(b"\n", 0, len(before) - 1) + 1 :]
    return {"offset": offset, "seq": seq, "head": known} if line.digest(last) == known else start


def _write_tip(root: str, tip: dict[str, Any]) -> None:
    path = os.path.join(root, "run", "log.tip")
    with open(f"{path}.tmp", "w", encoding="ascii") as handle:
        handle.write(json.dumps(tip))
    os.replace(f"{path}.tmp", path)


def _shard(root: str, op_id: str) -> tuple[str, str]:
    key = hashlib.sha256(op_id.encode()).hexdigest()
    return os.path.join(root, "run", "ops", key[:2]), key


def _note_op(root: str, event: Event) -> None:
    path, key = _shard(root, event["op_id"])
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "a", encoding="ascii") as handle:
        handle.write(f"{key} {event['seq']} {line.payload_digest(event)}\n")


def _find_op(root: str, op_id: str) -> tuple[int, str] | None:
    path, key = _shard(root, op_id)
    try:
        with open(path, encoding="ascii") as handle:
            rows = handle.read().split("\n")[:-1]
    except (FileNotFoundError, UnicodeDecodeError):
        return None
    for row in rows:
        parts = row.split(" ")
        if len(parts) == 3 and parts[0] == key:
            return int(parts[1]), parts[2]
    return None


def _clear_ops(root: str) -> None:
    folder = os.path.join(root, "run", "ops")
    if os.path.isdir(folder):
        for name in os.listdir(folder):
            os.unlink(os.path.join(folder, name))


def _view(root: str, fd: int, tip: dict[str, Any], *, rebuild: bool = False) -> dict[str, Any]:
    """The fold up to the tip: the snapshot when it fits, else folded again from the log."""
    if not tip["seq"]:
        return state.empty()
    view = None if rebuild else _snapshot(root)
    if view is not None and view.get("seq") == tip["seq"] and view.get("head") == tip["head"]:
        return view
    known = _snapshot(root)
    if known is not None and isinstance(known.get("seq"), int) and known["seq"] > tip["seq"]:
        raise HardStop(
            "the run record is shorter than its snapshot says",
            expected=f"{known['seq']} events",
            found=f"{tip['seq']} events in {LOG}",
            hint="restore loop_log.jsonl, or let a person run repair_run.py --accept-loss",
        )
    events, _head = parse(_pread_all(fd, tip["offset"], 0))
    return state.fold(events)


def _snapshot(root: str) -> dict[str, Any] | None:
    try:
        with open(os.path.join(root, STATE), encoding="utf-8") as handle:
            view = json.loads(handle.read())
    except (OSError, ValueError):
        return None
    return view if isinstance(view, dict) else None


def _write(root: str, fd: int, offset: int, raw: bytes, *, release: bool) -> None:
    """One durable write, or the log as it was."""
    for attempt in (1, 2):
        try:
            view = memoryview(raw)
            while view:
                view = view[os.write(fd, view) :]
            os.fsync(fd)
            return
        except OSError as error:
            os.ftruncate(fd, offset)
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                if attempt == 1 and release and _unlink(os.path.join(root, "run", "reserve")):
                    continue  # the reserve exists for this: an error must be recordable on a full disk
                raise Blocked(
                    "no space left for the run record",
                    found=os.strerror(error.errno),
                    hint="free space and run the command again",
                ) from error
            raise HardStop(
                "the run record could not be written",
                found=os.strerror(error.errno or 0),
                hint="check the file system; the log is as it was",
            ) from error


def _import_state(root: str) -> None:
    """A state that arrived without a log (an upstream phase left it) is moved aside, never overwritten."""
    target = os.path.join(root, "run", "imported_state.json")
    if not os.path.exists(target):
        os.rename(os.path.join(root, STATE), target)


def _pread_all(fd: int, length: int, offset: int) -> bytes:
    parts, done = [], 0
    while done < length:
        part = os.pread(fd, min(length - done, 1 << 24), offset + done)
        if not part:
            break
        parts.append(part)
        done += len(part)
    return b"".join(parts)


def _unlink(path: str) -> bool:
    try:
        os.unlink(path)
        return True
    except FileNotFoundError:
        return False


def _fsync_dir(path: str) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _epoch(ts: Any) -> float:
    """Seconds since the epoch of our own time stamps; 0 when there is none."""
    if not isinstance(ts, str):
        return time.time()
    import calendar

    return calendar.timegm(time.strptime(ts[:19], "%Y-%m-%dT%H:%M:%S")) + float(ts[19:-1] or 0)
