"""The spec: TAO's tree (``engines/tao_experiment.yaml``) merged with the spec file and the command line, and checked.

Precedence, lowest first: TAO's schema defaults, the engine's shipped ``specs/embedded_spec.yaml``, the given spec file,
the overrides. OmegaConf refuses unknown keys and wrong types; the constraints that TAO keeps as interface hints or
asserts late are checked here, before anything is read or written.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from deft_aoi.contract.schema import bundle_root
from deft_aoi.engines.tao_tree import experiment_class

BACKBONE = "embedded_siamese"
PAIR_FEATURE = "pair_feature"
SHIPPED_SPEC = bundle_root() / "specs" / "embedded_spec.yaml"


class SpecError(ValueError):
    """The spec or an override is not one that this engine can run; the message is one line."""


@dataclass
class EmbeddingSpec:
    """``embedding image_embeddings``: TAO's keys; ``model`` is ``pair_feature`` and ``model_path`` a checkpoint."""

    input_parquet: str = MISSING
    output_parquet: str = MISSING
    model: str = MISSING
    model_path: str = MISSING
    model_config_path: str = ""
    batch_size: int = 64


def _one_line(error: Exception) -> str:
    """OmegaConf's message without its multi-line key and object report; the full key is kept."""
    first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    key = getattr(error, "full_key", None)
    return f"{first} (key {key!r})" if key and f"'{key}'" not in first else first


def _merge(schema: type, spec_path: Path, overrides: list[str], shipped: Path | None) -> DictConfig:
    """Merge schema, shipped spec, spec file and overrides; every interpolation is resolved.

    Raises:
        FileNotFoundError: the spec file does not exist.
        SpecError: not a YAML mapping, unknown key, wrong type, malformed override.
    """
    if not spec_path.is_file():
        raise FileNotFoundError(f"spec file not found: {spec_path}")
    for text in overrides:
        if "=" not in text or text.startswith("="):
            raise SpecError(f"override {text!r} is not of the form key=value")
    try:
        layers = [OmegaConf.structured(schema)]
        layers += [OmegaConf.load(path) for path in (shipped, spec_path) if path is not None and path.is_file()]
        layers.append(OmegaConf.from_dotlist(overrides))
        for layer in layers:
            if not isinstance(layer, DictConfig):
                raise SpecError(f"{spec_path}: a spec is a YAML mapping, found a list or a scalar")
        config = OmegaConf.merge(*layers)
        OmegaConf.clear_resolver("oc.env")  # a spec is data: it gets nothing from this process's environment
        OmegaConf.resolve(config)
    except OmegaConfBaseException as error:
        raise SpecError(_one_line(error)) from error
    except SpecError:
        raise
    except Exception as error:  # yaml's errors have no common base with OmegaConf's
        raise SpecError(f"{spec_path}: {' '.join(str(error).split())}") from error
    return config  # type: ignore[return-value]


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise SpecError(message)


def _check_classify(config: DictConfig) -> None:
    """Constraints on the model and the data, the same for every subtask."""
    data, model = config.dataset.classify, config.model
    _require(config.task == "classify", f"task must be 'classify', got {config.task!r}")
    _require(
        model.backbone.type == BACKBONE,
        f"model.backbone.type must be {BACKBONE!r} for the embedded engine, got {model.backbone.type!r}",
    )
    _require(
        model.backbone.pretrained_backbone_path is None,
        "model.backbone.pretrained_backbone_path: embedded_siamese has no backbone file; set it to null "
        "(train.pretrained_model_path starts from a checkpoint)",
    )
    module = model.classify.difference_module
    _require(
        module in ("learnable", "euclidean"), f"model.classify.difference_module must be learnable or euclidean, got {module!r}"
    )
    _require(
        1 <= model.classify.learnable_difference_modules <= 4,
        f"model.classify.learnable_difference_modules must be 1..4, got {model.classify.learnable_difference_modules}",
    )
    _require(
        model.classify.embed_dec >= 1 and model.classify.embedding_vectors >= 1,
        "model.classify.embed_dec and embedding_vectors must be at least 1",
    )
    _require(data.num_classes == 2, f"dataset.classify.num_classes must be 2 (PASS, defect), got {data.num_classes}")
    _require(data.num_golden >= 1, f"dataset.classify.num_golden must be at least 1, got {data.num_golden}")
    _require(bool(data.image_ext), "dataset.classify.image_ext is not set: give the extension with its dot, like .jpg")
    _require(
        min(data.image_width, data.image_height) >= 16,
        f"image_width and image_height must be at least 16 px, got {data.image_width}x{data.image_height}",
    )
    _require(data.batch_size >= 1, f"dataset.classify.batch_size must be at least 1, got {data.batch_size}")
    _require(
        data.concat_type in (None, "linear", "grid"),
        f"dataset.classify.concat_type must be linear or grid, got {data.concat_type!r}",
    )
    lights = len(data.input_map or {}) or 1
    if data.concat_type == "grid" and lights > 1:
        cells = (data.grid_map or {}).get("x", 0) * (data.grid_map or {}).get("y", 0)
        _require(cells == lights, f"dataset.classify.grid_map holds {cells} images, input_map has {lights} lights")
    colors = data.augmentation_config
    _require(
        len(colors.rgb_input_mean) == 3 and len(colors.rgb_input_std) == 3 and min(colors.rgb_input_std) > 0,
        "augmentation_config.rgb_input_mean and rgb_input_std need three values each, std above 0",
    )


