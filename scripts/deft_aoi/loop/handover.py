"""The hand-over: ``best_model.json``, ``best_model_inference_spec.yaml`` and ``lineage.parquet``, all or none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from deft_aoi.analysis.dataset_files import training_csv
from deft_aoi.analysis.metric import best_iteration
from deft_aoi.analysis.metric_values import RESULT_FILE
from deft_aoi.analysis.verdict import facts_of, sentence, verdict_of
from deft_aoi.contract import spec as specs
from deft_aoi.contract.errors import HardStop
from deft_aoi.contract.files import fsync_dir, sha256_file
from deft_aoi.contract.paths import RunPaths, Workspace
from deft_aoi.contract.schema import read_checked, write_checked
from deft_aoi.contract.splits import csv_path, load_split, split_source
from deft_aoi.engines.container_images import pinned_image
from deft_aoi.loop import champion, gate, lineage
from deft_aoi.loop.config import RunConfig, effective_spec
from deft_aoi.loop.recorded_spec import training_spec_path
from deft_aoi.record import log, provenance
from deft_aoi.record.log import load_state
from deft_aoi.record.state import fold

STATUS = {
    "kpi_met": "final",
    "max_iterations": "final: all iterations are done",
    "pool_exhausted": "final: the pool has nothing more",
    "hard_stop": "best so far: the run ended in a hard stop",
    "job_failed": "best so far: a job failed",
    "user_stop": "best so far: stopped by the user",
}
AFTERTHOUGHTS = ("handoff", "report", "usage", "note")
"""Stages that leave the model as it is: repeating a hand-over after them gives the same bytes."""


def write(
    run: RunPaths,
    workspace: Workspace,
    *,
    holdout: dict[str, Any] | None,
    unregistered: dict[str, Any] | None = None,
    output_dir: Path | None = None,
) -> dict[str, Any]:
    """Write the hand-over files for the best checkpoint so far: all, or none.

    Everything is checked and all files are whole on disk before one gets its name. The old ``best_model.json`` goes
    first and the new one comes last, so whoever finds it finds the files that it names by digest. The bytes depend on
    what the loop did, not on when the hand-over is repeated.

    Args:
        run: the run.
        workspace: its workspace.
        holdout: the hold-out figures, where they exist.
        unregistered: the same model's figures on KPI pairs that nobody registered, where they exist.
        output_dir: where to write; ``None``: into the run's folder.

    Returns:
        The content of ``best_model.json``.

    Raises:
        HardStop: nothing was evaluated yet, or a file is not the one on record.
    """
    folder = run.root if output_dir is None else output_dir
    targets = tuple(folder / path.name for path in (run.best_model, run.best_spec, run.lineage))
    folder.mkdir(parents=True, exist_ok=True)
    new_model, new_spec, new_rows = (p.with_name(f".{p.name}.new") for p in targets)
    try:
        body, spec = _content(run, workspace, holdout, unregistered)
        specs.dump_spec(spec, new_spec, comments=_comments(body["preprocessing"]))
        body["inference_spec"] = {"path": str(targets[1]), "sha256": sha256_file(new_spec)}
        before, state = champion.adopted(run), load_state(run.root)
        rows = _write_lineage_rows(run, workspace, before, body["iteration"], body["checkpoint"]["sha256"], new_rows)
        body["lineage_rows"] = {"path": str(targets[2]), "sha256": sha256_file(new_rows), "rows": rows}
        best = best_iteration(state)
        assert best is not None  # its content is there
        body["champion"] = None if before is None else champion.outcome(run, state, best, before[0])
        body["history"] = champion.history(body, before[0] if before else None, gate.load_plan(run)[0]["inputs"]["kpi"])
        write_checked(new_model, body, "best_model")
        targets[0].unlink(missing_ok=True)
        new_rows.replace(targets[2])
        new_spec.replace(targets[1])
        new_model.replace(targets[0])
        fsync_dir(folder)
    finally:
        for path in (new_model, new_spec, new_rows):
            path.unlink(missing_ok=True)
    return body


def _content(
    run: RunPaths, workspace: Workspace, holdout: dict[str, Any] | None, unregistered: dict[str, Any] | None
) -> tuple[dict[str, Any], specs.Spec]:
    """``(best_model.json without its spec, the spec)`` with every file they name checked."""
    state = load_state(run.root)
    best = best_iteration(state)
    if best is None:
        raise HardStop("there is nothing to hand over", expected="at least an evaluated baseline")
    checkpoint = run.root / best["best_ckpt_path"]
    if not checkpoint.is_file() or sha256_file(checkpoint) != best["best_ckpt_sha256"]:
        raise HardStop(
            "the best checkpoint is not the one on record",
            expected=f"sha256 {best['best_ckpt_sha256'][:16]}",
            found=str(checkpoint),
            hint="restore it; verify_run.py tells what else does not hold",
        )
    plan, config = gate.load_plan(run)
    trained, trained_with = _training_spec(run, best["label"], workspace, config)
    provenance.require(run, log.read(run.root), *_read_for(run, best))
    kpi = read_checked(run.root / best["kpi_json"], "kpi")
    point = kpi["target_point"]
    met = best["kpi_met"] if config.primary_metric is not None else None
    facts = facts_of(kpi, holdout, met)
    image = plan["images"].get("visual_changenet") or None
    body = {
        "version": 1,
        "status": STATUS.get(state["status"], "best so far: the run goes on"),
        "run": run.root.name,
        "iteration": best["label"],
        "engine": config.engine,
        "platform": config.platform,
        "image": None if image is None else {"reference": image.get("reference"), "id": pinned_image(image, log.read(run.root))},
        "backbone": _backbone(trained),
        "checkpoint": {"path": str(checkpoint), "sha256": best["best_ckpt_sha256"], "choice": best["chosen"]},
        "images_dir": specs.get(trained, "dataset.classify.infer_dataset.images_dir"),
        "rule": "score > threshold: defect",
        "preprocessing": _preprocessing(config, unregistered),
        "threshold": best["threshold"],
        "threshold_interval": [point["interval_low"], point["interval_high"]],
        "kpi_target": config.kpi_target,
        "verdict": verdict_of(facts),
        "facts": facts.as_dict(),
        "verdict_sentence": sentence(kpi, holdout, met),
        "threshold_rule": kpi["threshold_rule"],
        "far_fraction": best["far_fraction"],
        "far_interval": point["far_interval"],
        "recall_fraction": best["recall_fraction"],
        "recall_interval": point["recall_interval"],
        "metric": None if config.primary_metric is None else _metric(run, best),
        "counts": {k: point[k] for k in ("tp", "fp", "tn", "fn")},
        "auroc": kpi["auroc"],
        "holdout": holdout,
        "training_spec": trained_with,
        "training_set": _training_digest(run, best["label"], workspace),
        "lineage": _lineage(run, best["label"]),
        "plan_digest": plan["digest"],
        "record_head": _record_head(run),
    }
    return body, inference_spec(trained, checkpoint=str(checkpoint), threshold=best["threshold"])


def _read_for(run: RunPaths, best: dict[str, Any]) -> list[str]:
    """What the hand-over reads of the winning iteration, relative to the run."""
    label, names = best["label"], [best["kpi_json"]]
    if best.get("primary_metric"):
        names.append(run.rel((run.root / best["inference_csv"]).with_name(RESULT_FILE)))
    return names if label == "baseline" else [*names, f"{label}/dataset/train_combined_{label}.csv"]


def _preprocessing(config: RunConfig, unregistered: dict[str, Any] | None) -> dict[str, Any]:
    """What a pair must go through before this model sees it, and what the model does where nobody does it."""
    how = config.preprocessing
    if how is None:
        return {"required": None, "unregistered_kpi": None}
    command = (
        "infer.py does it by itself; elsewhere: register_goldens.py --model best_model.json --csv CSV --images DIR --output DIR"
    )
    return {"required": {**how.as_dict(), "command": command}, "unregistered_kpi": unregistered}


def _comments(preprocessing: dict[str, Any]) -> list[str]:
    """The first lines of the inference spec: whoever runs it elsewhere must not feed goldens as they lie."""
    required, raw = preprocessing["required"], preprocessing["unregistered_kpi"]
    if required is None:
        return []
    lines = [
        "This model was trained on REGISTERED pairs: each golden is moved onto its test before they are compared.",
        f"Method {required['method']} at {required['width']} x {required['height']} px, parameters in best_model.json.",
        "Register first: register_goldens.py --model best_model.json --csv CSV --images DIR --output DIR",
    ]
    if raw is not None:
        lines.append(
            f"On KPI pairs that are not registered, its own threshold would be {raw['threshold']!r}: FAR "
            f"{100 * raw['far_fraction']:.4g}%, recall {100 * raw['recall_fraction']:.4g}%."
        )
    return lines


def _metric(run: RunPaths, best: dict[str, Any]) -> dict[str, Any]:
    """What the user's own primary metric says of the model: it chose it."""
    found: dict[str, Any] = read_checked((run.root / best["inference_csv"]).with_name(RESULT_FILE), "metric_result")
    return found


