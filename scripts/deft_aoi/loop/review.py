"""Which review of the agent is due in a run, from what is on disk: the same after a compaction or in another process."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deft_aoi.analysis import spot_check
from deft_aoi.contract.errors import DeftError
from deft_aoi.contract.paths import RunPaths
from deft_aoi.contract.schema import read_checked
from deft_aoi.loop.config import RunConfig
from deft_aoi.loop.next_step import next_step

CAUSES = ", ".join(spot_check.VERDICTS)


@dataclass(frozen=True)
class WeakSample:
    """A picture of ``weak_overview.png`` that nobody has judged yet."""

    number: int
    text: str


@dataclass(frozen=True)
class Review:
    """What is due.

    Attributes:
        kind: ``spot_check`` or ``report``.
        label: the iteration whose weak samples are to be looked at; ``run`` for the report.
        folder: where ``weak_overview.png`` is, or the run.
        samples: the samples to judge.
    """

    kind: str
    label: str
    folder: Path
    samples: tuple[WeakSample, ...] = ()


def review_due(run: RunPaths, state: dict[str, Any], config: RunConfig) -> Review | None:
    """What is due from whoever reviews this run.

    A spot check is due after a root-cause analysis with samples that nobody has judged, unless the loop is about to end;
    the report when the run is complete and has no findings yet.
    """
    step = next_step(state, config)
    if step.done:
        written = (run.run / "findings.json").exists() or not run.report.exists()
        return None if written else Review("report", "run", run.root)
    label = str(state.get("current_iteration") or "run")
    it = state.get("iterations", {}).get(label, {})
    if step.stage == "loop_stop" or it.get("stage_completed") != "rca" or "rca_dir" not in it or state["status"] == "hard_stop":
        return None
    samples = unjudged(run, run.root / str(it["rca_dir"]))
    return Review("spot_check", label, run.root / str(it["rca_dir"]), samples) if samples else None


def unjudged(run: RunPaths, folder: Path) -> tuple[WeakSample, ...]:
    """The numbered samples of an overview without a verdict; none where its table cannot be read (a gate names that)."""
    try:
        judged = {e["sample_id"] for e in spot_check.load(run.run / spot_check.FILE_NAME)["verdicts"]}
        pictures = read_checked(folder / "metrics.json", "metrics")["images"]
    except DeftError:
        return ()
    return tuple(
        WeakSample(number, spot_check.sample_line(number, picture))
        for number, picture in enumerate(pictures, start=1)
        if picture["sample_id"] not in judged
    )
