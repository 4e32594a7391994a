"""The state folded from the log, and which stage may follow.

``deft_state.json`` equals ``fold(log)`` byte for byte and can be deleted at any time. A stage out of order is refused by the
writer of the log, whoever asks.
"""

from __future__ import annotations

import json
import os
from typing import Any, TypeAlias

from deft_aoi.contract.errors import HardStop
from deft_aoi.contract.stages import BY_NAME, END_REASONS, STAGES, stages_between
from deft_aoi.record import log_event
from deft_aoi.record.log_event import GENESIS, Event
from deft_aoi.record.log_file import LOG, STATE, StrPath, fsync_dir

State: TypeAlias = dict[str, Any]

IMPORTED = "imported_state"
BEGIN = stages_between("", "prestage")
BASELINE = stages_between("prestage", "rca")
ITERATION = stages_between("rca", "rca")


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
    return view["status"] in END_REASONS


def shown_verdict(view: State, label: str) -> str:
    """The verdict of an iteration: the hand-over's where it is the model handed over, else its KPI set's."""
    run = view.get("run", {})
    if run.get("best_iteration") == label and run.get("verdict"):
        return str(run["verdict"])
    return str(view["iterations"][label].get("verdict") or "")


def snapshot_bytes(events: list[Event]) -> bytes:
    """What ``deft_state.json`` holds for this log."""
    return to_bytes(fold(events))


def to_bytes(view: State) -> bytes:
    """The view as a file."""
    return (json.dumps(view, sort_keys=True, indent=1, ensure_ascii=True, allow_nan=False) + "\n").encode("ascii")


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
            raise HardStop("the imported state is damaged", found=path, hint="repair or remove it") from error
        if parse_snapshot(raw) is not None:
            raise HardStop(
                "deft_state.json is that of a run, but the run log is missing", expected=os.path.join(root, LOG), found=path
            )
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


def next_stage(view: State) -> tuple[str, str] | None:
    """The next stage by order alone; after ``rca`` that is the next iteration's routing (the loop may stop instead).

    Returns:
        ``(label, stage)``, or ``None`` once the loop has ended.
    """
    if view["status"] in END_REASONS:
        return None
    begun = view["run"]["stages"]
    for stage in BEGIN:
        if stage not in begun:
            return "run", stage
    label = view["current_iteration"]
    if label == "run":
        return "baseline", BASELINE[0]
    done = view["iterations"].get(label, {}).get("stages", {})
    for stage in BASELINE if label == "baseline" else ITERATION:
        if stage not in done:
            return label, stage
    number = 0 if label == "baseline" else int(label.removeprefix("iter"))
    return f"iter{number + 1}", ITERATION[0]


def allowed(view: State) -> set[tuple[str, str]]:
    """Every ``(label, stage)`` that may be recorded now, notes aside."""
    out: set[tuple[str, str]] = set()
    if "approve" in view["run"]["stages"]:
        out |= {("run", spec.name) for spec in STAGES if spec.any_time}
        if any("evaluate" in it["stages"] for it in view["iterations"].values()):
            out.add(("run", "handoff"))
    if view["status"] in END_REASONS:
        return out
    following = next_stage(view)
    if following is not None:
        out.add(following)
    label = view["current_iteration"]
    last = view["iterations"].get(label, {}).get("stage_completed") if label != "run" else None
    if (last and BY_NAME[last].may_stop) or view["open_error"]:
        out.add(("run", "loop_stop"))
    return out


def check_order(state_or_events: State | list[Event], iter_label: str, stage: str, status: str) -> None:
    """Refuse what is out of order.

    Args:
        state_or_events: the fold of the log so far, or its events.
        iter_label: ``run``, ``baseline`` or ``iterN``.
        stage: the stage.
        status: ``ok``, ``error``, ``started``: all three only where ``ok`` is due.

    Raises:
        HardStop: names what is due instead.
    """
    view = fold(state_or_events) if isinstance(state_or_events, list) else state_or_events
    if stage == "note" or (iter_label, stage) in allowed(view):
        return
    due = ", ".join(sorted(f"{label}/{name}" for label, name in allowed(view))) or "nothing: the run is complete"
    raise HardStop(
        f"{iter_label}/{stage} is out of order",
        expected=due,
        found=f"{iter_label}/{stage} ({status})",
        hint="next_stage.py says what comes next",
    )
