"""A primary metric of the user's own, with constraints: it decides when the loop stops and which checkpoint wins.

Values come from one evaluator: ``builtin`` (the KPI report), ``argv`` (a command that prints one JSON object of numbers)
or ``result_file`` (such an object in a file). Every constraint is judged, each time; one without a value is a hard stop,
because a constraint that silently drops lets a bad model through.
"""

from __future__ import annotations

import json
import math
import operator
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deft_aoi.contract import schema
from deft_aoi.contract.errors import HardStop, JobFailed
from deft_aoi.contract.text import plain_text, safe_text

OPERATORS: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
}
MAX_OUTPUT = 1 << 20


@dataclass(frozen=True)
class Criterion:
    """``name operator target unit``: for example ``far_fraction < 0.001``."""

    name: str
    operator: str
    target: float
    unit: str = ""

    def holds(self, value: float) -> bool:
        """Whether a value meets the target."""
        return OPERATORS[self.operator](value, self.target)

    def distance(self, value: float) -> float:
        """How far a value is from the target in the bad direction; lower is better, whatever the operator."""
        if self.operator == "==":
            return abs(value - self.target)
        return value - self.target if self.operator.startswith("<") else self.target - value


@dataclass(frozen=True)
class MetricPlan:
    """The primary metric, its constraints and where their values come from.

    Attributes:
        primary: what selects and stops.
        constraints: what must hold besides.
        evaluator: ``builtin``, ``argv`` or ``result_file``.
        argv: the command of ``argv``; ``{inference_csv}`` and ``{output_dir}`` in an element are replaced.
        result_file: the file of ``result_file``, relative to the output folder.
        time_limit_sec: for ``argv``.
    """

    primary: Criterion
    constraints: tuple[Criterion, ...] = ()
    evaluator: str = "builtin"
    argv: tuple[str, ...] = ()
    result_file: str = ""
    time_limit_sec: float = 3600.0


@dataclass(frozen=True)
class Evaluation:
    """Values of one candidate and what they mean.

    Attributes:
        values: every criterion's value, by name.
        failed: criteria that do not hold, primary first.
        met: the primary and all constraints hold.
        feasible: all constraints hold.
        primary_distance: see :meth:`Criterion.distance`.
    """

    values: dict[str, float]
    failed: tuple[str, ...]
    met: bool
    feasible: bool
    primary_distance: float


def parse_metric_plan(obj: Any) -> MetricPlan:
    """Read a plan from JSON (schema ``metric_plan``).

    Raises:
        HardStop: it breaks the schema, or two criteria have one name.
    """
    schema.validate(obj, "metric_plan")
    criteria = [Criterion(**obj["primary"]), *(Criterion(**c) for c in obj.get("constraints", []))]
    spelled = [(c.name, c.operator, c.target) for c in criteria]
    if len(set(spelled)) != len(spelled):
        raise HardStop("a criterion stands twice in the metric plan", found=safe_text(", ".join(c.name for c in criteria)))
    evaluator = obj.get("evaluator", {"kind": "builtin"})
    return MetricPlan(
        primary=criteria[0],
        constraints=tuple(criteria[1:]),
        evaluator=evaluator["kind"],
        argv=tuple(evaluator.get("argv", ())),
        result_file=evaluator.get("path", ""),
        time_limit_sec=float(evaluator.get("time_limit_sec", 3600)),
    )


