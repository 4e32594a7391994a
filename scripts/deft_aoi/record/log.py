"""Appending to and reading ``loop_log.jsonl``.

Append: lock → read the whole log, verify its chain, compare it with the snapshot → move an incomplete last line away →
repeated ``op_id`` → order of stages → one write, fsync → snapshot → only then is the sequence number returned. A line that
was acknowledged is never lost; bytes after the last newline were never acknowledged. The cost is linear in the log.

On the path of ``log_stage.py``: no jsonschema, dataclasses or pathlib is imported here.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time
from typing import Any

from deft_aoi.contract.errors import HardStop
from deft_aoi.record import log_event, log_file
from deft_aoi.record import state as states
from deft_aoi.record.log_event import Event
from deft_aoi.record.log_file import LOG, STATE, LogFile, StrPath
from deft_aoi.record.state import State

READER_PATIENCE_SEC = 5.0


class Ack:
    """What an append returns: the event is durable.

    Attributes:
        seq: the event's number.
        duplicate: the same ``op_id`` and payload were there already.
        snapshot: ``ok``, or ``stale`` when the state could not be written (the next append writes it).
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
        stage: one of :data:`deft_aoi.contract.stages.NAMES`.
        status: ``ok``, ``error`` or ``started``.
        summary: one line, composed by code; control characters become spaces, and it is cut at 400 characters.
        data: state change (``data["state"]``) and evidence.
        op_id: idempotency key; repeating it with the same payload returns the old number. ``None``: the next attempt of
            this stage (``iter1/train/1``), or a random key for a note.
        duration_sec: ``None``: measured from the previous event, and marked so.
        context_tokens: 0; usage arrives later in a separate event.

    Raises:
        HardStop: damaged log, stage out of order, other payload under this ``op_id``, event too large.
        Blocked: no space left; the log is as it was.
        RunLocked: another process held the log for a minute.
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
        with LogFile(os.fspath(results_dir)) as log:
            return _Writer(log).append(event, op_id, duration_sec)
    except OSError as error:
        raise log_file.error_from_os(error, "writing the run log") from error


def verify_whole(results_dir: StrPath) -> int:
    """Verify the log and write snapshot and reserve: what a driver does when it opens a run.

    Returns:
        The number of events.

    Raises:
        HardStop: damaged, or shorter than its snapshot says.
    """
    try:
        with LogFile(os.fspath(results_dir)) as log:
            writer = _Writer(log)
            if writer.events:
                writer.refresh_snapshot()
            log_file.ensure_reserve(log.root)
            return len(writer.events)
    except OSError as error:
        raise log_file.error_from_os(error, "opening the run log") from error


def load_state(results_dir: StrPath) -> State:
    """The state of a run, folded from its verified log (never taken from the snapshot).

    Raises:
        HardStop: the log is missing, damaged, or shorter than the snapshot says.
    """
    return states.fold(read(results_dir))


