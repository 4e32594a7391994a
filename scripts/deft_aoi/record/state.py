"""``deft_state.json``: a view of the log. It equals ``fold(log)`` byte for byte and can be deleted at any time."""

from __future__ import annotations

import json
import os
from typing import Any

from deft_aoi.contract.errors import HardStop
from deft_aoi.contract.files import atomic_write_bytes
from deft_aoi.record import line
from deft_aoi.record.line import GENESIS, Event

State = dict[str, Any]


def empty() -> State:
    """The fold of no events."""
    return {
        "schema_version": 1, "run_id": "", "seq": 0, "head": GENESIS, "updated": None, "status": "new", "plan_digest": None,
        "config": {}, "current_iteration": "run", "iterations": {}, "run": {"stages": {}}, "open_error": None,
    }  # fmt: skip


def fold(events: list[Event]) -> State:
    """Fold a verified log into its view."""
    view = empty()
    for event in events:
        view = advance(view, event, line.digest(line.encode(event)))
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
    elif status == "ok":
        place.update(data.get("state") or {})
        place["stages"][stage] = {
            "seq": event["seq"], "ts": event["ts"], "status": status, "op_id": event["op_id"], "summary": event["summary"],
            "duration_sec": event["duration_sec"],
        }  # fmt: skip
        place["stage_completed"] = stage
        error = view["open_error"]
        if error and error["iter"] == label and error["stage"] == stage:
            view["open_error"] = None
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


ENDED = ("kpi_met", "max_iterations", "pool_exhausted", "hard_stop", "job_failed", "user_stop")


def ended(view: State) -> bool:
    """Whether the loop has ended."""
    return view["status"] in ENDED


def snapshot_bytes(events: list[Event]) -> bytes:
    """What ``deft_state.json`` holds for this log."""
    return _bytes(fold(events))


def _bytes(view: State) -> bytes:
    return (json.dumps(view, sort_keys=True, indent=1, ensure_ascii=True) + "\n").encode("ascii")


def write_snapshot(path: str | os.PathLike[str], view: State) -> None:
    """Write the view atomically and durably."""
    atomic_write_bytes(path, _bytes(view))


def load_state(results_dir: str | os.PathLike[str]) -> State:
    """The view of a run, folded from its verified log (never read from the snapshot, which may be stale).

    Raises:
        HardStop: the log is missing, damaged, or shorter than the snapshot says.
    """
    from deft_aoi.record import log

    view = fold(log.read(results_dir))
    known = log._snapshot(os.fspath(results_dir))
    if known is not None and isinstance(known.get("seq"), int) and known["seq"] > view["seq"]:
        raise HardStop(
            "the run record is shorter than its snapshot says",
            expected=f"{known['seq']} events",
            found=f"{view['seq']} events",
            hint="restore loop_log.jsonl, or let a person run repair_run.py --accept-loss",
        )
    return view


def read_foreign_state(results_dir: str | os.PathLike[str]) -> dict[str, Any] | None:
    """A state that an upstream phase left before this run had a log (moved to ``run/imported_state.json``), or ``None``."""
    for name in (os.path.join("run", "imported_state.json"), "deft_state.json"):
        path = os.path.join(results_dir, name)
        if name == "deft_state.json" and os.path.exists(os.path.join(results_dir, "loop_log.jsonl")):
            return None
        try:
            with open(path, encoding="utf-8") as handle:
                body = json.load(handle)
        except FileNotFoundError:
            continue
        except ValueError as error:
            raise HardStop("the state that an upstream phase left is damaged", found=path) from error
        return body if isinstance(body, dict) else None
    return None
