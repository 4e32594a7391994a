"""Baseline training and fine-tuning."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from deft_aoi.analysis.dataset_files import base_training_set
from deft_aoi.analysis.identity import ContentIndex
from deft_aoi.analysis.metric import best_iteration
from deft_aoi.contract import spec as specs
from deft_aoi.contract.changenet_csv import read_changenet_csv, write_changenet_csv
from deft_aoi.contract.errors import HardStop
from deft_aoi.contract.files import copy_hashed, digest_json, sha256_file
from deft_aoi.contract.manifests import read_manifest
from deft_aoi.engines import success
from deft_aoi.loop import champion, lineage, registered
from deft_aoi.loop import specs as derive
from deft_aoi.loop.context import RunContext, StageResult
from deft_aoi.loop.launch import Job, run_job, write_spec
from deft_aoi.loop.recorded_spec import training_spec_path
from deft_aoi.record import provenance, publish
from deft_aoi.record.publish import publish_digest

LATEST = "changenet_model_classify_latest.pth"


def train(ctx: RunContext, label: str, attempt: int) -> StageResult:
    """Train the baseline, or fine-tune the previous best checkpoint on this iteration's rows."""
    final = ctx.run.stage_dir(label, "train")
    if label == "baseline" and (adopted := _adopted(ctx)):
        return _adopt_upstream(ctx, final, adopted)
    rows, pretrained = _inputs(ctx, label)
    train_csv = rows.csv
    others = _judging_rows(ctx)
    spec = derive.train_spec(
        ctx.workspace,
        ctx.user_spec,
        ctx.config,
        train_csv=train_csv,
        train_images=rows.images,
        pretrained=pretrained,
        csvs={split: it.csv for split, it in others.items()},
    )
    path = write_spec(ctx, label, "train", spec)
    inputs = digest_json(
        {
            "spec": sha256_file(path),
            "train": sha256_file(train_csv),
            "pretrained": sha256_file(pretrained) if pretrained else "",
            "engine": ctx.config.engine,
        }
    )
    if publish.adopt(final, inputs_digest=inputs) is None:
        _require_images(ctx, label)
        out = Path(publish.attempt_dir(final, inputs_digest=inputs))
        run_job(
            ctx,
            Job(
                label,
                "train",
                "",
                attempt,
                "train",
                path,
                (f"train.results_dir={out}",),
                out,
                out,
                out / "train.log",
                reads=tuple(dict.fromkeys(path for it in (rows, *others.values()) for path in it.files)),
                at_launch=lambda: _resume(out),
            ),
        )
        _require_images(ctx, label)  # a pool image that changed meanwhile may have been seen in both states
        publish.publish(out, final, inputs_digest=inputs)
    outcome = _outcome(ctx, label, final, rows=_rows(train_csv), pretrained=pretrained)
    return replace(outcome, evidence={**outcome.evidence, "spec_sha256": sha256_file(path)})


def _require_images(ctx: RunContext, label: str) -> None:
    """The images that this iteration trains on are those that its rows were mined with (the baseline's are the plan's)."""
    from deft_aoi.loop.stages.dataset import training_set

    if label != "baseline":
        training_set(ctx, label)


def _judging_rows(ctx: RunContext) -> dict[str, registered.Rows]:
    """What a training's spec names beside its own rows, by block."""
    kpi = registered.split_rows(ctx, "kpi")
    return {"validation": registered.split_rows(ctx, "validation"), "test": kpi, "infer": kpi}


def _inputs(ctx: RunContext, label: str) -> tuple[registered.Rows, Path | None]:
    """``(rows to train on, checkpoint to start from)``."""
    if label == "baseline":
        return registered.split_rows(ctx, "train"), None
    from deft_aoi.loop.stages.dataset import rows_csv, training_set

    part = training_set(ctx, label)
    given = registered.Rows(rows_csv(ctx, label), ctx.workspace.root, part.frame)
    rows = registered.derive_rows(ctx, f"{label}-train", given, part.layout, part.ids)
    best = best_iteration(ctx.state())
    if best is None:
        raise HardStop("there is no checkpoint to fine-tune from", expected="an evaluated baseline")
    checkpoint = ctx.path(best["best_ckpt_path"])
    if sha256_file(checkpoint) != best["best_ckpt_sha256"]:
        raise HardStop(
            "the previous best checkpoint is not the one on record",
            expected=f"sha256 {best['best_ckpt_sha256'][:16]}",
            found=str(checkpoint),
            hint="restore it, or verify_run.py for the whole picture",
        )
    return rows, checkpoint


def _resume(out: Path) -> tuple[str, ...]:
    """Continue this very training from its newest whole checkpoint, when it was interrupted.

    A fresh attempt folder is empty, so a trainer never finds another training's ``*_latest.pth`` in it; a torn newest
    checkpoint and a link to one are removed, since TAO would resume from the link without a word.
    """
    whole = success.new_checkpoints(out, 0)
    for path in out.glob("*.pth"):
        if path.is_symlink() or path not in whole:
            path.unlink()
    return (f"train.resume_training_checkpoint_path={whole[-1]}",) if whole else ()


def _rows(csv: Path) -> int:
    with csv.open("rb") as handle:
        return sum(1 for line in handle if line.strip()) - 1


