"""A primary metric of the user's own, with constraints: it decides when the loop stops and which checkpoint wins.

A plan names criteria (name, operator, target, unit) and where their values come from (:mod:`deft_aoi.analysis.metric_values`).
Every criterion is judged, each time; one without a value is a hard stop, because a constraint that silently drops lets a
bad model through.
"""

from __future__ import annotations

import json
import math
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deft_aoi.analysis.constants import SATURATED_FAR
from deft_aoi.contract import schema
from deft_aoi.contract.errors import Blocked, HardStop
from deft_aoi.contract.kpi_target import KpiTarget
from deft_aoi.contract.text import has_hidden, printable, quoted

OPERATORS: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
}
BUILTIN = "builtin"
FarRank = tuple[bool, float, float]
"""Of :func:`far_rank`: whether half of the good parts or more are flagged, the deciding rate, the point's."""
MAX_PLAN_BYTES = 1 << 16


@dataclass(frozen=True)
class Criterion:
    """``name operator target unit``: for example ``far_fraction < 0.001``.

    Attributes:
        evaluator: ``builtin`` takes the value from the KPI report whatever the plan's evaluator is; empty: the plan's.
    """

    name: str
    operator: str
    target: float
    unit: str = ""
    evaluator: str = ""

    def holds(self, value: float) -> bool:
        """Whether a value meets the target."""
        return OPERATORS[self.operator](value, self.target)

    def distance(self, value: float) -> float:
        """How far a value is from the target in the bad direction; lower is better, whatever the operator."""
        if self.operator == "==":
            return abs(value - self.target)
        return value - self.target if self.operator.startswith("<") else self.target - value

    @property
    def text(self) -> str:
        """The criterion in one line."""
        return printable(f"{self.name} {self.operator} {self.target!r} {self.unit}", 200)


@dataclass(frozen=True)
class MetricPlan:
    """The primary metric, its constraints and where their values come from.

    Attributes:
        primary: what selects and stops.
        constraints: what must hold besides.
        evaluator: ``builtin``, ``argv`` or ``result_file``.
        argv: the command of ``argv``; see :data:`deft_aoi.analysis.metric_values.MARKS`.
        result_file: the file of ``result_file``, relative to the folder of one candidate.
        time_limit_sec: for ``argv``.
    """

    primary: Criterion
    constraints: tuple[Criterion, ...] = ()
    evaluator: str = BUILTIN
    argv: tuple[str, ...] = ()
    result_file: str = ""
    time_limit_sec: float = 3600.0

    @property
    def criteria(self) -> tuple[Criterion, ...]:
        """The primary, then the constraints."""
        return (self.primary, *self.constraints)

    def is_builtin(self, criterion: Criterion) -> bool:
        """Whether the criterion's value comes from the KPI report."""
        return BUILTIN in (self.evaluator, criterion.evaluator)


@dataclass(frozen=True)
class CriterionResult:
    """One criterion and the value that one candidate has for it."""

    criterion: Criterion
    value: float

    @property
    def holds(self) -> bool:
        """Whether the value meets the target."""
        return self.criterion.holds(self.value)

    @property
    def text(self) -> str:
        """``line_cost 4.2 EUR (target <= 5)``."""
        c = self.criterion
        value = f"{self.value:.6g} {c.unit}".strip()
        return printable(f"{c.name} {value} (target {c.operator} {c.target:.6g})", 200)


