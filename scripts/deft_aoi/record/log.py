"""Appending to and reading ``loop_log.jsonl``.

Append: lock → set a torn tail aside → verify the chain from the last verified line → repeated ``op_id`` → order of stages →
one write, fsync → snapshot → only then is the sequence number returned. A line that was acknowledged is never lost; bytes
after the last newline were never acknowledged. The cost does not grow with the log: see :mod:`deft_aoi.record.index`.

On the path of ``log_stage.py``: no jsonschema, dataclasses, pathlib or typing is imported here.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import time

from deft_aoi.contract.errors import HardStop
from deft_aoi.record import log_event, log_file, state
from deft_aoi.record.index import BrokenIndex, Index, Tip, line_before, read_header
from deft_aoi.record.log_file import LOG, STATE, LogFile, StrPath

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from deft_aoi.record.log_event import Event
    from deft_aoi.record.state import State


READER_PATIENCE_SEC = 5.0


class Ack:
    """What an append returns: the event is durable.

    Attributes:
        seq: the event's number.
        duplicate: the same ``op_id`` and payload were there already.
        snapshot: ``ok``, or ``stale`` when the view could not be written (the next append writes it).
        op_id: the event's key.
    """

    def __init__(self, seq: int, duplicate: bool, snapshot: str, op_id: str) -> None:
        self.seq = seq
        self.duplicate = duplicate
        self.snapshot = snapshot
        self.op_id = op_id


def append(
    results_dir: StrPath,
    *,
    iter_label: str,
    stage: str,
    status: str,
    summary: str,
    data: dict[str, Any] | None = None,
    op_id: str | None = None,
    duration_sec: float | None = None,
    context_tokens: int = 0,
) -> Ack:
    """Append one event.

    Args:
        results_dir: the run's folder.
        iter_label: ``run``, ``baseline`` or ``iterN``.
        stage: one of :data:`deft_aoi.record.log_event.STAGES`.
        status: ``ok``, ``error`` or ``started``.
        summary: one line, composed by code; control characters become spaces, and it is cut at 400 characters.
        data: state change (``data["state"]``) and evidence.
        op_id: idempotency key; repeating it with the same payload returns the old number. ``None``: the next attempt of
            this stage (``iter1/train/1``), or a random key for a note.
        duration_sec: ``None``: measured from the previous event, and marked so.
        context_tokens: 0; usage arrives later as an event of its own.

    Returns:
        The acknowledgement; when it is returned the event is on disk.

    Raises:
        HardStop: damaged record, stage out of order, other payload under this ``op_id``, event too large.
        Blocked: no space left; the log is as it was.
        RunLocked: another writer held the log for a minute.
    """
    event: Event = {
        "iter": iter_label,
        "stage": stage,
        "status": status,
        "summary": log_event.one_line_summary(summary),
        "context_tokens": context_tokens,
        "data": log_event.plain(data or {}),
    }
    try:
        with LogFile(os.fspath(results_dir)) as log, Index(log) as index:
            return _Writer(log, index).append(event, op_id, duration_sec)
    except OSError as error:
        raise log_file.error_from_os(error, "writing the run record") from error


def verify_whole(results_dir: StrPath) -> int:
    """Verify everything and rebuild index, snapshot and reserve: what a driver does when it opens a run.

    Returns:
        The number of events.

    Raises:
        HardStop: damaged, or shorter than its snapshot or index says.
    """
    try:
        with LogFile(os.fspath(results_dir)) as log, Index(log) as index:
            writer = _Writer(log, index, whole=True)
            if writer.tip.seq:
                writer.refresh_snapshot()
            log_file.ensure_reserve(log.root)
            return writer.tip.seq
    except OSError as error:
        raise log_file.error_from_os(error, "opening the run record") from error


def load_state(results_dir: StrPath) -> State:
    """The state of a run, folded from its verified log (never taken from the snapshot).

    Raises:
        HardStop: the log is missing, damaged, or shorter than the snapshot says.
    """
    return state.fold(read(results_dir))


def read(results_dir: StrPath, *, look_again: bool = True) -> list[Event]:
    """Every event, verified from the first line; a torn tail is not part of the log. Writes nothing.

    Args:
        results_dir: the run's folder.
        look_again: a torn tail that a writer replaces while we read looks like damage, so damage is looked at again while
            no writer is at work. False for who holds the writers' lock.

    Raises:
        HardStop: the log is damaged, missing, or shorter than its snapshot or index says.
    """
    root = os.fspath(results_dir)
    try:
        return _read(root)
    except HardStop:
        fd = wait_for_writers(root) if look_again else -1
        if fd < 0:
            raise
        try:
            return _read(root)
        finally:
            os.close(fd)


def wait_for_writers(root: str) -> int:
    """Wait until no writer is at work; -1 where that cannot be seen or takes too long."""
    try:
        fd = os.open(os.path.join(root, "run", "log.lock"), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return -1
    end = time.monotonic() + READER_PATIENCE_SEC
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return fd
        except OSError as error:
            if error.errno != errno.EWOULDBLOCK or time.monotonic() > end:
                os.close(fd)
                return -1
        time.sleep(0.002)


def parse(raw: bytes) -> tuple[list[Event], list[str], list[int]]:
    """Verify whole lines from the first one.

    Args:
        raw: the log; bytes after the last newline are left out.

    Returns:
        ``(events, digests, offsets)``: each event, the digest of its line, and where its line begins.

    Raises:
        HardStop: a complete line is damaged.
    """
    events: list[Event] = []
    digests, offsets, prev, at = [], [], log_event.GENESIS, 0
    for text in raw[: raw.rfind(b"\n") + 1].split(b"\n")[:-1]:
        whole = text + b"\n"
        events.append(log_event.decode(whole, len(events) + 1, prev))
        prev = log_event.digest(whole)
        digests.append(prev)
        offsets.append(at)
        at += len(whole)
    return events, digests, offsets


def _read(root: str) -> list[Event]:
    # The witnesses first: what they name was durable before they were written, so a later look at the log holds it.
    known, raw_view = read_header(root), state.read_bytes(root)
    path = os.path.join(root, LOG)
    try:
        with open(path, "rb") as handle:
            raw = handle.read()
    except FileNotFoundError as error:
        raise HardStop("the run record is missing", expected=path) from error
    except OSError as error:
        raise log_file.error_from_os(error, "reading the run record") from error
    events, digests, _offsets = parse(raw)
    if known is not None:
        check_not_truncated("index", known[0].seq, known[0].head, digests)
    check_snapshot_not_newer(raw_view, digests)
    return events


def check_not_truncated(what: str, seq: int, digest: str, digests: list[str]) -> None:
    """Events that were acknowledged must be in the log.

    Raises:
        HardStop: the log was cut, replaced or rewritten.
    """
    if seq > len(digests):
        problem = f"{len(digests)} events in {LOG}"
    elif seq and digests[seq - 1] != digest:
        problem = f"another event {seq} in {LOG}"
    else:
        return
    raise HardStop(
        f"the run record has lost events: its {what} knows more",
        expected=f"event {seq} with digest {digest[:16]}",
        found=problem,
        hint="restore loop_log.jsonl from a backup, or let a person run repair_run.py",
    )


def check_snapshot_not_newer(raw: bytes, digests: list[str]) -> None:
    own = state.parse_snapshot(raw)
    if own is not None:
        check_not_truncated("snapshot", own["seq"], own["head"], digests)


class _Writer:
    """The log, its view and its index under the lock, caught up with what is on disk."""

    def __init__(self, log: LogFile, index: Index, *, whole: bool = False) -> None:
        self.log, self.index = log, index
        self.events: list[Event] | None = None
        keep = log.whole_bytes()
        if index.tip.offset > keep:
            check_not_truncated("index", index.tip.seq, index.tip.head, parse(log.pread(keep, 0))[1])
        raw_view = state.read_bytes(log.root)
        if whole or not self._catch_up(keep, raw_view):
            self._read_whole(keep, raw_view)
        log.cut_tail(keep)

    def _catch_up(self, keep: int, raw_view: bytes) -> bool:
        """Verify the lines behind the last verified one; false where the caches do not fit the log."""
        tip, index = self.index.tip, self.index
        if not index.usable or hashlib.sha256(raw_view).hexdigest() != index.snapshot:
            return False
        if log_event.digest(line_before(self.log, tip.offset)) != tip.head:
            return False
        self.view, self.fresh = state.from_bytes(raw_view), True
        try:
            for text in self.log.pread(keep - tip.offset, tip.offset).split(b"\n")[:-1]:
                whole = text + b"\n"
                event = log_event.decode(whole, tip.seq + 1, tip.head)
                index.note(event["op_id"], tip.offset)
                tip = Tip(tip.offset + len(whole), event["seq"], log_event.digest(whole))
                self.view, self.fresh = state.advance(self.view, event, tip.head), False
        except BrokenIndex:
            return False
        self.tip = tip
        return True

    def _read_whole(self, keep: int, raw_view: bytes) -> None:
        """Verify the whole log, judge it by its witnesses, fold it, and make the index again."""
        events, digests, offsets = parse(self.log.pread(keep, 0))
        check_not_truncated("index", self.index.tip.seq, self.index.tip.head, digests)
        check_snapshot_not_newer(raw_view, digests)
        self.events = events
        self.tip = Tip(keep, len(events), digests[-1]) if events else Tip()
        self.view = state.fold(events)
        self.fresh = bool(events) and raw_view == state.to_bytes(self.view)
        self.index.rebuild([(e["op_id"], at) for e, at in zip(events, offsets, strict=True)], self.tip)
        if self.fresh:
            self.index.save(self.tip, hashlib.sha256(raw_view).hexdigest())

    def find(self, op_id: str) -> Event | None:
        """The event on record under this key."""
        if self.index.usable:
            try:
                return self.index.find(op_id)
            except BrokenIndex:
                self._read_whole(self.tip.offset, state.read_bytes(self.log.root))
        if self.events is None:
            self.events = parse(self.log.pread(self.tip.offset, 0))[0]
        return next((event for event in self.events if event["op_id"] == op_id), None)

    def next_op_id(self, event: Event) -> str:
        """The key of the next attempt of this stage, or a random one for a note."""
        if event["stage"] == "note":
            return f"note/{os.urandom(8).hex()}"
        stem, attempt = f"{event['iter']}/{event['stage']}", 1
        while self.find(f"{stem}/{attempt}") is not None or self.find(f"{stem}/{attempt}/error") is not None:
            attempt += 1
        return f"{stem}/{attempt}" + {"ok": "", "error": "/error"}.get(event["status"], "/start")

    def append(self, event: Event, op_id: str | None, duration_sec: float | None) -> Ack:
        event["op_id"] = op_id if op_id is not None else self.next_op_id(event)
        known = self.find(event["op_id"])
        if known is not None:
            return self._repeated(known, event)
        state.check_order(self.view, event["iter"], event["stage"], event["status"])
        raw = self._line(event, duration_sec)
        if not self.tip.seq:
            state.keep_imported_state(self.log.root)
        self.log.write(raw, self.tip.offset, release_reserve=event["status"] == "error")
        begin = self.tip.offset
        self.tip = Tip(begin + len(raw), event["seq"], log_event.digest(raw))
        self.view = state.advance(self.view, event, self.tip.head)
        try:
            self.index.note(event["op_id"], begin)
        except BrokenIndex:
            self.index.usable = False
        snapshot = self.refresh_snapshot(force=True)
        if event["seq"] == 1:
            log_file.ensure_reserve(self.log.root)
        return Ack(event["seq"], False, snapshot, event["op_id"])

    def _line(self, event: Event, duration_sec: float | None) -> bytes:
        now = time.time()
        if duration_sec is None:
            duration_sec = max(0.0, now - _epoch(self.view["updated"])) if self.tip.seq else 0.0
            event["data"][log_event.DURATION_MARK] = "previous_event"
        event |= {
            "seq": self.tip.seq + 1,
            "ts": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now * 1000) % 1000:03d}Z",
            "duration_sec": round(float(duration_sec), 3),
            "prev": self.tip.head,
            "crc": "00000000",
        }
        problem = log_event.check_event(event)
        if problem:
            raise HardStop("an event does not fit the log", found=problem, expected="the fields of log_event.schema.json")
        event["crc"] = log_event.crc_of(event)
        return log_event.encode(event)

    def _repeated(self, known: Event, event: Event) -> Ack:
        if log_event.payload_digest(known) != log_event.payload_digest(event):
            raise HardStop(
                f"the op_id {log_event.one_line_summary(event['op_id'])} is on record with another payload",
                expected=f"event {known['seq']} again",
                hint="use a new --op-id",
            )
        # Its first writer may have been killed between write and fsync: this acknowledgement needs its own.
        os.fsync(self.log.fd)
        return Ack(known["seq"], True, self.refresh_snapshot(), known["op_id"])

    def refresh_snapshot(self, *, force: bool = False) -> str:
        """Write the view and the index header where they do not fit the log; a failure is a warning: the event stands."""
        raw = state.to_bytes(self.view)
        if self.fresh and not force:
            return "ok"
        try:
            log_file.replace_file(os.path.join(self.log.root, STATE), raw)
            self.fresh = True
        except OSError:
            self.index.save(self.tip, "")
            return "stale"
        self.index.save(self.tip, hashlib.sha256(raw).hexdigest())
        return "ok"


def _epoch(ts: str) -> float:
    """Seconds since the epoch of one of our own time stamps (``time.strptime`` would import a calendar for it)."""
    year, month, day = int(ts[:4]), int(ts[5:7]), int(ts[8:10])
    year, month = (year, month - 3) if month > 2 else (year - 1, month + 9)
    days = 365 * year + year // 4 - year // 100 + year // 400 + (153 * month + 2) // 5 + day - 719469
    return days * 86400 + int(ts[11:13]) * 3600 + int(ts[14:16]) * 60 + float(ts[17:-1])
