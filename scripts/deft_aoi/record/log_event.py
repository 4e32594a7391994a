"""One line of ``loop_log.jsonl``: what it holds, how it is spelled, how it is checked.

On the path of every append, so nothing heavier than ``json`` is imported: no jsonschema, dataclasses or pathlib. A test
proves that :func:`check_event` accepts exactly what ``schemas/log_event.schema.json`` accepts.
"""

from __future__ import annotations

import hashlib
import json
import re
import zlib
from typing import Any, TypeAlias

from deft_aoi.contract.errors import HardStop
from deft_aoi.contract.stages import END_REASONS, NAMES

Event: TypeAlias = dict[str, Any]

STATUSES = ("ok", "error", "started")
RESERVED = ("stages", "stage_completed")
"""Keys of an iteration in the view that only the fold sets; ``data["state"]`` may not hold them."""
MAX_LINE = 4096
MAX_SUMMARY = 400
GENESIS = "0" * 64
FIELDS = ("seq", "ts", "iter", "stage", "status", "summary", "duration_sec", "context_tokens", "data", "op_id", "prev", "crc")
DURATION_MARK = "duration_from"
"""Key in ``data`` that says that the duration was measured from the previous event; no part of the payload."""

_ITER = re.compile(r"run|baseline|iter[1-9][0-9]{0,5}")
_OP_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,127}")
_TS = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?Z")
_HEX64 = re.compile(r"[0-9a-f]{64}")
_HEX8 = re.compile(r"[0-9a-f]{8}")
# Control characters, line and paragraph separators, zero-width and bidirectional marks: never in a summary.
_UNSHOWABLE = re.compile("[\\x00-\\x1f\\x7f-\\x9f\\u2028-\\u202e\\u200b-\\u200f\\u2060-\\u2069\\ufeff]")


_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def spell(obj: Any) -> bytes:
    """The one spelling of a value: sorted keys, no spaces, ASCII."""
    return _ENCODER.encode(obj).encode("ascii")


def one_line_summary(text: str) -> str:
    """A summary as the log takes it: one line of at most 400 characters, without control or invisible characters."""
    shown = _UNSHOWABLE.sub(" ", text)
    return shown if len(shown) <= MAX_SUMMARY else shown[: MAX_SUMMARY - 1] + "…"


def plain(obj: Any) -> Any:
    """The value as it reads back from the log: lists for tuples, text for keys.

    Raises:
        HardStop: not JSON.
    """
    try:
        return json.loads(spell(obj))
    except (TypeError, ValueError, RecursionError) as error:
        raise HardStop("an event is not JSON", found=f"{type(error).__name__}: {str(error)[:120]}") from error


def crc_of(event: Event) -> str:
    """CRC-32 over the line without its ``crc``, 8 hex digits."""
    return f"{zlib.crc32(spell({k: v for k, v in event.items() if k != 'crc'})):08x}"


def encode(event: Event) -> bytes:
    """The event as its line, newline included.

    Raises:
        HardStop: longer than 4096 bytes.
    """
    raw = spell(event) + b"\n"
    if len(raw) > MAX_LINE:
        raise HardStop(
            "an event does not fit into one line of the log",
            expected=f"at most {MAX_LINE} bytes",
            found=f"{len(raw)} bytes",
            hint="put big things into a file and its path and digest into the event",
        )
    return raw


def digest(raw: bytes) -> str:
    """Hex SHA-256 of a line, newline included: the next line's ``prev``."""
    return hashlib.sha256(raw).hexdigest()


def payload_digest(event: Event) -> str:
    """What must be equal when an ``op_id`` is repeated: everything but sequence, time, duration and tokens."""
    body = {k: event[k] for k in ("iter", "stage", "status", "summary", "op_id")}
    body["data"] = {k: v for k, v in event["data"].items() if k != DURATION_MARK}
    return hashlib.sha256(spell(body)).hexdigest()


def check_event(event: Any) -> str:
    """Whether the object is an event of this log.

    Returns:
        Empty when it is, else what is wrong with it.
    """
    if not isinstance(event, dict) or set(event) != set(FIELDS):
        return "not an object with the fields of an event"
    checks = (
        ("seq", _whole(event["seq"], 1)),
        ("ts", _text(event["ts"], _TS)),
        ("iter", _text(event["iter"], _ITER)),
        ("stage", isinstance(event["stage"], str) and event["stage"] in NAMES),
        ("status", isinstance(event["status"], str) and event["status"] in STATUSES),
        ("summary", _summary(event["summary"])),
        ("duration_sec", _number(event["duration_sec"])),
        ("context_tokens", _whole(event["context_tokens"], 0)),
        ("data", isinstance(event["data"], dict) and _data(event["data"], event["stage"], event["status"])),
        ("op_id", _text(event["op_id"], _OP_ID)),
        ("prev", _text(event["prev"], _HEX64)),
        ("crc", _text(event["crc"], _HEX8)),
    )
    bad = [name for name, good in checks if not good]
    return f"bad {', '.join(bad)}" if bad else ""


def _summary(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= MAX_SUMMARY and _UNSHOWABLE.search(value) is None


def _data(data: Event, stage: Any, status: Any) -> bool:
    changes = data.get("state", {})
    if not isinstance(changes, dict) or any(key in changes for key in RESERVED):
        return False
    if stage == "loop_stop" and status == "ok":
        reason = data.get("reason")
        return isinstance(reason, str) and reason in END_REASONS
    if stage == "approve" and status == "ok":
        return isinstance(data.get("config", {}), dict) and isinstance(data.get("plan_digest", ""), str)
    return True


def _whole(value: Any, low: int) -> bool:
    # JSON Schema takes 1.0 for an integer; so do we, since JSON cannot tell them apart.
    whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
    return whole and not isinstance(value, bool) and value >= low


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < float("inf")


def _text(value: Any, pattern: re.Pattern[str]) -> bool:
    return isinstance(value, str) and pattern.fullmatch(value) is not None


def decode(raw: bytes, seq: int, prev: str) -> Event:
    """Read one complete line and check it against its place.

    Args:
        raw: the line, newline included.
        seq: the number that it must have.
        prev: digest of the line before it.

    Raises:
        HardStop: damaged. Nothing repairs it silently.
    """
    try:
        event = json.loads(raw)
        problem = check_event(event) if len(raw) <= MAX_LINE else f"longer than {MAX_LINE} bytes"
        if not problem and spell(event) + b"\n" != raw:
            problem = "not in canonical spelling"
    except (ValueError, RecursionError, OverflowError):
        event, problem = {}, "not JSON"
    if not problem:
        # The line is in its one spelling, so only context_tokens precedes the crc: no second spelling is needed.
        body = raw[:-1].replace(b'"crc":"' + event["crc"].encode() + b'",', b"", 1)
        if event["crc"] != f"{zlib.crc32(body):08x}":
            problem = "its checksum does not fit"
        elif event["seq"] != seq:
            problem = f"seq {event['seq']} where {seq} is due"
        elif event["prev"] != prev:
            problem = "it does not follow the line before it"
    if problem:
        raise HardStop(
            f"the run log is damaged at line {seq}",
            expected="an unbroken chain of events",
            found=problem,
            hint="restore loop_log.jsonl from a backup, or let a person run repair_run.py --accept-loss",
        )
    checked: Event = event
    return checked
