"""``deft_state.json``: a view of the log. It equals ``fold(log)`` byte for byte and can be deleted at any time."""

from __future__ import annotations

import json
import os

from deft_aoi.contract.errors import HardStop
from deft_aoi.record import log_event
from deft_aoi.record.log_event import GENESIS
from deft_aoi.record.log_file import LOG, STATE, StrPath, fsync_dir

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypeAlias

    from deft_aoi.record.log_event import Event

    State: TypeAlias = dict[str, Any]

IMPORTED = "imported_state"
ENDED = log_event.REASONS


def empty() -> State:
    """The fold of no events."""
    return {
        "schema_version": 1,
        "run_id": "",
        "seq": 0,
        "head": GENESIS,
        "updated": None,
        "status": "new",
        "plan_digest": None,
        "config": {},
        "current_iteration": "run",
        "iterations": {},
        "run": {"stages": {}},
        "open_error": None,
    }


def fold(events: list[Event]) -> State:
    """Fold a verified log into its view."""
    view = empty()
    for number, event in enumerate(events, start=1):
        head = events[number]["prev"] if number < len(events) else log_event.digest(log_event.encode(event))
        view = advance(view, event, head)
    return view


def advance(view: State, event: Event, head: str) -> State:
    """The view after one more event (``view`` may be changed).

    ``data["state"]`` joins the iteration's (or the run's) flat values; an ``ok`` event also notes its stage.
    """
    label, stage, status, data = event["iter"], event["stage"], event["status"], event["data"]
    view["seq"], view["head"], view["updated"] = event["seq"], head, event["ts"]
    if stage == "note":
        return view
    place = view["run"] if label == "run" else view["iterations"].setdefault(label, {"stages": {}})
    if status == "error":
        view["open_error"] = {"iter": label, "stage": stage, "seq": event["seq"], "summary": event["summary"]}
    elif view["open_error"] and (view["open_error"]["iter"], view["open_error"]["stage"]) == (label, stage):
        view["open_error"] = None
    if status == "ok":
        place.update(data.get("state") or {})
        place["stages"][stage] = {
            "seq": event["seq"],
            "ts": event["ts"],
            "status": status,
            "op_id": event["op_id"],
            "summary": event["summary"],
            "duration_sec": event["duration_sec"],
        }
        place["stage_completed"] = stage
    if label != "run":
        view["current_iteration"] = label
    if stage == "approve" and status == "ok":
        view["config"], view["plan_digest"] = data.get("config", {}), data.get("plan_digest")
        view["run_id"] = data.get("run_id", "")
    if stage == "loop_stop" and status == "ok":
        view["status"] = data.get("reason", "user_stop")
    elif not ended(view):
        view["status"] = "error" if view["open_error"] else "running"
    return view


def ended(view: State) -> bool:
    """Whether the loop has ended."""
    return view["status"] in ENDED


def snapshot_bytes(events: list[Event]) -> bytes:
    """What ``deft_state.json`` holds for this log."""
    return to_bytes(fold(events))


def to_bytes(view: State) -> bytes:
    """The view as a file."""
    return (json.dumps(view, sort_keys=True, indent=1, ensure_ascii=True, allow_nan=False) + "\n").encode("ascii")


def from_bytes(raw: bytes) -> State:
    """A view that :func:`to_bytes` wrote; its digest has been checked."""
    view: State = json.loads(raw)
    return view


def read_bytes(root: str) -> bytes:
    """``deft_state.json`` as it is; empty where there is none."""
    try:
        with open(os.path.join(root, STATE), "rb") as handle:
            return handle.read()
    except FileNotFoundError:
        return b""


def parse_snapshot(raw: bytes) -> State | None:
    """The view, when these bytes are one that this project wrote: it names the event that it ends with."""
    try:
        view = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    if not isinstance(view, dict):
        return None
    seq, head = view.get("seq"), view.get("head")
    own = isinstance(seq, int) and not isinstance(seq, bool) and seq >= 0 and isinstance(head, str) and len(head) == 64
    return view if own else None


def load_state(results_dir: StrPath) -> State:
    """The view of a run, folded from its verified log (never taken from the snapshot).

    Raises:
        HardStop: the log is missing, damaged, or shorter than the snapshot says.
    """
    from deft_aoi.record import log

    return fold(log.read(results_dir))


def read_imported_state(results_dir: StrPath) -> dict[str, Any] | None:
    """The state that an upstream phase left before this run had a log, or ``None``.

    It is ``deft_state.json`` until the first append, which moves it to ``run/imported_state.json``.

    Raises:
        HardStop: it is damaged, or it is a view of a log that is gone.
    """
    root = os.fspath(results_dir)
    for path in (os.path.join(root, "run", f"{IMPORTED}.json"), os.path.join(root, STATE)):
        if path.endswith(STATE) and os.path.exists(os.path.join(root, LOG)):
            return None
        try:
            with open(path, "rb") as handle:
                raw = handle.read()
        except FileNotFoundError:
            continue
        try:
            body = json.loads(raw)
        except (ValueError, RecursionError) as error:
            raise HardStop("the state that an upstream phase left is damaged", found=path, hint="repair or remove it") from error
        if parse_snapshot(raw) is not None:
            raise HardStop("a view of a run is here, but its record is gone", expected=os.path.join(root, LOG), found=path)
        return body if isinstance(body, dict) else None
    return None


def keep_imported_state(root: str) -> None:
    """Before the first event: a state without a log is moved to ``run/``, never overwritten."""
    source = os.path.join(root, STATE)
    if not os.path.lexists(source):
        return
    number = 1
    while os.path.lexists(target := os.path.join(root, "run", f"{IMPORTED}{'' if number == 1 else f'-{number}'}.json")):
        number += 1
    os.rename(source, target)
    fsync_dir(os.path.join(root, "run"))
    fsync_dir(root)