@dataclass(frozen=True)
class Evaluation:
    """What the plan says of one candidate."""

    primary: CriterionResult
    constraints: tuple[CriterionResult, ...] = ()

    @property
    def judged(self) -> tuple[CriterionResult, ...]:
        """The primary, then the constraints."""
        return (self.primary, *self.constraints)

    @property
    def values(self) -> dict[str, float]:
        """Every criterion's value, by name."""
        return {j.criterion.name: j.value for j in self.judged}

    @property
    def failed(self) -> tuple[str, ...]:
        """Criteria that do not hold, primary first."""
        return tuple(j.criterion.text for j in self.judged if not j.holds)

    @property
    def feasible(self) -> bool:
        """Whether all constraints hold."""
        return all(j.holds for j in self.constraints)

    @property
    def met(self) -> bool:
        """Whether the primary and all constraints hold."""
        return self.primary.holds and self.feasible

    @property
    def primary_distance(self) -> float:
        """See :meth:`Criterion.distance`."""
        return self.primary.criterion.distance(self.primary.value)

    @property
    def rank(self) -> tuple[bool, float]:
        """Sorts candidates, best first: feasible before infeasible, then the better primary."""
        return (not self.feasible, self.primary_distance)

    @property
    def text(self) -> str:
        """The evaluation in one line."""
        failed = [j.text for j in self.constraints if not j.holds]
        held = f"{len(self.constraints) - len(failed)} of {len(self.constraints)} constraints hold" if self.constraints else ""
        return "; ".join(part for part in (self.primary.text, held, *(f"broken: {f}" for f in failed)) if part)

    def as_dict(self) -> dict[str, Any]:
        """The evaluation as ``metric.json`` holds it."""
        rows = [
            {**j.criterion.__dict__, "role": "constraint" if n else "primary", "value": j.value, "holds": j.holds}
            for n, j in enumerate(self.judged)
        ]
        return {
            "schema_version": 1,
            "criteria": rows,
            "met": self.met,
            "feasible": self.feasible,
            "primary_distance": self.primary_distance,
        }


def read_metric_plan(path: Path) -> dict[str, Any]:
    """Read and check a plan file.

    Returns:
        The plan as JSON; :func:`parse_metric_plan` makes it a :class:`MetricPlan`.

    Raises:
        Blocked: there is no such file.
        HardStop: it is not JSON, or not such a plan.
    """
    try:
        with path.open("rb") as handle:
            raw = handle.read(MAX_PLAN_BYTES + 1)
    except OSError as error:
        raise Blocked("the metric plan cannot be read", expected=quoted(path, 300), found=quoted(error, 160)) from error
    try:
        if len(raw) > MAX_PLAN_BYTES:
            raise ValueError(f"longer than {MAX_PLAN_BYTES} bytes")
        body: dict[str, Any] = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise HardStop(
            "the metric plan is not JSON",
            expected="one JSON object",
            found=quoted(error, 160),
            hint="references/pre-flight.md shows a metric plan",
        ) from error
    parse_metric_plan(body)
    return body


def parse_metric_plan(obj: Any) -> MetricPlan:
    """Read a plan from JSON (schema ``metric_plan``).

    Raises:
        HardStop: it breaks the schema, has a target that is no finite number or text that hides something, says one thing
            twice, or takes one name from two evaluators.
    """
    schema.validate(obj, "metric_plan")
    criteria = [Criterion(**{**c, "target": float(c["target"])}) for c in (obj["primary"], *obj.get("constraints", []))]
    evaluator = obj.get("evaluator", {"kind": BUILTIN})
    plan = MetricPlan(
        primary=criteria[0],
        constraints=tuple(criteria[1:]),
        evaluator=evaluator["kind"],
        argv=tuple(evaluator.get("argv", ())),
        result_file=evaluator.get("path", ""),
        time_limit_sec=float(evaluator.get("time_limit_sec", 3600)),
    )
    if any(not math.isfinite(c.target) for c in criteria):
        raise HardStop("a target of the metric plan is not a finite number", hint="write the target as a plain number")
    shown = [*plan.argv, plan.result_file, *(text for c in criteria for text in (c.name, c.unit))]
    hidden = next((text for text in shown if has_hidden(text)), None)
    if hidden is not None:
        raise HardStop("the metric plan holds characters that do not show", found=quoted(hidden), hint="a person must see it all")
    names = quoted(", ".join(c.name for c in criteria), 200)
    if len({(c.name, c.operator, c.target) for c in criteria}) != len(criteria):
        raise HardStop("a criterion stands twice in the metric plan", found=names, hint="keep one criterion of each name")
    if len({c.name for c in criteria}) != len({(c.name, plan.is_builtin(c)) for c in criteria}):
        raise HardStop(
            "one name is asked of two evaluators",
            expected="each name from one evaluator",
            found=names,
            hint="give both criteria the same evaluator, or another name",
        )
    return plan


