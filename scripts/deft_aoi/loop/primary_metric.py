"""The user's own primary metric in a run: what the Summary shows, what is checked before the go, what judges a checkpoint.

The KPI target still sets the threshold (the operating point at its recall); the primary metric then selects and stops. A
false-alarm bound that the user gave beside it becomes one more constraint, so that nothing that was asked for is dropped.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deft_aoi.analysis import metric, metric_values
from deft_aoi.analysis.metric import Criterion, Evaluation, MetricPlan
from deft_aoi.contract.errors import Blocked
from deft_aoi.contract.files import sha256_file
from deft_aoi.contract.kpi_target import KpiTarget
from deft_aoi.contract.paths import Workspace
from deft_aoi.contract.text import printable

if TYPE_CHECKING:
    import pandas as pd

    from deft_aoi.loop.config import RunConfig
    from deft_aoi.loop.context import RunContext

RECORD = "metric.json"
_WIDTH = 300


def with_target(body: Mapping[str, Any], target: KpiTarget) -> dict[str, Any]:
    """The plan with the KPI target's own bound as a constraint, unless the plan has that very criterion."""
    bound: dict[str, Any] = {
        "name": "far_fraction",
        "operator": target.far_op,
        "target": target.far_fraction,
        "evaluator": metric.BUILTIN,
    }
    plan = metric.parse_metric_plan(body)
    asked = Criterion(**bound)
    if any(
        plan.is_builtin(c) and (c.name, c.operator, c.target) == (asked.name, asked.operator, asked.target) for c in plan.criteria
    ):
        return dict(body)
    return {**body, "constraints": [*body.get("constraints", []), bound]}


def files(plan: MetricPlan, workspace: Workspace) -> dict[str, str]:
    """Digests of the files that a command names: a script that changes closes the gate again.

    A compiled program in the first place (an interpreter, an installed tool) is known by its name alone, like every other
    program of the machine.
    """
    out = {}
    for number, part in enumerate(plan.argv):
        path = Path(part.replace("{workspace}", str(workspace.root)))
        if not path.is_absolute() or not path.is_file():
            continue
        if number == 0:
            with path.open("rb") as handle:
                if handle.read(2) != b"#!":
                    continue
        out[part] = sha256_file(path)
    return out


def check(config: RunConfig, workspace: Workspace, kpi_rows: pd.DataFrame) -> str:
    """Find before the go what would only fail after a training.

    Returns:
        A line for the checks.

    Raises:
        HardStop: a criterion names a value that the KPI report of this KPI set does not have.
        Blocked: the command's program is missing.
    """
    from deft_aoi.analysis import kpi

    plan = config.primary_metric
    assert plan is not None  # the caller asked
    # Any scores will do: which values a report offers depends on the labels and the recalls alone.
    scores = (kpi_rows["label"] != "PASS").astype(float)
    report = kpi.analyze(kpi_rows.assign(siamese_score=scores), target=config.target, seconds_per_call=config.seconds_per_call)
    builtin = metric_values.builtin_values(report)
    theirs = {c.name: c.target for c in plan.criteria if not plan.is_builtin(c)}
    metric.evaluate_criteria(plan, metric_values.combine(plan, builtin, theirs))
    if plan.argv:
        program = plan.argv[0].replace("{workspace}", str(workspace.root))
        if shutil.which(program) is None:
            raise Blocked(
                "the program of the metric command cannot be run",
                expected="an absolute path, {workspace}/…, or a name on PATH",
                found=printable(program, 200),
            )
    return f"primary metric {plan.primary.text}: every built-in value of its criteria exists"


def summary_lines(config: RunConfig) -> list[str]:
    """What a person approves: every criterion, and the command element by element."""
    plan = config.primary_metric
    if plan is None:
        return []
    lines = [f"  {'primary metric':28} {plan.primary.text} (user): selects and stops"]
    lines += [f"  {'constraint':28} {c.text} (user)" for c in plan.constraints]
    if not plan.constraints:
        lines.append(f"  {'constraints':28} none (user)")
    if plan.evaluator == "argv":
        lines.append(
            f"  {'metric command':28} for each scored checkpoint, at most {plan.time_limit_sec:g} s, on the driver's host:"
        )
        for part in plan.argv:
            shown = printable(part, 20 * _WIDTH)
            lines += [f"  {'':28} | {shown[i : i + _WIDTH]}" for i in range(0, max(len(shown), 1), _WIDTH)]
    elif plan.evaluator == "result_file":
        lines.append(f"  {'metric result file':28} run/metric/<iteration>/<checkpoint>/{printable(plan.result_file, 200)}")
    else:
        lines.append(f"  {'metric values':28} the KPI report")
    if config.sources["kpi_target"] != "user":
        lines.append("  NOTE: of the KPI target only the recall counts (it sets the threshold); its FAR bound was not asked for.")
    return lines


def judge(ctx: RunContext, label: str, choice: str, report: Mapping[str, Any], csv: Path, kpi_json: Path) -> Evaluation | None:
    """What the run's plan says of one scored checkpoint; ``None`` without a plan. Raises what ``evaluate`` raises."""
    plan = ctx.config.primary_metric
    if plan is None:
        return None
    folder = ctx.run.run / "metric" / label / choice
    folder.mkdir(parents=True, exist_ok=True)
    if plan.evaluator == "argv":
        ctx.progress(f"{label} evaluate: the metric command for {choice}")
    marks = {"workspace": str(ctx.workspace.root), "label": label, "choice": choice}
    return metric_values.evaluate(plan, report, metric_values.Candidate(csv, kpi_json, folder, marks))


def judge_again(plan: MetricPlan, report: Mapping[str, Any], record: Mapping[str, Any]) -> Evaluation:
    """The evaluation as it must be: built-in values from the report, a command's or a file's as they are on record."""
    theirs = metric.from_record(record).values
    return metric.evaluate_criteria(plan, metric_values.combine(plan, metric_values.builtin_values(report), theirs))


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
