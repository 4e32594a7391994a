"""What a run's folder says, read once: record, plan, iterations, spot check, hold-out. Damage is kept as a problem, not raised.

The page of a run that stopped on a damaged file must still be drawn, so only the record itself may raise.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from deft_aoi.analysis.metric import iteration_rank
from deft_aoi.contract.errors import DeftError, HardStop
from deft_aoi.contract.files import read_json
from deft_aoi.contract.paths import RunPaths
from deft_aoi.contract.schema import read_checked
from deft_aoi.contract.stages import EVALUATE_MANIFEST
from deft_aoi.contract.text import printable
from deft_aoi.record import log, provenance, state

if TYPE_CHECKING:
    import pyarrow as pa

    from deft_aoi.contract.changenet_csv import ImageLayout

Event = dict[str, Any]
T = TypeVar("T")
ENDED_WELL = ("kpi_met", "max_iterations", "pool_exhausted", "user_stop")
CHOICES = ("best_val", "latest")


@dataclass(frozen=True)
class Iteration:
    """One iteration on disk.

    Attributes:
        label: ``baseline`` or ``iterN``.
        view: its flat values in the fold of the record.
        kpi: ``kpi.json`` of the chosen checkpoint; ``None`` before evaluation.
        comparison: with the best model before it; ``None`` for the first.
        events: the ``ok`` event of each of its stages, by stage.
        metric: the user's own primary metric of the chosen checkpoint (schema ``metric_result``); ``None`` without one.
    """

    label: str
    view: dict[str, Any]
    kpi: dict[str, Any] | None
    comparison: dict[str, Any] | None
    events: dict[str, Event]
    metric: dict[str, Any] | None = None

    @property
    def verdict(self) -> str:
        """What decides: the verdict on record (of the user's own primary metric where the run has one), else the KPI's."""
        return str(self.view.get("verdict") or (self.kpi or {})["verdict"])

    @property
    def measured(self) -> bool:
        """Whether it has been evaluated."""
        return self.kpi is not None

    def evidence(self, stage: str) -> dict[str, Any]:
        """``data`` of the stage's event; empty before it."""
        data: dict[str, Any] = self.events.get(stage, {}).get("data", {})
        return data


def best_label(view: dict[str, Any]) -> str | None:
    """The promoted iteration with the best primary metric or false-alarm rate, the earlier on a tie: the hand-over's rule."""
    candidates = [
        (iteration_rank(it), number, label)
        for number, (label, it) in enumerate(view.get("iterations", {}).items())
        if it.get("far_fraction") is not None and it.get("promoted", True)
    ]
    return min(candidates)[2] if candidates else None


@dataclass
class RunView:
    """One run, read from disk.

    Attributes:
        run: its paths.
        events: the verified record without ``report`` events: a report does not describe its own making, so drawing it
            again gives the same bytes.
        view: their fold.
        plan: the approved plan, or empty when it cannot be read.
        iterations: in the order of the record.
        problems: files that could not be read, or are not the ones on record, in words.
    """

    run: RunPaths
    events: list[Event]
    view: dict[str, Any]
    plan: dict[str, Any] = field(default_factory=dict)
    iterations: list[Iteration] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @cached_property
    def digests(self) -> dict[str, str]:
        """Path in the run → the digest by which the record vouches for it."""
        return provenance.digests(self.run, self.events)

    def intact(self, relative: str) -> bool:
        """Whether a file of the run is the one on record; what the record does not name is."""
        return provenance.is_on_record(self.run.root / relative, self.digests.get(relative))

    @property
    def config(self) -> dict[str, Any]:
        """The approved configuration, as the record has it."""
        config: dict[str, Any] = self.view.get("config") or {}
        return config

    @property
    def status(self) -> str:
        """``running``, ``error``, or why the loop ended."""
        return str(self.view["status"])

    @property
    def clock(self) -> str | None:
        """The time of the last event: the report's own date."""
        return self.events[-1]["ts"] if self.events else None

    @property
    def measured(self) -> list[Iteration]:
        """The evaluated iterations."""
        return [it for it in self.iterations if it.measured]

    @cached_property
    def best(self) -> Iteration | None:
        """The iteration whose model is, or would be, handed over."""
        label = best_label(self.view)
        return next((it for it in self.measured if it.label == label), None)

    @cached_property
    def baseline(self) -> Iteration | None:
        """The baseline, once it is evaluated."""
        return next((it for it in self.measured if it.label == "baseline"), None)

    def notes(self) -> dict[str, str]:
        """The newest sentence that somebody wrote on each label; a spot check on record is none."""
        notes = (e for e in self.events if e["stage"] == "note" and e["data"].get("kind") != "spot_check")
        return {e["iter"]: str(e["summary"]) for e in notes}

    def attempt(self, what: str, read: Callable[[], T]) -> T | None:
        """Read something (a file by its path in the run); missing, damaged or not the one on record, it becomes a problem."""
        try:
            if not self.intact(what):
                raise HardStop("not the file on record; verify_run.py tells more")
            return read()
        except DeftError as error:
            self._note(what, error.message)
        except (OSError, ValueError, KeyError, TypeError) as error:
            self._note(what, f"{type(error).__name__}: {error}")
        return None

    def _note(self, what: str, problem: str) -> None:
        text = printable(f"{what}: {problem}", 240)
        if text not in self.problems:
            self.problems.append(text)

    def table(self, relative: str, columns: tuple[str, ...]) -> pa.Table | None:
        """Columns of a Parquet file of the run; ``None`` when it is absent (no problem) or damaged (a problem)."""
        path = self.run.root / relative
        if not path.is_file():
            return None
        import pyarrow.parquet as pq

        return self.attempt(relative, lambda: pq.read_table(path, columns=list(columns)))

    def scores(self, it: Iteration) -> tuple[Any, Any] | None:
        """``(good, bad)`` scores of an evaluated iteration as float64 arrays."""
        relative = str(it.view.get("inference_csv", ""))
        return self.attempt(relative, lambda: _scores(self.run.root / relative))

    def sweep(self, it: Iteration) -> list[tuple[float, float]]:
        """``(recall, fewest false alarms at it)`` of an evaluated iteration, by rising recall."""
        relative = str(Path(str(it.view.get("kpi_json", ""))).with_name("threshold_metrics.csv"))
        found: list[tuple[float, float]] | None = self.attempt(relative, lambda: _sweep(self.run.root / relative))
        return found or []


def _scores(path: Path) -> tuple[Any, Any]:
    import pyarrow as pa
    import pyarrow.csv as pa_csv

    options = pa_csv.ConvertOptions(
        column_types={"label": pa.string(), "siamese_score": pa.float64()},
        include_columns=["label", "siamese_score"],
        strings_can_be_null=False,
    )
    table = pa_csv.read_csv(path, convert_options=options)
    values = table.column("siamese_score").to_numpy()
    good = table.column("label").to_numpy() == "PASS"
    return values[good], values[~good]


def _sweep(path: Path) -> list[tuple[float, float]]:
    import pyarrow.csv as pa_csv

    table = pa_csv.read_csv(path, convert_options=pa_csv.ConvertOptions(include_columns=["recall_fraction", "far_fraction"]))
    best: dict[float, float] = {}
    for recall, far in zip(table.column(0).to_pylist(), table.column(1).to_pylist(), strict=True):
        best[float(recall)] = min(float(far), best.get(float(recall), 2.0))
    return sorted(best.items())


def read_run(results_dir: str | Path) -> RunView:
    """Read a run.

    Raises:
        HardStop: the record itself is missing or damaged: nothing true can be said then.
    """
    run = RunPaths(Path(results_dir).expanduser().resolve())
    events = [e for e in log.read(run.root) if e["stage"] != "report"]
    out = RunView(run, events, state.fold(events))
    out.plan = out.attempt("run/plan.json", lambda: read_checked(run.plan, "plan")) or {}
    for label, view in out.view["iterations"].items():
        stages = {e["stage"]: e for e in events if e["iter"] == label and e["status"] == "ok"}
        kpi, comparison, metric = None, None, None
        if "evaluate" in stages:
            kpi = out.attempt(str(view.get("kpi_json")), partial(read_checked, run.root / str(view.get("kpi_json")), "kpi"))
            manifest = run.stage_dir(label, "inference") / EVALUATE_MANIFEST
            found = out.attempt(run.rel(manifest), partial(read_checked, manifest, "evaluate"))
            comparison = (found or {}).get("comparison")
            if view.get("primary_metric"):
                file = (run.root / view["inference_csv"]).with_name("metric.json")
                metric = out.attempt(run.rel(file), partial(read_checked, file, "metric_result"))
        view = {**view, "verdict": state.shown_verdict(out.view, label)} if view.get("verdict") else view
        out.iterations.append(Iteration(label, view, kpi, comparison, stages, metric))
    return out


def optional_json(view: RunView, path: Path, schema: str | None) -> Any:
    """A JSON file that need not exist: ``None`` when absent, or damaged (then also a problem)."""
    if not path.is_file():
        return None
    name = view.run.rel(path)
    return view.attempt(name, lambda: read_checked(path, schema) if schema else read_json(path, what=name))


def csv_rows(path: Path) -> list[dict[str, str]]:
    """The data rows of a CSV."""
    import csv

    with path.open(encoding="utf-8", newline="") as handle:
        return list(csv.DictReader(handle))


def first_row(path: Path) -> dict[str, str]:
    """The first data row of a CSV."""
    return csv_rows(path)[0]


def kpi_layout(view: RunView) -> ImageLayout:
    """Where the pictures of the KPI set are. Raises DeftError where the workspace's spec cannot be read."""
    from deft_aoi.contract import spec as specs
    from deft_aoi.contract.splits import split_source

    spec = specs.load_spec(view.run.workspace.baseline_spec, what="baseline spec")
    return specs.layout(spec, split_source(view.run.workspace, spec, "kpi")[1])


def as_text(value: Any) -> str:
    """A configuration value as compact text."""
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)