def _backbone(trained: specs.Spec) -> dict[str, Any]:
    """The backbone's file, real suffix kept: TAO chooses its reader by the suffix.

    Raises:
        HardStop: the spec names a backbone that is not a file.
    """
    name = specs.get(trained, "model.backbone.pretrained_backbone_path")
    if name and not Path(name).is_file():
        raise HardStop("the backbone of the winning spec is not a file", expected="one weights file", found=str(name))
    return {"type": specs.backbone_type(trained), "path": name or None, "sha256": sha256_file(name) if name else None}


def _lineage(run: RunPaths, label: str) -> list[dict[str, Any]]:
    """The trainings that led to this checkpoint, oldest first: each one's start, data and outcome by digest."""
    trained = {e["iter"]: e["data"] for e in log.read(run.root) if e["stage"] == "train" and e["status"] == "ok"}
    out: list[dict[str, Any]] = []
    current: str | None = label
    while current in trained:
        data = trained[current]
        source = data.get("fine_tuned_from")
        out.append(
            {
                "run": run.root.name,
                "iteration": current,
                "fine_tuned_from": source,
                "best_val_sha256": data["best_val_sha256"],
                "latest_sha256": data["latest_sha256"],
                "train_rows": (data.get("state") or {}).get("train_rows"),
            }
        )
        following = source.split("/")[0] if source else None
        current = following if following != current else None
    before = champion.adopted(run)
    return [*before[0]["lineage"], *(e for e in out[::-1] if e["iteration"] != "baseline")] if before else out[::-1]