def _outcome(ctx: RunContext, label: str, final: Path, *, rows: int, pretrained: Path | None) -> StageResult:
    checkpoints = success.new_checkpoints(final, 0)
    if not checkpoints:
        raise HardStop("the published training holds no whole checkpoint", found=str(final))
    losses = success.validation_losses(final / "status.json")
    by_epoch = {epoch_of(path): path for path in checkpoints}
    scored = {e: loss for e, loss in losses.items() if e in by_epoch}
    best_epoch = min(scored, key=lambda e: (scored[e], e)) if scored else epoch_of(checkpoints[-1])
    best, latest = by_epoch[best_epoch], checkpoints[-1]
    epochs = epoch_of(latest) + 1  # not the number of losses: TAO validates every few epochs
    state = {
        "train_rows": rows,
        "ckpt_best_val": ctx.run.rel(best),
        "ckpt_latest": ctx.run.rel(latest),
        "val_loss": scored.get(best_epoch),
    }
    evidence = {
        "manifest": publish_digest(final),
        "best_val_sha256": sha256_file(best),
        "latest_sha256": sha256_file(latest),
        "epochs": epochs,
        "automl_policy": ctx.config.automl_policy,
        "fine_tuned_from": ctx.run.rel(pretrained) if pretrained else None,
        "engine": ctx.config.engine,
    }
    loss = f", lowest validation loss {scored[best_epoch]:.4f} at epoch {best_epoch + 1}" if scored else ""
    return StageResult(f"{label} trained on {rows} rows, {epochs} epochs{loss}", state, evidence)


def epoch_of(checkpoint: Path) -> int:
    """0-based epoch in the checkpoint's name."""
    return int(checkpoint.name.split("_")[2])


def _adopted(ctx: RunContext) -> dict[str, str]:
    """File name → SHA-256 of what an upstream phase left, as the approval's event has it; empty: there was nothing."""
    found: dict[str, str] = provenance.latest_ok_data(ctx.events())["run", "approve"].get("adopted", {})
    return found


def _adopt_upstream(ctx: RunContext, final: Path, files: dict[str, str]) -> StageResult:
    """Take over the baseline checkpoint that an upstream AutoML phase left, with its own spec.

    Raises:
        HardStop: a file is not the one that was scanned when the run was opened.
    """
    own = "experiment.yaml"
    checkpoint = next(name for name in files if name.endswith(".pth"))
    digest = files[checkpoint]
    inputs = digest_json({"adopted": files})
    name = checkpoint if checkpoint.startswith("model_epoch_") else "model_epoch_000_step_00001.pth"
    if publish.adopt(final, inputs_digest=inputs) is None:
        out = Path(publish.attempt_dir(final, inputs_digest=inputs))
        for source, recorded in files.items():
            if source not in (checkpoint, own):
                continue
            kept = ctx.run.run / "adopted" / source
            if not kept.is_file() or copy_hashed(kept, out / (name if source == checkpoint else own))[1] != recorded:
                raise HardStop(
                    "the adopted baseline is not the one that was scanned when the run was opened",
                    expected=f"sha256 {recorded[:16]}",
                    found=str(kept),
                    hint="restore it, or open a new run",
                )
        if champion.KEPT in files:
            _write_champion_rows(ctx, out / champion.ROWS)
        publish.publish(out, final, inputs_digest=inputs)
    relative = ctx.run.rel(final / name)
    state = {"train_rows": None, "ckpt_best_val": relative, "ckpt_latest": relative, "val_loss": None, "adopted": True}
    evidence = {"manifest": publish_digest(final), "best_val_sha256": digest, "latest_sha256": digest, "adopted": True}
    if (known := champion.adopted(ctx.run)) is None:
        return StageResult("baseline checkpoint adopted from an upstream phase; not trained here", state, evidence)
    said, rows = known[0], known[0]["lineage_rows"]["rows"]
    state["train_rows"] = rows
    here = len(read_changenet_csv(final / champion.ROWS, what="champion's rows")) if (final / champion.ROWS).is_file() else 0
    return StageResult(
        f"champion {said['iteration']} of {said['run']} adopted, trained on {rows:,} rows; {here:,} of them are here beside the "
        "training set and are trained on again",
        state,
        evidence,
    )


def _write_champion_rows(ctx: RunContext, target: Path) -> None:
    """The champion's rows that this workspace still has and its training set does not: what iterations start from, too."""
    known = champion.adopted(ctx.run)
    assert known is not None  # the caller asked
    body, file = known
    base = base_training_set(ctx.splits["train"], ctx.workspace, ctx.identities["train"])
    rows = lineage.still_here(lineage.read(file, body["lineage_rows"]["sha256"]), base, ContentIndex(ctx.digest_cache))
    if len(rows):
        write_changenet_csv(rows[["input_path", "golden_path", "label", "object_name", "provenance", "content_id"]], target)


def training_spec(ctx: RunContext, label: str) -> specs.Spec:
    """The spec that iteration ``label`` was trained with (an adopted baseline: the workspace's)."""
    path = training_spec_path(ctx.run, label)
    if path.is_file():
        return specs.load_spec(path, what=f"{label} training spec")
    return derive.train_spec(
        ctx.workspace,
        ctx.user_spec,
        ctx.config,
        train_csv=ctx.splits["train"].csv,
        train_images=ctx.splits["train"].layout.images_dir,
        pretrained=None,
    )  # only its model and data blocks are used, never its rows


def prune(ctx: RunContext, label: str, keep: set[str]) -> int:
    """Delete checkpoints of a published training that nobody chose.

    The manifest goes on naming them: it is on record by its digest, so it is never written again.

    Returns:
        How many files of the training are gone, whichever call deleted them.
    """
    final = ctx.run.stage_dir(label, "train")
    listed = [final / entry["path"] for entry in read_manifest(final)["files"] if "link" not in entry]
    doomed = [p for p in listed if p.match("model_*.pth") and ctx.run.rel(p) not in keep]
    for path in doomed:
        path.unlink(missing_ok=True)
    return len(doomed)
