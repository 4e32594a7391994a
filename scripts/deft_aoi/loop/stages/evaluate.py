"""The KPI of both checkpoints, the choice between them, and whether the better one may be promoted.

Evaluate writes beside the published ``inference.csv`` files. It is a pure function of them, so a killed evaluate is
simply done again: every file is replaced atomically, and ``_EVALUATE.json`` vouches for them last.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from deft_aoi.analysis import kpi, kpi_output, metric, metric_values
from deft_aoi.analysis.metric import Evaluation, best_iteration, from_record
from deft_aoi.analysis.reference import Untrained
from deft_aoi.analysis.verdict import beside, facts_of, sentence, verdict_of
from deft_aoi.contract import spec as specs
from deft_aoi.contract.files import sha256_file
from deft_aoi.contract.schema import read_checked, write_checked
from deft_aoi.contract.stages import EVALUATE_MANIFEST
from deft_aoi.loop.context import RunContext, StageResult
from deft_aoi.loop.stages.inference import CHOICES, scored_frame
from deft_aoi.loop.stages.train import prune

SCRATCH = "evaluate-"


def evaluate(ctx: RunContext, label: str, _attempt: int) -> StageResult:
    """Sweep both scored sets, choose the better checkpoint, compare with the best so far."""
    final = ctx.run.stage_dir(label, "inference")
    for left in ctx.run.run.glob(f"{SCRATCH}*"):
        shutil.rmtree(left)  # of an evaluation that was killed
    reports: dict[str, dict[str, Any]] = {}
    vouched: dict[str, str] = {}
    judged: dict[str, Evaluation] = {}
    for choice in CHOICES:
        csv = final / choice / "inference.csv"
        with tempfile.TemporaryDirectory(dir=ctx.run.run, prefix=SCRATCH) as name:
            scratch = Path(name)
            reports[choice], _frame = kpi_report(ctx, csv, "kpi", scratch)
            evaluation = _judge(ctx, label, choice, reports[choice], csv, scratch / "kpi.json")
            if evaluation is not None:
                judged[choice] = evaluation
                write_checked(scratch / metric_values.RESULT_FILE, evaluation.as_dict(), "metric_result")
            for path in sorted(scratch.iterdir()):
                target = final / choice / path.name
                path.replace(target)
                vouched[f"{choice}/{path.name}"] = sha256_file(target)
    chosen = choose_checkpoint(reports, judged)
    report, iteration = reports[chosen], ctx.iteration(label)
    checkpoint = ctx.path(iteration["ckpt_best_val" if chosen == "best_val" else "ckpt_latest"])
    decision = judged.get(chosen)
    comparison = _compare(ctx, label, final / chosen / "inference.csv", report, decision)
    # Per-part figures a person drills into; the voucher comes last and names every file by its digest.
    write_checked(
        final / EVALUATE_MANIFEST,
        {"version": 1, "label": label, "chosen": chosen, "files": vouched, "comparison": comparison},
        "evaluate",
    )
    pruned = prune(ctx, label, {iteration["ckpt_best_val"], iteration["ckpt_latest"]})
    point = report["target_point"]
    promoted = comparison is None or comparison["promote"]
    state = {
        "chosen": chosen,
        "best_ckpt_path": ctx.run.rel(checkpoint),
        "best_ckpt_sha256": sha256_file(checkpoint),
        "inference_csv": ctx.run.rel(final / chosen / "inference.csv"),
        "kpi_json": ctx.run.rel(final / chosen / "kpi.json"),
        "far_fraction": point["far_fraction"],
        "recall_fraction": point["recall_fraction"],
        "threshold": point["threshold"],
        **judgement(report, decision),
        "promoted": promoted,
        "beside_the_verdict": beside(report),
        **metric.state_of(decision),
    }
    evidence = {
        "voucher": sha256_file(final / EVALUATE_MANIFEST),
        "kpi_sha256": sha256_file(final / chosen / "kpi.json"),
        "far_interval": point["far_interval"],
        "auroc": report["auroc"],
        "counts": {k: point[k] for k in ("tp", "fp", "tn", "fn")},
        "other_far_fraction": reports[CHOICES[1 - CHOICES.index(chosen)]]["target_point"]["far_fraction"],
        "new_escapes": 0 if comparison is None else comparison["new_escapes"],
        "checkpoints_pruned": pruned,
    }
    refused = "" if comparison is None else f"; {comparison['reason']}"
    said = sentence(report, None, None if decision is None else decision.met)
    if decision is not None:
        said = f"{state['primary_metric']}; {said}"
    return StageResult(f"{label} ({chosen}): {said}{refused}"[:400], state, evidence)


def judgement(report: dict[str, Any], decision: Evaluation | None) -> dict[str, Any]:
    """What an iteration has on record of its verdict on the KPI set."""
    facts = facts_of(report, None, None if decision is None else decision.met)
    estimate = report["estimate"]
    return {
        "verdict": verdict_of(facts),
        "kpi_met": facts.kpi,
        "cross_validated": facts.cross_validated,
        "cross_validated_far_fraction": None if estimate is None else estimate["far_fraction"],
        "far_at_99_fraction": next(p["far_fraction"] for p in report["operating_points"] if p["recall_target_fraction"] == 0.99),
    }


def kpi_report(ctx: RunContext, csv: Path, split: str, write_to: Path | None = None) -> tuple[dict[str, Any], Any]:
    """``(report, frame)`` of a scored split of this run, with content identities; with its files when a folder is named."""
    frame: Any = scored_frame(ctx, csv, split)
    common: dict[str, Any] = {
        "target": ctx.config.target,
        **contents(ctx, split),
        "seconds_per_call": ctx.config.seconds_per_call,
        "rules": ctx.config.judging,
        "untrained": untrained(ctx, split),
    }
    report = kpi.analyze(frame, **common) if write_to is None else kpi_output.analyze_and_write(frame, write_to, **common)
    return report, frame


def contents(ctx: RunContext, split: str) -> dict[str, Any]:
    """What the rows of a split are by content: the identities by which everything is counted."""
    ids = ctx.identities[split]
    return {"content_ids": ids["content_id"].to_numpy(), "featureless": ids["featureless"].to_numpy()}


def untrained(ctx: RunContext, split: str) -> Untrained | None:
    """What comparing pixels says of a split's rows, goldens registered where the run registers; not with several goldens."""
    if specs.has_several_goldens(ctx.spec):
        return None
    from deft_aoi.analysis.registered_goldens import Preprocessing, ShiftCache, pairs_of

    how, rows = ctx.config.preprocessing, ctx.splits[split]
    cache = ShiftCache(ctx.digest_cache, how or Preprocessing(*specs.network_size(ctx.spec)))
    measured = cache.measure(pairs_of(rows.frame, rows.layout, ctx.identities[split]))
    scores = [m.rule_raw if how is None else m.rule_registered for m in measured]
    return Untrained(np.array(scores, dtype=np.float64), how is not None)