def _write_lineage_rows(
    run: RunPaths, workspace: Workspace, before: tuple[dict[str, Any], Path] | None, label: str, checkpoint: str, target: Path
) -> int:
    """Every row that the model was trained on; images that are gone since the first hand-over are not asked for again.

    Returns:
        The number of rows.
    """
    import pandas as pd

    from deft_aoi.analysis.dataset import read_provenance
    from deft_aoi.analysis.dataset_files import base_training_set, provenance_path
    from deft_aoi.analysis.identity import ContentIndex
    from deft_aoi.contract.changenet_csv import read_changenet_csv
    from deft_aoi.contract.files import copy_hashed

    if run.best_model.is_file() and run.lineage.is_file():
        handed = read_best_model(run)
        known = handed.get("lineage_rows", {})
        if handed["checkpoint"]["sha256"] == checkpoint and sha256_file(run.lineage) == known.get("sha256"):
            copy_hashed(run.lineage, target)
            return int(known["rows"])
    if before is not None and label == "baseline":
        copy_hashed(before[1], target)
        return int(before[0]["lineage_rows"]["rows"])
    config = gate.load_plan(run)[1]
    spec = effective_spec(specs.load_spec(workspace.baseline_spec, what="baseline spec"), config)
    index, provenance_of = ContentIndex(workspace.cache_dir / "digests"), None
    if label == "baseline":
        split = load_split(workspace, spec, "train")
        part = base_training_set(split, workspace, index.digest_pairs(split.frame, split.layout, what=split.title))
    else:
        csv = training_csv(run.stage_dir(label, "dataset"), label)
        provenance_of = read_provenance(provenance_path(csv))
        frame = read_changenet_csv(csv, what="training set")
        part = index.part(f"training set of {label}", frame, specs.layout(spec, workspace.root))
    rows = lineage.of_training(part, provenance_of, run.root.name)
    if before is not None:
        rows = pd.concat([lineage.read(before[1], before[0]["lineage_rows"]["sha256"]), rows], ignore_index=True)
    return lineage.write(target, rows)


