"""The end: hold-out scored once, the best model handed over, the report written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from deft_aoi.analysis import kpi
from deft_aoi.contract.errors import HardStop
from deft_aoi.contract.schema import read_checked, write_checked
from deft_aoi.contract.files import atomic_write_json, digest_json, read_json, sha256_file
from deft_aoi.loop import specs as derive
from deft_aoi.loop.context import Outcome, RunContext
from deft_aoi.loop.launch import write_spec
from deft_aoi.loop.stages.inference import score, scored_frame
from deft_aoi.loop.stages.train import best_so_far, training_spec
from deft_aoi.record import publish


HOLDOUT_KEYS = ("far_fraction", "far_interval", "recall_fraction", "recall_interval", "tp", "fp", "tn", "fn")


def hand_over(ctx: RunContext, _label: str, attempt: int) -> Outcome:
    """Score the hold-out with the final checkpoint and threshold, then write the two hand-over files."""
    best = best_so_far(ctx.state())
    if best is None:
        raise HardStop("there is nothing to hand over", expected="an evaluated baseline")
    holdout = score_holdout(ctx, best, attempt)
    from deft_aoi.loop import handover

    body = handover.write(ctx.run, ctx.workspace, holdout=holdout)
    digests = {"best_model_sha256": sha256_file(ctx.run.best_model), "best_spec_sha256": sha256_file(ctx.run.best_spec)}
    text = f"{best['label']} handed over at threshold {best['threshold']!r}: {best['verdict']}"
    if holdout is not None:
        far, recall = 100 * holdout["far_fraction"], 100 * holdout["recall_fraction"]
        text += f"; hold-out FAR {far:.2f}%, recall {recall:.2f}%, AUROC {holdout['auroc']:.4f}"
    return Outcome(text, {"best_iteration": best["label"], "status_at_end": body["status"]}, {**digests, "label": best["label"]})


def score_holdout(ctx: RunContext, best: dict[str, Any], attempt: int) -> dict[str, Any] | None:
    """Score ``kpi/holdout_set.csv`` once, at the threshold that was fixed on the KPI set.

    Returns:
        The figures; ``None`` where there is no hold-out.
    """
    split = ctx.splits.get("holdout")
    if split is None:
        return None
    final = ctx.run.holdout
    spec = derive.inference_spec(training_spec(ctx, best["label"]), csv=split.csv, images=split.layout.images_dir)
    path = write_spec(ctx, "run", "holdout", spec)
    inputs = digest_json([sha256_file(path), sha256_file(split.csv), best["best_ckpt_sha256"], best["threshold"]])
    if publish.adopt(final, inputs_digest=inputs) is None:
        out = Path(publish.attempt_dir(final, inputs_digest=inputs))
        score(ctx, "run", "handoff", "holdout", attempt, path, ctx.path(best["best_ckpt_path"]), out, len(split.frame))
        frame, ids = scored_frame(ctx, out / "inference.csv", "holdout"), ctx.identities["holdout"]
        figures = kpi.apply_threshold(
            frame,
            best["threshold"],
            target=ctx.config.target,
            content_ids=ids["content_id"].to_numpy(),
            featureless=ids["featureless"].to_numpy(),
        )
        auroc = kpi.analyze(frame)["auroc"]
        write_checked(out / "holdout.json", figures, "holdout")
        atomic_write_json(out / "holdout_score.json", {"auroc": auroc})
        publish.publish(out, final, inputs_digest=inputs)
    point = read_checked(final / "holdout.json", "holdout")["point"]
    auroc = read_json(final / "holdout_score.json", what="hold-out AUROC")["auroc"]
    return {**{k: point[k] for k in HOLDOUT_KEYS}, "auroc": auroc}


def render(ctx: RunContext) -> Path:
    """Write the HTML report from disk."""
    from deft_aoi.report.render import render_report

    return render_report(ctx.run.root)


def report(ctx: RunContext, _label: str, _attempt: int) -> Outcome:
    """The final report."""
    path = render(ctx)
    return Outcome(f"report written: {path.name}", {}, {"sha256": sha256_file(path), "path": ctx.run.rel(path)})
