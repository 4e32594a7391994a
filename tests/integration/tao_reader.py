"""Run by a Python that has NVIDIA's TAO: do its own classes take what our loop emitted?

    python tao_reader.py CALLS.json > ANSWER.json

``CALLS.json``: the commands of a loop (see `tests/tao_stand_in.py`). Each spec with its overrides is merged into TAO's own
``ExperimentConfig``, as 7.3.0 has it and as 7.0.1 had it (the same tree without ``train.checkpointer``), and each table is
read, row by row, by TAO's own data module. One answer a command; whatever TAO raises ends this program.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import yaml
from nvidia_tao_ds.config.mining.embedding.image_embeddings import ImageEmbeddingsConfig
from nvidia_tao_pytorch.config.visual_changenet.default_config import ExperimentConfig
from nvidia_tao_pytorch.cv.optical_inspection.dataloader.pl_oi_data_module import OIDataModule
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

VERSIONS = ("7.0.1", "7.3.0")


def schema(version: str) -> DictConfig:
    """TAO's typed tree of a release."""
    tree = OmegaConf.structured(ExperimentConfig)
    if version == "7.0.1":
        OmegaConf.set_struct(tree.train, False)
        del tree.train["checkpointer"]
        OmegaConf.set_struct(tree.train, True)
    return tree


def merged(tree: DictConfig, call: dict[str, Any]) -> DictConfig:
    """The spec and its overrides in the tree; an unknown key or a wrong type raises."""
    config = OmegaConf.merge(tree, OmegaConf.create(call["spec"]))
    for word in call["overrides"]:
        key, _, value = word.partition("=")
        OmegaConf.update(config, key, yaml.safe_load(value), force_add=False)
    return config


def leaves(node: Any, prefix: str = "") -> list[str]:
    """Dotted leaf keys of a plain tree."""
    if not isinstance(node, dict) or not node:
        return [prefix]
    return [leaf for key, value in node.items() for leaf in leaves(value, f"{prefix}.{key}" if prefix else key)]


def refuses(version: str, key: str) -> bool:
    """Whether this release's tree refuses a key."""
    try:
        merged(schema(version), {"spec": {}, "overrides": [f"{key}=true"]})
    except OmegaConfBaseException:
        return True
    return False


def read_tables(call: dict[str, Any]) -> dict[str, Any]:
    """Every row of every table of a command through the data module: rows, shape of a batch, labels."""
    config = merged(schema("7.3.0"), {**call, "overrides": [*call["overrides"], "dataset.classify.workers=0"]})
    module = OIDataModule(config, changenet=True)
    module.setup("fit" if call["subtask"] == "train" else "predict")
    loaders = (
        {"train": module.train_dataloader(), "validation": module.val_dataloader()}
        if call["subtask"] == "train"
        else {"infer": module.predict_dataloader()}
    )
    answer = {}
    for split, loader in loaders.items():
        rows = [loader.dataset[i] for i in range(len(loader.dataset))]
        batch = next(iter(loader))
        answer[split] = {
            "rows": len(rows),
            "defects": int(sum(float(row[2]) for row in rows)),
            "batch": [list(part.shape) for part in batch],
        }
    return answer


def main() -> None:
    """Answer for every command."""
    with open(sys.argv[1], encoding="utf-8") as handle:  # noqa: PTH123 - runs under another interpreter, without our paths
        calls = json.load(handle)
    plain = {version: OmegaConf.to_container(schema(version)) for version in VERSIONS}
    found: dict[str, Any] = {
        "leaves": {version: leaves(tree) for version, tree in plain.items()},
        "refuses_checkpointer": [v for v in VERSIONS if refuses(v, "train.checkpointer.enable_topk")],
        "refuses_nonsense": [v for v in VERSIONS if refuses(v, "train.num_epoch")],
        "calls": [],
    }
    for call in calls:
        if call["tool"] == "embedding":
            merged(OmegaConf.structured(ImageEmbeddingsConfig), call)
            found["calls"].append({})
            continue
        for version in VERSIONS:
            merged(schema(version), call)
        found["calls"].append(read_tables(call))
    print("ANSWER " + json.dumps(found))  # noqa: T201


if __name__ == "__main__":
    main()
