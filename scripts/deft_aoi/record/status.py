"""A run at a glance: its view and the end of its log, in a few lines."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from deft_aoi.contract.errors import UsageError
from deft_aoi.contract.stages import END_REASONS
from deft_aoi.contract.text import printable
from deft_aoi.record import driver_exit, lock, log, state
from deft_aoi.record.log_file import LOG, StrPath

if TYPE_CHECKING:
    from deft_aoi.record.log_event import Event

LAST_EVENTS = 3
LAST_ITERATIONS = 6
"""Iterations that are shown; earlier ones are counted."""


def run_status(results_dir: StrPath) -> tuple[str, dict[str, Any]]:
    """Say where a run stands. Reads only.

    Returns:
        ``(text, data)``: at most 15 lines, and the same for ``--json``.

    Raises:
        UsageError: not a run's folder.
        HardStop: the record is damaged.
    """
    root = os.path.realpath(os.path.expanduser(results_dir))
    if not os.path.isfile(os.path.join(root, LOG)):
        raise UsageError("this is not a run", expected=f"a folder with {LOG}", found=printable(root, 200))
    events = log.read(root)
    view = state.fold(events)
    held = lock.holder(root)
    running = _running(events)
    lines = [
        f"run {printable(os.path.basename(root))}: {view['status']}, {view['seq']} events, last {view['updated'] or 'never'}",
        *_iterations(view),
    ]
    if running is not None:
        lines.append(f"  running: {running['iter']} {running['stage']} since {running['ts']}")
    elif (following := state.next_stage(view)) is not None:
        lines.append(f"  next in order: {following[0]} {following[1]}")
    if view["open_error"]:
        lines.append(f"  error: {printable(view['open_error']['summary'], 200)}")
    last = driver_exit.last_driver(root)
    lines.append(f"  driver: {held}" if held else f"  driver: none{_last_end(last)}")
    lines += [f"  {event_line(event)}" for event in events[-LAST_EVENTS:]]
    data = {
        "status": view["status"],
        "seq": view["seq"],
        "head": view["head"],
        "updated": view["updated"],
        "current_iteration": view["current_iteration"],
        "iterations": view["iterations"],
        "open_error": view["open_error"],
        "in_flight": {k: running[k] for k in ("iter", "stage", "ts")} if running else None,
        "driver": held,
        "last_driver": None if held or last is None else {"exit_code": last.exit_code, "error": last.error},
    }
    return "\n".join(lines), data


def _last_end(last: driver_exit.LastDriver | None) -> str:
    if last is None:
        return ""
    if last.exit_code is None:
        return "; the last one ended without an exit code: it was killed or its host restarted"
    error = f": {printable(last.error.get('message', ''), 160)}" if last.error else ""
    return f"; the last one ended with exit {last.exit_code}{error}"


def event_line(event: Event) -> str:
    """One event as one line."""
    return f"{event['seq']:>4} {event['iter']} {event['stage']} {event['status']}: {printable(event['summary'], 200)}"


def finished(results_dir: StrPath) -> bool:
    """Whether the loop has ended and its report is on record."""
    view = log.load_state(os.path.realpath(os.path.expanduser(results_dir)))
    return view["status"] in END_REASONS and "report" in view["run"]["stages"]


def is_over(view: dict[str, Any]) -> bool:
    """Whether a run asks for no driver any more; one that a hard stop ended is over, with its report or without."""
    return view["status"] in END_REASONS and ("report" in view["run"]["stages"] or view["status"] == "hard_stop")


def _running(events: list[Event]) -> Event | None:
    """The stage that was started and has not ended."""
    for event in reversed(events):
        if event["stage"] not in ("note", "usage"):
            return event if event["status"] == "started" else None
    return None


def _iterations(view: dict[str, Any]) -> list[str]:
    # Insertion order is lost where the view was read from a file; the labels' own order is not.
    def number(label: str) -> int:
        return 0 if label == "baseline" else int(label.removeprefix("iter"))

    labels = sorted(view["iterations"], key=number)
    lines = [f"  {len(labels) - LAST_ITERATIONS} earlier iterations"] if len(labels) > LAST_ITERATIONS else []
    for label in labels[-LAST_ITERATIONS:]:
        it = view["iterations"][label]
        done = f"  {label}: {it.get('stage_completed', 'begun')}"
        far, recall = it.get("far_fraction"), it.get("recall_fraction")
        if isinstance(far, (int, float)) and isinstance(recall, (int, float)):
            done += f", FAR {100 * far:.3g}% at recall {100 * recall:.4g}%: {printable(state.shown_verdict(view, label), 60)}"
        lines.append(done)
    return lines