def choose_checkpoint(reports: dict[str, dict[str, Any]], judged: Mapping[str, Evaluation] | None = None) -> str:
    """The better checkpoint by the primary metric, where there is one, else by FAR at the target recall.

    Ties go to the lower FAR, the higher AUROC, then the lower validation loss.
    """

    def order(choice: str) -> tuple[Any, ...]:
        rank = judged[choice].rank if judged else ()
        return (*rank, reports[choice]["target_point"]["far_fraction"], -reports[choice]["auroc"], CHOICES.index(choice))

    return min(CHOICES, key=order)


def _compare(
    ctx: RunContext, label: str, csv: Path, report: dict[str, Any], decision: Evaluation | None
) -> dict[str, Any] | None:
    """The paired comparison with the best model so far on the same KPI rows; ``None`` for the first."""
    before = best_iteration({"iterations": {k: v for k, v in ctx.state().get("iterations", {}).items() if k != label}})
    if before is None:
        return None
    from deft_aoi.analysis import compare

    judged = None
    if decision is not None:
        record = read_checked(ctx.path(before["inference_csv"]).with_name(metric_values.RESULT_FILE), "metric_result")
        judged = (from_record(record), decision)
    old = scored_frame(ctx, ctx.path(before["inference_csv"]), "kpi")
    new = scored_frame(ctx, csv, "kpi")
    result: dict[str, Any] = compare.compare(
        old,
        new,
        before["threshold"],
        report["target_point"]["threshold"],
        target=ctx.config.target,
        max_new_escapes=ctx.config.max_new_escapes,
        judged=judged,
        estimates=(before, {"far_fraction": report["target_point"]["far_fraction"], **judgement(report, decision)}),
        **contents(ctx, "kpi"),
    )
    return {"with": before["label"], **result}


def _judge(ctx: RunContext, label: str, choice: str, report: Mapping[str, Any], csv: Path, kpi_json: Path) -> Evaluation | None:
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
