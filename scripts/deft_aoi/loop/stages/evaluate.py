"""The KPI of both checkpoints, the choice between them, and whether the better one may be promoted.

Evaluate writes beside the published ``inference.csv`` files. It is a pure function of them, so a killed evaluate is
simply done again: every file is replaced atomically, and ``_EVALUATE.json`` vouches for them last.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

from deft_aoi.analysis import kpi
from deft_aoi.contract.files import sha256_file
from deft_aoi.contract.schema import read_checked, write_checked
from deft_aoi.loop.context import Outcome, RunContext
from deft_aoi.loop.stages.inference import CHOICES, scored_frame
from deft_aoi.loop.stages.train import best_so_far, prune

VOUCHER = "_EVALUATE.json"
SCRATCH = "evaluate-"


def evaluate(ctx: RunContext, label: str, _attempt: int) -> Outcome:
    """Sweep both scored sets, choose the lower FAR at the target recall, compare with the best so far."""
    final = ctx.run.stage_dir(label, "inference")
    for left in ctx.run.run.glob(f"{SCRATCH}*"):
        shutil.rmtree(left)  # of an evaluation that was killed
    reports: dict[str, dict[str, Any]] = {}
    vouched: dict[str, str] = {}
    for choice in CHOICES:
        report, frame = kpi_report(ctx, final / choice / "inference.csv", "kpi")
        with tempfile.TemporaryDirectory(dir=ctx.run.run, prefix=SCRATCH) as scratch:
            for path in kpi.write_outputs(report, frame, Path(scratch)):
                target = final / choice / path.name
                path.replace(target)
                vouched[f"{choice}/{path.name}"] = sha256_file(target)
        reports[choice] = report
    chosen = choose(reports)
    report, iteration = reports[chosen], ctx.iteration(label)
    checkpoint = ctx.path(iteration["ckpt_best_val" if chosen == "best_val" else "ckpt_latest"])
    comparison = _compare(ctx, label, final / chosen / "inference.csv", report)
    # Per-part figures a person drills into; the voucher comes last and names every file by its digest.
    write_checked(
        final / VOUCHER,
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
        "verdict": report["verdict"],
        "kpi_met": kpi.is_met(report),
        "promoted": promoted,
    }
    evidence = {
        "voucher": sha256_file(final / VOUCHER),
        "kpi_sha256": sha256_file(final / chosen / "kpi.json"),
        "far_interval": point["far_interval"],
        "auroc": report["auroc"],
        "counts": {k: point[k] for k in ("tp", "fp", "tn", "fn")},
        "other_far_fraction": reports[CHOICES[1 - CHOICES.index(chosen)]]["target_point"]["far_fraction"],
        "new_escapes": 0 if comparison is None else comparison["new_escapes"],
        "checkpoints_pruned": pruned,
    }
    refused = "" if comparison is None else f"; {comparison['reason']}"
    return Outcome(f"{label} ({chosen}): {kpi.verdict_sentence(report)}{refused}"[:400], state, evidence)


def kpi_report(ctx: RunContext, csv: Path, split: str) -> tuple[dict[str, Any], Any]:
    """``(report, frame)`` of a scored split of this run, with content identities."""
    frame = scored_frame(ctx, csv, split)
    ids = ctx.identities[split]
    report = kpi.analyze(
        frame,
        target=ctx.config.target,
        content_ids=ids["content_id"].to_numpy(),
        featureless=ids["featureless"].to_numpy(),
        seconds_per_call=ctx.config.seconds_per_call,
    )
    return report, frame


def choose(reports: dict[str, dict[str, Any]]) -> str:
    """The checkpoint with the lower FAR at the target recall; then the higher AUROC; then the lower validation loss."""
    return min(
        CHOICES,
        key=lambda c: (reports[c]["target_point"]["far_fraction"], -reports[c]["auroc"], CHOICES.index(c)),
    )


def _compare(ctx: RunContext, label: str, csv: Path, report: dict[str, Any]) -> dict[str, Any] | None:
    """The paired comparison with the best model so far on the same KPI rows; ``None`` for the first."""
    before = best_so_far({"iterations": {k: v for k, v in ctx.state().get("iterations", {}).items() if k != label}})
    if before is None:
        return None
    from deft_aoi.analysis import compare

    old = scored_frame(ctx, ctx.path(before["inference_csv"]), "kpi")
    new = scored_frame(ctx, csv, "kpi")
    result: dict[str, Any] = compare.compare(
        old, new, before["threshold"], report["target_point"]["threshold"], target=ctx.config.target
    )
    return {"with": before["label"], **result}


def read_voucher(folder: Path) -> dict[str, Any]:
    """What the evaluate stage vouches for."""
    out: dict[str, Any] = read_checked(folder / VOUCHER, "evaluate")
    return out