def _record_head(run: RunPaths) -> dict[str, Any]:
    """The record's last event that a hand-over can depend on: what only reports, notes or hands over comes after it."""
    events = log.read(run.root)
    while events and events[-1]["stage"] in AFTERTHOUGHTS:
        events.pop()
    view = fold(events)
    return {"seq": view["seq"], "digest": view["head"]}


def inference_spec(trained: specs.Spec, *, checkpoint: str, threshold: float) -> specs.Spec:
    """The consumer's spec: the winning training's model and data blocks, no data sets, the checkpoint and its threshold.

    ``train.classify`` stays: TAO asserts on the pair of loss and difference module.
    ``eval_margin`` is the threshold in full precision; only TAO's ``evaluate`` reads it.
    """
    spec = specs.merge(trained)
    for key in ("train_dataset", "validation_dataset", "test_dataset", "infer_dataset"):
        specs.drop(spec, f"dataset.classify.{key}")
    specs.put(spec, "dataset.classify.augmentation_config.augment", False)
    specs.put(spec, "model.classify.eval_margin", threshold)
    loss = specs.get(spec, "train.classify") or {}
    spec["train"] = {"classify": loss}
    spec.pop("evaluate", None)
    spec["inference"] = {"checkpoint": checkpoint, "num_gpus": 1, "gpu_ids": [0]}
    return spec


def _training_spec(run: RunPaths, label: str, workspace: Workspace, config: Any) -> tuple[specs.Spec, dict[str, Any] | None]:
    """The winning training's spec and where it lies; an adopted baseline has none of its own."""
    path = training_spec_path(run, label)
    if path.is_file():
        return specs.load_spec(path, what=f"{label} training spec"), {"path": str(path), "sha256": sha256_file(path)}
    from deft_aoi.loop import specs as derive

    user = specs.load_spec(workspace.baseline_spec, what="baseline spec")
    csv, images = split_source(workspace, user, "train")
    return derive.train_spec(workspace, user, config, train_csv=csv, train_images=images, pretrained=None), None


def _training_digest(run: RunPaths, label: str, workspace: Workspace) -> dict[str, Any]:
    if label == "baseline" and (before := champion.adopted(run)) is not None:
        named: dict[str, Any] = before[0]["training_set"]
        return named
    if label == "baseline":
        csv = csv_path(workspace, specs.load_spec(workspace.baseline_spec, what="baseline spec"), "train")
    else:
        csv = training_csv(run.stage_dir(label, "dataset"), label)
    if not csv.is_file():
        raise HardStop("the winning iteration's training set is missing", expected=str(csv))
    return {"path": str(csv), "sha256": sha256_file(csv)}


def read_best_model(run: RunPaths) -> dict[str, Any]:
    """Read and check ``best_model.json``."""
    body: dict[str, Any] = read_checked(run.best_model, "best_model")
    return body