def _check_train(config: DictConfig) -> None:
    """Constraints that only training has."""
    train, data = config.train, config.dataset.classify
    _require(train.num_epochs >= 1, f"train.num_epochs must be at least 1, got {train.num_epochs}")
    _require(
        train.checkpoint_interval_unit in ("epoch", "step"),
        f"train.checkpoint_interval_unit must be epoch or step, got {train.checkpoint_interval_unit!r}",
    )
    for key in ("checkpoint_interval", "validation_interval"):
        _require(train[key] >= 1, f"train.{key} must be at least 1, got {train[key]}")
        if key == "validation_interval" or train.checkpoint_interval_unit == "epoch":
            _require(train[key] <= train.num_epochs, f"train.{key} {train[key]} > train.num_epochs {train.num_epochs}")
    _require(train.optim.optim in ("adamw", "adam", "sgd"), f"train.optim.optim: {train.optim.optim!r} is unknown")
    _require(train.optim.policy in ("linear", "step"), f"train.optim.policy: {train.optim.policy!r} is unknown")
    _require(train.optim.lr > 0, f"train.optim.lr must be above 0, got {train.optim.lr}")
    _require(data.fpratio_sampling > 0, f"dataset.classify.fpratio_sampling must be above 0, got {data.fpratio_sampling}")
    _require(data.batch_size >= 2, "dataset.classify.batch_size must be at least 2 for training (batch normalisation)")
    weights = list(train.classify.cls_weight)
    _require(
        len(weights) == data.num_classes and min(weights) > 0,
        f"train.classify.cls_weight needs {data.num_classes} values above 0, got {weights}",
    )
    _require(train.precision in ("32-true", "32"), f"train.precision: this engine trains in 32-true, got {train.precision!r}")
    _require(
        not train.checkpointer.enable_topk,
        "train.checkpointer.enable_topk: this engine keeps every periodic checkpoint; set it to false",
    )
    _require(
        not config.model.backbone.freeze_backbone or train.pretrained_model_path is not None,
        "model.backbone.freeze_backbone needs train.pretrained_model_path: a random trunk is not worth freezing",
    )


def check_loss(config: DictConfig) -> None:
    """Refuse a loss that does not go with the difference module (TAO: a FAILURE line, in training only).

    Raises:
        SpecError: ``ce`` without ``learnable`` or ``contrastive`` without ``euclidean``.
    """
    module, loss = config.model.classify.difference_module, config.train.classify.loss
    wanted = "ce" if module == "learnable" else "contrastive"
    _require(
        loss == wanted,
        f"train.classify.loss {loss!r} does not go with model.classify.difference_module {module!r}: expected {wanted!r}",
    )


def load_experiment(spec_path: Path, overrides: list[str], subtask: str, *, shipped: Path | None = SHIPPED_SPEC) -> DictConfig:
    """Load a ``visual_changenet`` spec for a subtask; ``results_dir`` becomes the task's own folder, as in TAO.

    Args:
        spec_path: the YAML file given with ``-e``.
        overrides: ``a.b=c`` texts from the command line.
        subtask: ``train``, ``inference``, ``evaluate`` or ``export``.
        shipped: the engine's own defaults, or None for TAO's alone.

    Raises:
        FileNotFoundError: no such spec file.
        SpecError: anything wrong with the spec, in one line.
    """
    config = _merge(experiment_class(), spec_path, overrides, shipped)
    _check_classify(config)
    if subtask == "train":
        _check_train(config)
    elif OmegaConf.is_missing(config[subtask], "checkpoint"):
        raise SpecError(f"{subtask}.checkpoint is mandatory and not set")
    if subtask == "export":
        _require(not OmegaConf.is_missing(config.export, "onnx_file"), "export.onnx_file is mandatory and not set")
    own = config[subtask].results_dir
    _require(bool(own or config.results_dir), f"neither {subtask}.results_dir nor results_dir is set")
    config.results_dir = str(own or Path(config.results_dir) / subtask)
    return config


def load_embedding(spec_path: Path, overrides: list[str]) -> DictConfig:
    """Load an ``embedding image_embeddings`` spec.

    Raises:
        FileNotFoundError: no such spec file.
        SpecError: unknown or missing key, or a model other than ``pair_feature``.
    """
    config = _merge(EmbeddingSpec, spec_path, overrides, None)
    for key in ("input_parquet", "output_parquet", "model", "model_path"):
        _require(not OmegaConf.is_missing(config, key), f"{key} is mandatory and not set")
    _require(config.model == PAIR_FEATURE, f"model must be {PAIR_FEATURE!r} for the embedded engine, got {config.model!r}")
    _require(config.batch_size >= 1, f"batch_size must be at least 1, got {config.batch_size}")
    return config


def to_yaml(config: DictConfig) -> str:
    """The merged spec as YAML, mandatory values that are not set as ``???``."""
    return OmegaConf.to_yaml(config)


def plain(config: Any) -> Any:
    """A config branch as plain dicts, lists and scalars."""
    return OmegaConf.to_container(config, resolve=True) if OmegaConf.is_config(config) else config
