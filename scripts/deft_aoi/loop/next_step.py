"""What comes next, from the record alone: the same answer for a driver, a person and an agent after compaction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from deft_aoi.contract.paths import iteration_label
from deft_aoi.contract.stages import END_REASONS
from deft_aoi.loop.config import RunConfig
from deft_aoi.record.state import next_stage


@dataclass(frozen=True)
class Step:
    """The next stage.

    Attributes:
        label: ``run``, ``baseline`` or ``iterN``; empty when the run is complete.
        stage: the stage; empty when the run is complete.
        why: one line.
        reason: for ``loop_stop``: why the loop ends.
    """

    label: str
    stage: str
    why: str
    reason: str = ""

    @property
    def done(self) -> bool:
        """Whether nothing is left to do."""
        return not self.stage


def next_step(state: dict[str, Any], config: RunConfig) -> Step:
    """Decide the next stage.

    Args:
        state: the fold of the record.
        config: the run's configuration.
    """
    if state.get("status") in END_REASONS:
        return _after_stop(state)
    label = str(state.get("current_iteration") or "run")
    it = state.get("iterations", {}).get(label, {})
    if it.get("stage_completed") == "rca":
        return _after_rca(label, it, config)
    if label.startswith("iter") and it.get("stage_completed") == "routing" and it.get("targets") == 0:
        return Step("run", "loop_stop", f"{label}: no weak sample is left to mine for", "pool_exhausted")
    if it.get("stage_completed") == "data_mining" and it.get("mined_rows") == 0:
        return Step("run", "loop_stop", f"{label}: mining found no new row", "pool_exhausted")
    found = next_stage(state)
    if found is None:
        return Step("", "", "the run is complete")
    after = it.get("stage_completed") or "approval"
    return Step(found[0], found[1], f"comes after {label} {after}")


def _after_rca(label: str, it: dict[str, Any], config: RunConfig) -> Step:
    number = 0 if label == "baseline" else int(label.removeprefix("iter"))
    met = it.get("kpi_met") and it.get("promoted", True)
    holds = it.get("cross_validated", True) or config.values.get("stop_rule") == "point"
    if met and holds:
        return Step("run", "loop_stop", f"{label} meets {_goal(config)}: {it.get('verdict')}", "kpi_met")
    if number >= config.max_iterations:
        return Step("run", "loop_stop", f"{number} of {config.max_iterations} iterations are done", "max_iterations")
    nxt = iteration_label(number + 1)
    told = f"{label} does not meet {_goal(config)}"
    if met:
        told = f"{label} meets {_goal(config)}, but not where other boards choose the threshold (cross-validation)"
    return Step(nxt, "routing", f"{told}; iteration {number + 1} of {config.max_iterations} begins")


def _goal(config: RunConfig) -> str:
    return "the primary metric with its constraints" if config.values.get("metric_plan") else "the KPI"


def _after_stop(state: dict[str, Any]) -> Step:
    stages = state.get("run", {}).get("stages", {})
    evaluated = any("far_fraction" in it for it in state.get("iterations", {}).values())
    stop = stages.get("loop_stop", {}).get("seq", 0)
    if evaluated and stages.get("handoff", {}).get("seq", 0) < stop:
        return Step("run", "handoff", f"the loop ended: {state['status']}")
    if stages.get("report", {}).get("seq", 0) < max(stop, stages.get("handoff", {}).get("seq", 0)):
        return Step("run", "report", "the final report is due")
    return Step("", "", f"the run is complete: {state['status']}")
