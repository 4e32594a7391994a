"""Scoring the KPI set with both checkpoints: lowest validation loss, and latest."""

from __future__ import annotations

import shutil
from pathlib import Path

from deft_aoi.contract.files import digest_json, sha256_file
from deft_aoi.loop import registered
from deft_aoi.loop import specs as derive
from deft_aoi.loop.context import RunContext, StageResult
from deft_aoi.loop.launch import Job, run_job, write_spec
from deft_aoi.loop.registered import Rows
from deft_aoi.loop.stages.train import training_spec
from deft_aoi.record import publish
from deft_aoi.record.publish import publish_digest

CHOICES = ("best_val", "latest")


def inference(ctx: RunContext, label: str, attempt: int) -> StageResult:
    """Score the KPI set; where both checkpoints are one file, it is scored once."""
    iteration, kpi = ctx.iteration(label), registered.split_rows(ctx, "kpi")
    final = ctx.run.stage_dir(label, "inference")
    checkpoints = {"best_val": ctx.path(iteration["ckpt_best_val"]), "latest": ctx.path(iteration["ckpt_latest"])}
    spec = derive.inference_spec(training_spec(ctx, label), csv=kpi.csv, images=kpi.images)
    path = write_spec(ctx, label, "inference", spec)
    inputs = digest_json(
        {"spec": sha256_file(path), "kpi": sha256_file(kpi.csv), **{k: sha256_file(v) for k, v in checkpoints.items()}}
    )
    if publish.adopt(final, inputs_digest=inputs) is None:
        out = Path(publish.attempt_dir(final, inputs_digest=inputs))
        score(ctx, label, "inference", "best-val", attempt, path, checkpoints["best_val"], out / "best_val", kpi)
        if checkpoints["latest"] == checkpoints["best_val"]:
            shutil.copytree(out / "best_val", out / "latest", symlinks=True, dirs_exist_ok=True)
        else:
            score(ctx, label, "inference", "latest", attempt, path, checkpoints["latest"], out / "latest", kpi)
        publish.publish(out, final, inputs_digest=inputs)
    rows = len(kpi.frame)
    digests = {f"{c}_sha256": sha256_file(final / c / "inference.csv") for c in CHOICES}
    return StageResult(f"{label} scored {rows} KPI rows", {}, {"manifest": publish_digest(final), "rows": rows, **digests})


def score(
    ctx: RunContext, label: str, stage: str, job: str, attempt: int, spec: Path, checkpoint: Path, out: Path, rows: Rows
) -> None:
    """Run one inference into ``out``; its ``inference.csv`` has the user's own rows."""
    out.mkdir(parents=True, exist_ok=True)
    run_job(
        ctx,
        Job(
            label,
            stage,
            job,
            attempt,
            "inference",
            spec,
            (f"inference.results_dir={out}", f"inference.checkpoint={checkpoint}"),
            out,
            out,
            out / "inference.log",
            rows=len(rows.frame),
            reads=rows.files,
        ),
    )
    registered.restore_goldens(out / "inference.csv", rows)


def scored_frame(ctx: RunContext, csv: Path, split_name: str) -> object:
    """The split's own rows with the scores of ``csv`` joined by row order.

    Raises:
        HardStop: another number of rows, or another sample at a line.
    """
    from deft_aoi.analysis.score_table import attach_scores, read_scores

    return attach_scores(ctx.splits[split_name].frame, read_scores(csv))
