"""The order of stages, enforced by the writer of the log: a stage out of order is refused, whoever asks."""

from __future__ import annotations

from deft_aoi.contract.errors import HardStop
from deft_aoi.record import log_event, state

TYPE_CHECKING = False
if TYPE_CHECKING:
    from deft_aoi.record.log_event import Event
    from deft_aoi.record.state import State

BEGIN = ("approve", "assets", "prestage")
BASELINE = ("train", "inference", "evaluate", "rca")
ITERATION = ("routing", "anomalygen", "data_mining", "dataset", *BASELINE)
ANY_TIME = ("usage", "report")
ENDED = log_event.REASONS
STOP_AFTER = ("rca", "routing", "data_mining")


def next_stage(view: State) -> tuple[str, str] | None:
    """The next stage by order alone; after ``rca`` that is the next iteration's routing (the loop may stop instead).

    Returns:
        ``(label, stage)``, or ``None`` once the loop has ended.
    """
    if view["status"] in ENDED:
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
        out |= {("run", stage) for stage in ANY_TIME}
        if any("evaluate" in it["stages"] for it in view["iterations"].values()):
            out.add(("run", "handoff"))
    if view["status"] in ENDED:
        return out
    following = next_stage(view)
    if following is not None:
        out.add(following)
    label = view["current_iteration"]
    last = view["iterations"].get(label, {}).get("stage_completed") if label != "run" else None
    if last in STOP_AFTER or view["open_error"]:
        out.add(("run", "loop_stop"))
    return out


def check(state_or_events: State | list[Event], iter_label: str, stage: str, status: str) -> None:
    """Refuse what is out of order.

    Args:
        state_or_events: the fold of the log so far, or its events.
        iter_label: ``run``, ``baseline`` or ``iterN``.
        stage: the stage.
        status: ``ok``, ``error``, ``started``: all three only where ``ok`` is due.

    Raises:
        HardStop: names what is due instead.
    """
    view = state.fold(state_or_events) if isinstance(state_or_events, list) else state_or_events
    if stage == "note" or (iter_label, stage) in allowed(view):
        return
    due = ", ".join(sorted(f"{label}/{name}" for label, name in allowed(view))) or "nothing: the run is complete"
    raise HardStop(
        f"{iter_label}/{stage} is out of order",
        expected=due,
        found=f"{iter_label}/{stage} ({status})",
        hint="next_stage.py says what comes next",
    )
