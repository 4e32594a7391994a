"""The hand-over: ``best_model.json`` and ``best_model_inference_spec.yaml``, both or neither (issue 8)."""

from __future__ import annotations

from typing import Any

from deft_aoi.contract import spec as specs
from deft_aoi.contract.errors import HardStop
from deft_aoi.contract.files import read_json, sha256_file
from deft_aoi.contract.paths import RunPaths, Workspace
from deft_aoi.contract.schema import read_checked, write_checked
from deft_aoi.loop import dataset_view, gate
from deft_aoi.loop.stages.train import best_so_far
from deft_aoi.record import log
from deft_aoi.record.state import load_state

STATUS = {
    "kpi_met": "final: the KPI is met",
    "max_iterations": "final: the KPI is not met",
    "pool_exhausted": "final: the KPI is not met and the pool has nothing more",
    "hard_stop": "best so far: the run ended in a hard stop",
    "job_failed": "best so far: a job failed",
    "user_stop": "best so far: stopped by the user",
}


def write(run: RunPaths, workspace: Workspace, *, holdout: dict[str, Any] | None) -> dict[str, Any]:
    """Write both hand-over files for the best checkpoint so far.

    The spec goes first and is named by its digest in ``best_model.json``, so that a reader who finds the JSON finds the
    spec that belongs to it; re-running gives the same bytes.

    Args:
        run: the run.
        workspace: its workspace.
        holdout: the hold-out figures, where they exist.

    Returns:
        The content of ``best_model.json``.

    Raises:
        HardStop: nothing was evaluated yet, or the checkpoint is not the one on record.
    """
    state = load_state(run.root)
    best = best_so_far(state)
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
    trained = _training_spec(run, best["label"], workspace, config)
    spec = inference_spec(trained, checkpoint=str(checkpoint), threshold=best["threshold"])
    specs.dump_spec(spec, run.best_spec)
    kpi = read_json(run.root / best["kpi_json"], what="kpi.json")
    seq, head = log.head(run.root)
    body = {
        "version": 1,
        "status": STATUS.get(state["status"], "best so far: the run goes on"),
        "run": run.root.name,
        "iteration": best["label"],
        "engine": config.engine,
        "platform": config.platform,
        "image": (plan["images"].get("visual_changenet") or {}).get("id"),
        "backbone": {
            "type": specs.backbone_type(trained),
            "path": specs.get(trained, "model.backbone.pretrained_backbone_path"),
        },
        "checkpoint": {"path": str(checkpoint), "sha256": best["best_ckpt_sha256"], "choice": best["chosen"]},
        "inference_spec": {"path": str(run.best_spec), "sha256": sha256_file(run.best_spec)},
        "images_dir": specs.get(trained, "dataset.classify.infer_dataset.images_dir"),
        "rule": "score > threshold: defect",
        "threshold": best["threshold"],
        "threshold_interval": [kpi["target_point"]["interval_low"], kpi["target_point"]["interval_high"]],
        "kpi_target": config.kpi_target,
        "verdict": best["verdict"],
        "far_fraction": best["far_fraction"],
        "far_interval": kpi["target_point"]["far_interval"],
        "recall_fraction": best["recall_fraction"],
        "recall_interval": kpi["target_point"]["recall_interval"],
        "auroc": kpi["auroc"],
        "holdout": holdout,
        "training_set": _training_digest(run, best["label"], workspace),
        "plan_digest": plan["digest"],
        "record_head": {"seq": seq, "digest": head},
    }
    write_checked(run.best_model, body, "best_model")
    return body


def inference_spec(trained: specs.Spec, *, checkpoint: str, threshold: float) -> specs.Spec:
    """The consumer's spec: the winning training's model and data blocks, no data sets, the checkpoint and its threshold.

    ``train.classify`` stays: TAO asserts on the pair of loss and difference module (TAO_CONTRACT section 3).
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


def _training_spec(run: RunPaths, label: str, workspace: Workspace, config: Any) -> specs.Spec:
    path = run.run / "specs" / f"{label}-train.yaml"
    if path.is_file():
        return specs.load_spec(path, what=f"{label} training spec")
    from deft_aoi.loop import specs as derive

    user = specs.load_spec(workspace.baseline_spec, what="baseline spec")
    csv, images = dataset_view.split_source(workspace, user, "train")
    return derive.train_spec(workspace, user, config, train_csv=csv, train_images=images, pretrained=None)


def _training_digest(run: RunPaths, label: str, workspace: Workspace) -> dict[str, Any]:
    csv = workspace.training_csv if label == "baseline" else run.stage_dir(label, "dataset") / f"train_combined_{label}.csv"
    return {"path": str(csv), "sha256": sha256_file(csv)}


def read_best_model(run: RunPaths) -> dict[str, Any]:
    """Read and check ``best_model.json``."""
    body: dict[str, Any] = read_checked(run.best_model, "best_model")
    return body
