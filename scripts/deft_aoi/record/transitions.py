"""The order of stages, enforced by the writer of the log: a stage out of order is refused, whoever asks."""

from __future__ import annotations

from typing import Any

from deft_aoi.contract.errors import HardStop

BEGIN = ("approve", "assets", "prestage")
BASELINE = ("train", "inference", "evaluate", "rca")
ITERATION = ("routing", "anomalygen", "data_mining", "dataset", *BASELINE)
ANY_TIME = ("usage", "report")
ENDED = ("kpi_met", "max_iterations", "pool_exhausted", "hard_stop", "job_failed", "user_stop")
STOP_AFTER = ("rca", "routing", "data_mining")


def next_stage(state: dict[str, Any]) -> tuple[str, str] | None:
    """The next stage by order alone; after ``rca`` that is the next iteration's routing (the loop may stop instead).

    Returns:
        ``(label, stage)``, or ``None`` once the loop has ended.
    """
    if state["status"] in ENDED:
        return None
    begun = state["run"]["stages"]
    for stage in BEGIN:
        if stage not in begun:
            return "run", stage
    label = state["current_iteration"]
    if label == "run":
        return "baseline", BASELINE[0]
    done = state["iterations"].get(label, {}).get("stages", {})
    for stage in BASELINE if label == "baseline" else ITERATION:
        if stage not in done:
            return label, stage
    number = 0 if label == "baseline" else int(label.removeprefix("iter"))
    return f"iter{number + 1}", ITERATION[0]


def allowed(state: dict[str, Any]) -> set[tuple[str, str]]:
    """Every ``(label, stage)`` that may be recorded now, notes aside."""
    out: set[tuple[str, str]] = set()
    if "approve" in state["run"]["stages"]:
        out |= {("run", stage) for stage in ANY_TIME}
        if any("evaluate" in it["stages"] for it in state["iterations"].values()):
            out.add(("run", "handoff"))
    if state["status"] in ENDED:
        return out
    following = next_stage(state)
    if following is not None:
        out.add(following)
    label = state["current_iteration"]
    last = state["iterations"].get(label, {}).get("stage_completed") if label != "run" else None
    if last in STOP_AFTER or state["open_error"]:
        out.add(("run", "loop_stop"))
    return out


def check(state: dict[str, Any], iter_label: str, stage: str, status: str) -> None:
    """Refuse what is out of order.

    Args:
        state: the fold of the log so far.
        iter_label: ``run``, ``baseline`` or ``iterN``.
        stage: the stage.
        status: ``ok``, ``error``, ``started``: all three only where ``ok`` is due.

    Raises:
        HardStop: names what is due instead.
    """
    if stage == "note" or (iter_label, stage) in allowed(state):
        return
    due = ", ".join(sorted(f"{label}/{name}" for label, name in allowed(state))) or "nothing: the run is complete"
    raise HardStop(
        f"{iter_label}/{stage} is out of order",
        expected=due,
        found=f"{iter_label}/{stage} ({status})",
        hint="next_stage.py says what comes next",
    )
