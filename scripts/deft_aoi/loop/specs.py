"""Derived specs: what each job is given. Absolute paths only; the workspace's spec is never touched.

Outputs are not named in a derived spec: the job's results folder is a command-line override, so that a spec on record
never holds the name of an attempt folder.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deft_aoi.contract import spec as specs
from deft_aoi.contract.paths import Workspace
from deft_aoi.contract.splits import DATASET_KEYS, absolute, csv_path, images_dir
from deft_aoi.loop.config import RunConfig, effective_spec


def _dataset(spec: specs.Spec, split: str, csv: Path, images: Path) -> None:
    specs.put(spec, f"dataset.classify.{DATASET_KEYS[split]}", {"csv_path": str(csv), "images_dir": str(images)})


def _backbone(workspace: Workspace, spec: specs.Spec) -> None:
    """Make the backbone file absolute; TAO loads it whenever it builds the model."""
    path = specs.get(spec, "model.backbone.pretrained_backbone_path")
    if path:
        specs.put(
            spec, "model.backbone.pretrained_backbone_path", str(absolute(workspace, str(path), "pretrained_backbone_path"))
        )


def train_spec(
    workspace: Workspace,
    user_spec: specs.Spec,
    config: RunConfig,
    *,
    train_csv: Path,
    train_images: Path,
    pretrained: Path | None,
    csvs: Mapping[str, Path] | None = None,
) -> specs.Spec:
    """The spec of one training.

    Args:
        workspace: the workspace.
        user_spec: its spec as read.
        config: the run's configuration.
        train_csv: rows to train on, absolute.
        train_images: what their paths are relative to, absolute.
        pretrained: checkpoint to fine-tune from; ``None`` for the baseline's own initialisation.
        csvs: derived rows of ``validation`` and of the KPI set (``infer``, ``test``), absolute; others are the workspace's.
    """
    base = effective_spec(user_spec, config)
    spec = specs.merge(base, {"task": "classify"})
    _dataset(spec, "train", train_csv, train_images)
    for split in ("validation", "test", "infer"):
        csv = (csvs or {}).get(split) or csv_path(workspace, base, split)
        _dataset(spec, split, csv, images_dir(workspace, base, split))
    _backbone(workspace, spec)
    specs.put(spec, "train.num_epochs", config.training_epochs)
    # The best-validation checkpoint must exist, so every validated epoch is kept until the choice is made; TAO asserts
    # that neither interval exceeds num_epochs.
    interval = min(int(specs.get(base, "train.validation_interval") or 1), config.training_epochs)
    specs.put(spec, "train.validation_interval", interval)
    specs.put(spec, "train.checkpoint_interval", interval)
    specs.put(spec, "train.seed", config.seed)
    specs.put(spec, "train.resume_training_checkpoint_path", None)
    if pretrained is not None:
        specs.put(spec, "train.pretrained_model_path", str(pretrained))
        fine_tune = specs.get(base, "deft.fine_tune") or {}
        for key, value in _leaves(fine_tune):
            specs.put(spec, key, value)
    specs.drop(spec, "deft")
    if config.engine == "tao":
        # Numbered as the job sees them: a container, an allocation and CUDA_VISIBLE_DEVICES all count from 0 again.
        specs.put(spec, "train.num_gpus", config.num_gpus)
        specs.put(spec, "train.gpu_ids", list(range(config.num_gpus)))
    return spec


def inference_spec(trained_with: specs.Spec, *, csv: Path, images: Path) -> specs.Spec:
    """The spec of one inference: the training's model and data blocks, one GPU, no augmentation.

    Multi-GPU inference puts scores on the wrong rows.
    """
    spec = specs.merge(trained_with)
    for split in ("test", "infer"):
        _dataset(spec, split, csv, images)
    specs.put(spec, "dataset.classify.augmentation_config.augment", False)
    specs.drop(spec, "train.pretrained_model_path")
    specs.put(spec, "inference.num_gpus", 1)
    specs.put(spec, "inference.gpu_ids", [0])
    return spec


def _leaves(node: Any, prefix: str = "") -> list[tuple[str, Any]]:
    if not isinstance(node, dict):
        return [(prefix, node)]
    return [leaf for k, v in node.items() for leaf in _leaves(v, f"{prefix}.{k}" if prefix else str(k))]


def refuse_outside(workspace: Workspace, spec: specs.Spec) -> None:
    """Refuse specs whose outputs would land outside the workspace (``results_dir: /results/…``)."""
    for key in ("results_dir", "train.results_dir", "inference.results_dir", "evaluate.results_dir"):
        value = specs.get(spec, key)
        if value:
            absolute(workspace, str(value), key)