def builtin_values(report: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a KPI report that a criterion can name, rates of the target point first."""
    point = report["target_point"]
    names = ("far_fraction", "recall_fraction", "precision_fraction", "f1", "threshold", "far_upper_one_sided")
    out = {n: float(point[n]) for n in names}
    out |= {"auroc": report["auroc"], "aupr": report["aupr"], "fp": float(point["fp"]), "fn": float(point["fn"])}
    out |= {f"recall_fraction:{d['label']}": d["recall_fraction"] for d in report["per_defect"]}
    for p in report["operating_points"]:
        out[f"far_fraction@recall={100 * p['recall_target_fraction']:g}%"] = p["far_fraction"]
    units = report["aoi_units"]
    out |= {k: float(units[k]) for k in ("false_calls_ppm", "escapes_ppm", "operator_minutes") if units[k] is not None}
    return out


def evaluate(plan: MetricPlan, report: Mapping[str, Any], *, inference_csv: Path, output_dir: Path) -> Evaluation:
    """Judge one candidate.

    Args:
        plan: the plan.
        report: its KPI report.
        inference_csv: its scored rows, for a command.
        output_dir: its folder; commands run here and result files lie here.

    Raises:
        HardStop: a criterion has no value, or one that is not finite.
        JobFailed: the command failed, ran too long or printed no JSON object.
    """
    if plan.evaluator == "argv":
        given = _run(plan, inference_csv, output_dir)
    elif plan.evaluator == "result_file":
        given = _numbers(_result_text(output_dir / plan.result_file), f"the result file {safe_text(plan.result_file)}")
    else:
        given = builtin_values(report)
    return judge(plan, given)


def judge(plan: MetricPlan, given: Mapping[str, float]) -> Evaluation:
    """Judge given values: every criterion, none left out. Raises :class:`HardStop` when one has no finite value."""
    values: dict[str, float] = {}
    failed: list[str] = []
    for criterion in (plan.primary, *plan.constraints):
        value = given.get(criterion.name)
        if value is None or not math.isfinite(value):
            raise HardStop(
                f"the criterion {safe_text(criterion.name)} has no value",
                expected=f"a finite number from the {plan.evaluator} evaluator",
                found="nothing" if value is None else repr(value),
                hint=f"it offers {', '.join(plain_text(n, 40) for n in sorted(given)[:20])}",
            )
        values[criterion.name] = value
        if not criterion.holds(value):
            failed.append(f"{criterion.name} {criterion.operator} {criterion.target:g}")
    feasible = all(c.holds(values[c.name]) for c in plan.constraints)
    distance = plan.primary.distance(values[plan.primary.name])
    return Evaluation(values, tuple(failed), not failed, feasible, distance)


def select(candidates: Sequence[Evaluation]) -> int:
    """Position of the best candidate: feasible before infeasible, then the better primary, then the earlier one.

    Raises:
        ValueError: there are no candidates.
    """
    if not candidates:
        raise ValueError("there are no candidates to select from")
    return min(range(len(candidates)), key=lambda i: (not candidates[i].feasible, candidates[i].primary_distance, i))


def _run(plan: MetricPlan, inference_csv: Path, output_dir: Path) -> dict[str, float]:
    fill = {"{inference_csv}": str(inference_csv), "{output_dir}": str(output_dir)}
    argv = list(plan.argv)
    for mark, value in fill.items():
        argv = [part.replace(mark, value) for part in argv]
    try:
        done = subprocess.run(
            argv, cwd=output_dir, stdin=subprocess.DEVNULL, capture_output=True, timeout=plan.time_limit_sec, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise JobFailed(
            "the metric command did not finish", expected="a command that prints one JSON object", found=safe_text(error, 200)
        ) from error
    if done.returncode != 0:
        raise JobFailed(
            f"the metric command failed with exit code {done.returncode}",
            expected="exit code 0 and one JSON object of numbers on standard output",
            found=safe_text(done.stderr[-2000:].decode("utf-8", "replace"), 300),
        )
    return _numbers(done.stdout[: MAX_OUTPUT + 1].decode("utf-8", "replace"), "the metric command's output")


def _result_text(path: Path) -> str:
    try:
        with path.open("rb") as handle:
            return handle.read(MAX_OUTPUT + 1).decode("utf-8", "replace")
    except OSError as error:
        raise HardStop(
            "the metric's result file cannot be read", expected=f"a JSON object in {safe_text(path, 200)}", found=str(error)
        ) from error


def _numbers(text: str, what: str) -> dict[str, float]:
    try:
        if len(text) > MAX_OUTPUT:
            raise ValueError("longer than 1 MiB")
        obj = json.loads(text)
        if not isinstance(obj, dict):
            raise ValueError("not an object")
    except ValueError as error:
        raise JobFailed(f"{what} is not a JSON object", found=f"{safe_text(text, 120)} ({plain_text(error, 80)})") from error
    return {str(k): float(v) for k, v in obj.items() if isinstance(v, int | float) and not isinstance(v, bool)}
