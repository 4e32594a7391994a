"""The end: hold-out scored once, the best model handed over, the report written."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from deft_aoi.analysis import kpi
from deft_aoi.analysis.metric import best_iteration
from deft_aoi.contract.errors import DeftError, HardStop, UsageError
from deft_aoi.contract.files import atomic_write_json, digest_json, digests_below, read_json, sha256_file
from deft_aoi.contract.manifests import MANIFEST_NAME
from deft_aoi.contract.paths import RunPaths
from deft_aoi.contract.schema import read_checked, write_checked
from deft_aoi.contract.text import printable
from deft_aoi.loop import gate, handover, registered
from deft_aoi.loop import specs as derive
from deft_aoi.loop.context import RunContext, StageResult
from deft_aoi.loop.launch import write_spec
from deft_aoi.loop.stages import ledger
from deft_aoi.loop.stages.evaluate import contents, kpi_report
from deft_aoi.loop.stages.inference import score, scored_frame
from deft_aoi.loop.stages.train import training_spec
from deft_aoi.record import lock, log, publish
from deft_aoi.record.log import load_state
from deft_aoi.report import trend

BASELINE, COMPARISON = "baseline", "holdout_comparison.json"
UNREGISTERED = "unregistered.json"
HOLDOUT_KEYS = ("far_fraction", "far_interval", "recall_fraction", "recall_interval", "tp", "fp", "tn", "fn")


def hand_over(ctx: RunContext, _label: str, attempt: int) -> StageResult:
    """Score the hold-out with the final checkpoint and threshold, then write the hand-over files."""
    best = best_iteration(ctx.state())
    if best is None:
        raise HardStop("there is nothing to hand over", expected="an evaluated baseline")
    files: dict[str, str] = {}
    try:
        ledger.write(ctx)
        files = ledger.digests(ctx)
    except DeftError as error:  # a list of wishes must not keep the model back
        ctx.say(f"warning: the list of data to collect was not written: {printable(error.message, 160)}")
    holdout = score_holdout(ctx, best, attempt)
    unregistered = score_unregistered(ctx, best, attempt)
    files |= digests_below(ctx.run.root, [ctx.run.rel(f / MANIFEST_NAME) for f in (ctx.run.holdout, ctx.run.unregistered)])
    body = handover.write(ctx.run, ctx.workspace, holdout=holdout, unregistered=unregistered)
    outcome = _outcome(ctx.run, best, body)
    return replace(outcome, evidence={**outcome.evidence, "files": files})


def _outcome(run: RunPaths, best: dict[str, Any], body: dict[str, Any]) -> StageResult:
    text = f"{best['label']} handed over at threshold {best['threshold']!r}: {body['verdict_sentence']}"
    if body["champion"] is not None:
        text += f"; {trend.sentence(body['champion'])}"
    evidence = {**digests(run), "label": best["label"]}
    state = {
        "best_iteration": best["label"],
        "status_at_end": body["status"],
        "verdict": body["verdict"],
        "verdict_sentence": body["verdict_sentence"],
        **({} if body["champion"] is None else {"champion": trend.sentence(body["champion"])[:600]}),
    }
    return StageResult(text, state, evidence)


def digests(run: RunPaths) -> dict[str, str]:
    """Digests of the hand-over files, as the record keeps them."""
    files = {"best_model_sha256": run.best_model, "best_spec_sha256": run.best_spec, "lineage_sha256": run.lineage}
    return {key: sha256_file(path) for key, path in files.items()}


def prepare(results_dir: Path, output_dir: Path | None = None) -> tuple[dict[str, Any], Path]:
    """Hand over the best checkpoint so far, at any time after the first evaluation; nothing is scored for it.

    Args:
        results_dir: the run's folder.
        output_dir: another folder; the run and its record are then left as they are, even while a driver works on it.

    Returns:
        ``(best_model.json, its path)``.

    Raises:
        ApprovalNeeded: the run has no approved plan.
        RunLocked: a driver holds the run, and no other folder was named.
        HardStop: nothing was evaluated yet, or a file is not the one on record.
    """
    run = RunPaths(Path(results_dir).expanduser().resolve())
    if not run.log.exists():
        raise UsageError(f"{printable(run.root.name)} is not a run", expected="a folder with loop_log.jsonl", found=str(run.root))
    gate.load_plan(run)
    if output_dir is not None:
        folder = Path(output_dir).expanduser().resolve()
        return handover.write(run, run.workspace, **_known(run), output_dir=folder), folder / run.best_model.name
    with lock.DriverLock(run.root):
        body = handover.write(run, run.workspace, **_known(run))
        state = load_state(run.root)
        handed = [e for e in log.read(run.root) if e["stage"] == "handoff" and e["status"] == "ok"]
        if not handed or any(handed[-1]["data"].get(k) != v for k, v in digests(run).items()):
            best = best_iteration(state)
            assert best is not None  # else there was nothing to hand over
            outcome = _outcome(run, best, body)
            log.append(
                run.root,
                iter_label="run",
                stage="handoff",
                status="ok",
                summary=outcome.summary[:400],
                data={**outcome.evidence, "state": outcome.state},
                op_id=f"run/handoff/{len(handed) + 1}",
            )
    return body, run.best_model


def _known(run: RunPaths) -> dict[str, Any]:
    """The figures that were measured for this very checkpoint and threshold; nothing is scored for them."""
    best, spec = best_iteration(load_state(run.root)), run.run / "specs" / "run-unregistered.yaml"
    unregistered = None
    if best is not None and spec.is_file():
        inputs = _unregistered_inputs(spec, best)
        if publish.adopt(run.unregistered, inputs_digest=inputs) is not None:
            unregistered = read_json(run.unregistered / UNREGISTERED, what="figures on unregistered pairs")
    return {"holdout": _known_holdout(run), "unregistered": unregistered}


def _unregistered_inputs(spec: Path, best: dict[str, Any]) -> str:
    return digest_json([sha256_file(spec), best["best_ckpt_sha256"], best["threshold"]])


def score_unregistered(ctx: RunContext, best: dict[str, Any], attempt: int) -> dict[str, Any] | None:
    """What a model of registered pairs does on KPI pairs as they lie: for a station that cannot register.

    Returns:
        Its own threshold there with FAR and recall, and both at the threshold that is handed over; ``None`` where the run
        does not register.
    """
    if ctx.config.preprocessing is None:
        return None
    rows, final = registered.split_rows(ctx, "kpi", raw=True), ctx.run.unregistered
    spec = derive.inference_spec(training_spec(ctx, best["label"]), csv=rows.csv, images=rows.images)
    path = write_spec(ctx, "run", "unregistered", spec)
    inputs = _unregistered_inputs(path, best)
    if publish.adopt(final, inputs_digest=inputs) is None:
        out = Path(publish.attempt_dir(final, inputs_digest=inputs))
        score(ctx, "run", "handoff", "unregistered", attempt, path, ctx.path(best["best_ckpt_path"]), out, rows)
        report, frame = kpi_report(ctx, out / "inference.csv", "kpi")
        point = report["target_point"]
        there = kpi.apply_threshold(frame, best["threshold"], **contents(ctx, "kpi"))["point"]
        figures = {k: point[k] for k in ("threshold", "far_fraction", "recall_fraction")}
        figures["at_this_threshold"] = {k: there[k] for k in ("far_fraction", "recall_fraction")}
        atomic_write_json(out / UNREGISTERED, figures)
        publish.publish(out, final, inputs_digest=inputs)
    found: dict[str, Any] = read_json(final / UNREGISTERED, what="figures on unregistered pairs")
    return found


def _known_holdout(run: RunPaths) -> dict[str, Any] | None:
    """The hold-out figures, where this very checkpoint and threshold were scored."""
    best, spec = best_iteration(load_state(run.root)), run.run / "specs" / "run-holdout.yaml"
    if best is None or not spec.is_file() or not run.workspace.holdout_csv.is_file():
        return None
    inputs = _holdout_inputs(spec, run.workspace.holdout_csv, best)
    return _figures(run.holdout) if publish.adopt(run.holdout, inputs_digest=inputs) is not None else None


def _holdout_inputs(spec: Path, csv: Path, best: dict[str, Any]) -> str:
    return digest_json([sha256_file(spec), sha256_file(csv), best["best_ckpt_sha256"], best["threshold"]])


def _figures(folder: Path) -> dict[str, Any]:
    baseline, paired = folder / BASELINE / "holdout.json", folder / COMPARISON
    if not paired.exists():
        return handed_figures(read_checked(folder / "holdout.json", "holdout"), None, None)
    return handed_figures(
        *(read_checked(f, "holdout") for f in (folder / "holdout.json", baseline)), read_checked(paired, "comparison")
    )


def handed_figures(figures: dict[str, Any], baseline: dict[str, Any] | None, paired: dict[str, Any] | None) -> dict[str, Any]:
    """What ``best_model.json`` says of the hold-out: of the model handed over and, where it is another, of the baseline."""
    out = {k: figures["point"][k] for k in HOLDOUT_KEYS}
    out |= {k: figures[k] for k in ("auroc", "says", "misses_p_value")}
    if baseline is not None and paired is not None:
        before = {k: baseline["point"][k] for k in HOLDOUT_KEYS}
        out["baseline"] = before | {k: paired[k] for k in ("mcnemar_p_good_parts", "mcnemar_p_defects")}
    return out


def score_holdout(ctx: RunContext, best: dict[str, Any], attempt: int) -> dict[str, Any] | None:
    """Score ``kpi/holdout_set.csv`` once, with the model handed over and the baseline, at thresholds fixed on the KPI set.

    Returns:
        The figures; ``None`` where there is no hold-out.
    """
    split = ctx.splits.get("holdout")
    if split is None:
        return None
    final = ctx.run.holdout
    rows = registered.split_rows(ctx, "holdout")
    spec = derive.inference_spec(training_spec(ctx, best["label"]), csv=rows.csv, images=rows.images)
    path = write_spec(ctx, "run", "holdout", spec)
    inputs = _holdout_inputs(path, split.csv, best)
    if publish.adopt(final, inputs_digest=inputs) is None:
        out = Path(publish.attempt_dir(final, inputs_digest=inputs))
        score(ctx, "run", "handoff", "holdout", attempt, path, ctx.path(best["best_ckpt_path"]), out, rows)
        write_checked(out / "holdout.json", measure(ctx, out / "inference.csv", best), "holdout")
        first = {**ctx.iteration(BASELINE), "label": BASELINE}
        if best["label"] != BASELINE:
            base = derive.inference_spec(training_spec(ctx, BASELINE), csv=rows.csv, images=rows.images)
            base_path, base_out = write_spec(ctx, "run", "holdout_baseline", base), out / BASELINE
            checkpoint = ctx.path(first["best_ckpt_path"])
            score(ctx, "run", "handoff", "holdout_baseline", attempt, base_path, checkpoint, base_out, rows)
            write_checked(base_out / "holdout.json", measure(ctx, base_out / "inference.csv", first), "holdout")
            write_checked(out / COMPARISON, paired(ctx, out, first, best), "comparison")
        publish.publish(out, final, inputs_digest=inputs)
    return _figures(final)


def paired(ctx: RunContext, folder: Path, first: dict[str, Any], best: dict[str, Any]) -> dict[str, Any]:
    """Whether the loop helped on boards that took no part: both models on the same rows, each at its own threshold."""
    from deft_aoi.analysis import compare

    old: Any = scored_frame(ctx, folder / BASELINE / "inference.csv", "holdout")
    new: Any = scored_frame(ctx, folder / "inference.csv", "holdout")
    return compare.compare(old, new, first["threshold"], best["threshold"], target=ctx.config.target, **contents(ctx, "holdout"))


def measure(ctx: RunContext, csv: Path, model: dict[str, Any]) -> dict[str, Any]:
    """A scored hold-out at the threshold that an iteration's KPI set fixed."""
    frame: Any = scored_frame(ctx, csv, "holdout")
    return kpi.apply_threshold(
        frame,
        model["threshold"],
        target=ctx.config.target,
        **contents(ctx, "holdout"),
        kpi_point=read_checked(ctx.path(model["kpi_json"]), "kpi")["target_point"],
        rules=ctx.config.judging,
    )


def render(ctx: RunContext) -> Path:
    """Write the HTML report from disk; after an iteration's RCA also its summary, once (somebody may have added to it).

    The summary of the model handed over gets the verdict that the hold-out decides.
    """
    from deft_aoi.report import summary
    from deft_aoi.report.render import render_report

    for label, it in ctx.state().get("iterations", {}).items():
        if label != "baseline" and "rca" in it["stages"]:
            if not summary.file_of(ctx.run.root, label).exists():
                summary.write(ctx.run.root, label)
            elif ctx.state()["run"].get("best_iteration") == label:
                summary.refresh(ctx.run.root, label)
    return render_report(ctx.run.root)


def report(ctx: RunContext, _label: str, _attempt: int) -> StageResult:
    """The final report."""
    path = render(ctx)
    return StageResult(f"report written: {path.name}", {}, {"sha256": sha256_file(path), "path": ctx.run.rel(path)})