def evaluate_criteria(plan: MetricPlan, given: Mapping[str, float]) -> Evaluation:
    """Judge given values: every criterion, none left out. Raises :class:`HardStop` when one has no finite value."""
    judged = []
    for criterion in plan.criteria:
        value = given.get(criterion.name)
        if value is None or not math.isfinite(value):
            source = BUILTIN if plan.is_builtin(criterion) else plan.evaluator
            raise HardStop(
                f"the criterion {quoted(criterion.name)} has no value",
                expected=f"a finite number from the {source} evaluator",
                found="nothing" if value is None else repr(value),
                hint=f"there are {', '.join(printable(n, 40) for n in sorted(given)[:40])}",
            )
        judged.append(CriterionResult(criterion, float(value)))
    return Evaluation(judged[0], tuple(judged[1:]))


def from_record(record: Mapping[str, Any]) -> Evaluation:
    """The evaluation that a ``metric.json`` (schema ``metric_result``) holds."""
    fields = ("name", "operator", "target", "unit", "evaluator")
    judged = [CriterionResult(Criterion(*(row[f] for f in fields)), float(row["value"])) for row in record["criteria"]]
    return Evaluation(judged[0], tuple(judged[1:]))


def select(candidates: Sequence[Evaluation]) -> int:
    """Position of the best candidate: feasible before infeasible, then the better primary, then the earlier one.

    Raises:
        ValueError: there are no candidates.
    """
    if not candidates:
        raise ValueError("there are no candidates to select from")
    return min(range(len(candidates)), key=lambda i: (candidates[i].rank, i))


def iteration_rank(iteration: Mapping[str, Any]) -> FarRank:
    """Sorts the iterations of a run by the values that they have on record, best first.

    By the primary metric where the run has one (``metric_feasible``, ``metric_distance``), else by the false-alarm rate
    at thresholds that other boards chose (the point alone rewards luck), ties by that of the point (:func:`far_rank`).
    """
    if iteration.get("metric_distance") is not None:
        return (not iteration["metric_feasible"], float(iteration["metric_distance"]), 0.0)
    cross, at_99 = iteration.get("cross_validated_far_fraction"), iteration.get("far_at_99_fraction")
    return far_rank(float(iteration["far_fraction"]), cross, at_99)


def far_rank(far: float, cross_validated: float | None, at_99: float | None) -> FarRank:
    """Sorts models by false-alarm rates (fractions at the target recall, cross-validated, at recall 99 %), best first.

    A model that flags half of the good parts or more is behind every other one, and among such models the rate at recall
    99 % decides: the one missed defect behind 60 or 97 % says nothing of the rest.
    """
    if far >= SATURATED_FAR and at_99 is not None:
        return (True, float(at_99), far)
    return (False, far if cross_validated is None else float(cross_validated), far)


def with_target(body: Mapping[str, Any], target: KpiTarget) -> dict[str, Any]:
    """The plan with the KPI target's own bound as a constraint, unless the plan has that very criterion."""
    bound: dict[str, Any] = {
        "name": "far_fraction",
        "operator": target.far_op,
        "target": target.far_fraction,
        "evaluator": BUILTIN,
    }
    plan = parse_metric_plan(body)
    asked = Criterion(**bound)
    if any(
        plan.is_builtin(c) and (c.name, c.operator, c.target) == (asked.name, asked.operator, asked.target) for c in plan.criteria
    ):
        return dict(body)
    return {**body, "constraints": [*body.get("constraints", []), bound]}


def state_of(evaluation: Evaluation | None) -> dict[str, Any]:
    """Flat values that an iteration has on record of its primary metric."""
    if evaluation is None:
        return {}
    return {
        "primary_metric": printable(evaluation.text, 300),
        "metric_value": evaluation.primary.value,
        "metric_distance": evaluation.primary_distance,
        "metric_feasible": evaluation.feasible,
    }


def best_iteration(state: dict[str, Any]) -> dict[str, Any] | None:
    """The promoted iteration with the best primary metric, else the lowest false-alarm rate; the earlier one on a tie."""
    candidates = [
        {**it, "label": label}
        for label, it in state.get("iterations", {}).items()
        if it.get("far_fraction") is not None and it.get("promoted", True)
    ]
    order = {label: number for number, label in enumerate(state.get("iterations", {}))}
    return min(candidates, key=lambda it: (iteration_rank(it), order[it["label"]]), default=None)