def read(results_dir: StrPath, *, look_again: bool = True) -> list[Event]:
    """Every event, verified from the first line; an incomplete last line is not part of the log. Writes nothing.

    Args:
        results_dir: the run's folder.
        look_again: an incomplete last line that a writer replaces while we read looks like damage, so damage is looked at
            again while no writer is at work. False for the holder of the writers' lock.

    Raises:
        HardStop: the log is damaged, missing, or shorter than its snapshot says.
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


class LogReader:
    """The verified events and state of a run, read again only when the log has changed."""

    def __init__(self, results_dir: StrPath) -> None:
        self.root = os.fspath(results_dir)
        self._stamp: tuple[int, ...] = ()
        self._events: list[Event] = []
        self._state: State = {}

    def events(self) -> list[Event]:
        """See :func:`read`. Shared by all callers: not to be changed."""
        self._refresh()
        return self._events

    def state(self) -> State:
        """See :func:`load_state`. Shared by all callers: not to be changed."""
        self._refresh()
        return self._state

    def _refresh(self) -> None:
        try:
            found = os.stat(os.path.join(self.root, LOG))
        except FileNotFoundError:
            stamp: tuple[int, ...] = ()
        else:
            stamp = (found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino)
        if not stamp or stamp != self._stamp:
            self._events = read(self.root)
            self._state = states.fold(self._events)
            self._stamp = stamp


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


def parse(raw: bytes) -> tuple[list[Event], list[str]]:
    """Verify whole lines from the first one.

    Args:
        raw: the log; bytes after the last newline are left out.

    Returns:
        ``(events, digests)``: each event, and the digest of its line.

    Raises:
        HardStop: a complete line is damaged.
    """
    events: list[Event] = []
    digests, prev = [], log_event.GENESIS
    for text in raw[: raw.rfind(b"\n") + 1].split(b"\n")[:-1]:
        whole = text + b"\n"
        events.append(log_event.decode(whole, len(events) + 1, prev))
        prev = log_event.digest(whole)
        digests.append(prev)
    return events, digests


def _read(root: str) -> list[Event]:
    # The snapshot first: what it lists was durable before it was written, so a later look at the log holds it.
    snapshot = states.read_bytes(root)
    path = os.path.join(root, LOG)
    try:
        with open(path, "rb") as handle:
            raw = handle.read()
    except FileNotFoundError as error:
        raise HardStop("the run log is missing", expected=path) from error
    except OSError as error:
        raise log_file.error_from_os(error, "reading the run log") from error
    events, digests = parse(raw)
    check_snapshot_not_newer(snapshot, digests)
    return events


def check_snapshot_not_newer(snapshot: bytes, digests: list[str]) -> None:
    """Every event that was acknowledged is in the log; the snapshot was written after its last one was durable.

    Raises:
        HardStop: the log was cut, replaced or rewritten.
    """
    own = states.parse_snapshot(snapshot)
    if own is None or not own["seq"]:
        return
    seq, digest = own["seq"], own["head"]
    if seq > len(digests):
        problem = f"{len(digests)} events in {LOG}"
    elif digests[seq - 1] != digest:
        problem = f"another event {seq} in {LOG}"
    else:
        return
    raise HardStop(
        f"the run log lost events: {STATE} lists a later one",
        expected=f"event {seq} with digest {digest[:16]}",
        found=problem,
        hint="restore loop_log.jsonl from a backup, or let a person run repair_run.py",
    )


class _Writer:
    """The verified log and its state, under the lock."""

    def __init__(self, log: LogFile) -> None:
        self.log = log
        snapshot, raw = states.read_bytes(log.root), log.read()
        self.size = raw.rfind(b"\n") + 1
        self.events, digests = parse(raw)
        check_snapshot_not_newer(snapshot, digests)
        self.head = digests[-1] if digests else log_event.GENESIS
        self.state = states.fold(self.events)
        self.fresh = bool(self.events) and snapshot == states.to_bytes(self.state)
        log.cut_tail(self.size, raw[self.size :])

    def append(self, event: Event, op_id: str | None, duration_sec: float | None) -> Ack:
        known = {event["op_id"]: event for event in self.events}
        event["op_id"] = op_id if op_id is not None else _next_op_id(event, known)
        if event["op_id"] in known:
            return self._repeated(known[event["op_id"]], event)
        states.check_order(self.state, event["iter"], event["stage"], event["status"])
        raw = self._line(event, duration_sec)
        if not self.events:
            states.keep_imported_state(self.log.root)
        self.log.write(raw, self.size, release_reserve=event["status"] == "error")
        self.state = states.advance(self.state, event, log_event.digest(raw))
        self.fresh = False
        snapshot = self.refresh_snapshot()
        if event["seq"] == 1:
            log_file.ensure_reserve(self.log.root)
        return Ack(event["seq"], False, snapshot, event["op_id"])

    def _line(self, event: Event, duration_sec: float | None) -> bytes:
        now = time.time()
        if duration_sec is None:
            duration_sec = max(0.0, now - _epoch(self.state["updated"])) if self.events else 0.0
            event["data"][log_event.DURATION_MARK] = "previous_event"
        event |= {
            "seq": len(self.events) + 1,
            "ts": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now * 1000) % 1000:03d}Z",
            "duration_sec": round(float(duration_sec), 3),
            "prev": self.head,
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
                f"op_id {log_event.one_line_summary(event['op_id'])} was already used with different content",
                expected=f"event {known['seq']} again",
                hint="use a new --op-id",
            )
        # Its first writer may have been killed between write and fsync: this acknowledgement needs its own.
        os.fsync(self.log.fd)
        return Ack(known["seq"], True, self.refresh_snapshot(), known["op_id"])

    def refresh_snapshot(self) -> str:
        """Write the state where its file does not fit the log; a failure is a warning: the event is recorded."""
        if self.fresh:
            return "ok"
        try:
            log_file.replace_file(os.path.join(self.log.root, STATE), states.to_bytes(self.state))
        except OSError:
            return "stale"
        self.fresh = True
        return "ok"


def _next_op_id(event: Event, known: dict[str, Event]) -> str:
    """The key of the next attempt of this stage, or a random one for a note."""
    if event["stage"] == "note":
        return f"note/{os.urandom(8).hex()}"
    stem, attempt = f"{event['iter']}/{event['stage']}", 1
    while f"{stem}/{attempt}" in known or f"{stem}/{attempt}/error" in known:
        attempt += 1
    return f"{stem}/{attempt}" + {"ok": "", "error": "/error"}.get(event["status"], "/start")


def _epoch(ts: str) -> float:
    """Seconds since the epoch of one of our own time stamps (``time.strptime`` would import a calendar for it)."""
    year, month, day = int(ts[:4]), int(ts[5:7]), int(ts[8:10])
    year, month = (year, month - 3) if month > 2 else (year - 1, month + 9)
    days = 365 * year + year // 4 - year // 100 + year // 400 + (153 * month + 2) // 5 + day - 719469
    return days * 86400 + int(ts[11:13]) * 3600 + int(ts[14:16]) * 60 + float(ts[17:-1])
