"""Is a spec one that this TAO release loads and can train? Asked before anything is launched.

TAO refuses unknown keys and wrong types only when a job starts (after 25 to 35 s of imports), accepts every number that
its documentation calls invalid, and finds most contradictions by an assertion deep in the training. Types are judged by
OmegaConf itself on a tree of the same shape, so that the verdict is TAO's own.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from deft_aoi.contract.errors import HardStop
from deft_aoi.contract.text import quoted
from deft_aoi.engines.tao_tree import BACKBONES, FAMILY_SINCE, SINCE, experiment_class, leaves

Spec = dict[str, Any]
Version = tuple[int, int, int]

KNOWN_VERSIONS = ("7.0.1", "7.1.0", "7.3.0")
RADIO_SIZE = 224  # C-RADIO learnable works only at this concatenated size
_STRIDES = {"fan": [4, 8, 16, 16], "radio": [4, 8, 16, 32], "vit": [4, 8, 16, 32], "dinov3": [4, 8, 16, 32]}
_BACKBONE_SUFFIXES = (".pth", ".ckpt", ".safetensors")
_PATH_KEYS = (
    *(
        f"dataset.classify.{split}_dataset.{leaf}"
        for split in ("train", "validation", "test", "infer")
        for leaf in ("csv_path", "images_dir")
    ),
    "model.backbone.pretrained_backbone_path",
    "train.pretrained_model_path",
    "train.resume_training_checkpoint_path",
)


def parse_version(text: str) -> Version:
    """``7.3.0`` or an image tag such as ``7.1.0-pyt`` as numbers.

    Raises:
        HardStop: not a version, or older than 7.0.
    """
    found = re.match(r"v?(\d+)\.(\d+)(?:\.(\d+))?", text)
    version = (int(found[1]), int(found[2]), int(found[3] or 0)) if found else (0, 0, 0)
    if version < (7, 0, 0):
        raise HardStop("not a TAO release that this edition knows", expected=", ".join(KNOWN_VERSIONS), found=quoted(text))
    return version


def is_known(key: str, version: str) -> bool:
    """Whether this release knows the dotted key (a leaf or a group)."""
    release = parse_version(version)
    if any((key == p or key.startswith(p + ".")) and release < since for p, since in SINCE.items()):
        return False
    return any(
        name == key or name.startswith(key + ".") or (leaf.kind.startswith("{") and key.startswith(name + "."))
        for name, leaf in leaves().items()
    )


def check_tao_spec(spec: Spec, version: str, rows: Mapping[str, int] | None = None) -> None:
    """Check a spec against a TAO release, and against the rows that it will meet.

    Args:
        spec: the merged spec (paths may still be relative).
        version: TAO release, e.g. ``7.3.0``.
        rows: rows by split, e.g. ``{"train": 36, "validation": 18, "infer": 54}``.

    Raises:
        HardStop: naming the key, what TAO expects, what is there, and what to write instead.
    """
    release = parse_version(version)
    _check_keys_and_types(spec, version, release)
    for rule in _RULES:
        for key, expected, hint in rule(_Values(spec), release):
            raise _stop(key, expected, _Values(spec)(key), hint)
    _check_rows(_Values(spec), rows or {})


class _Values:
    """Reads a dotted key from the spec, with TAO's default where it is absent."""

    def __init__(self, spec: Spec) -> None:
        self._spec = spec

    def __call__(self, key: str) -> Any:
        node: Any = self._spec
        for part in key.split("."):
            if not isinstance(node, Mapping) or part not in node:
                leaf = leaves().get(key)
                return None if leaf is None or leaf.default == "???" else leaf.default
            node = node[part]
        return node


Problem = tuple[str, str, str]  # key, what is expected, hint


def _stop(key: str, expected: str, found: Any, hint: str = "") -> HardStop:
    return HardStop(f"the spec's {key} does not fit", expected=expected, found=quoted(found, 120), hint=hint)


def _check_keys_and_types(spec: Spec, version: str, release: Version) -> None:
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    for prefix, since in SINCE.items():
        if release < since and _Values(spec)(prefix) is not None:
            wanted = ".".join(map(str, since))
            raise HardStop(
                f"TAO {version} does not know the spec key {prefix}",
                expected=f"TAO {wanted} or later",
                hint=f"remove {prefix}, or use an image of {wanted} or later",
            )
    try:
        OmegaConf.merge(OmegaConf.structured(experiment_class()), OmegaConf.create(spec))
    except OmegaConfBaseException as error:
        key = str(error.full_key or error.key or "?")
        if not is_known(key, version):
            raise HardStop(
                f"TAO {version} does not know the spec key {quoted(key)}", expected=_nearest(key), hint="correct or remove it"
            ) from error
        raise HardStop(
            f"the spec's {key} has the wrong type",
            expected=leaves()[key].kind if key in leaves() else "a mapping",
            found=quoted(_Values(spec)(key), 120),
        ) from error


def _nearest(key: str) -> str:
    import difflib

    near = difflib.get_close_matches(key, leaves(), n=1, cutoff=0.6)
    return f"a key of TAO's spec, perhaps {near[0]}" if near else "a key of TAO's spec"


def _task(get: _Values, _release: Version) -> Iterator[Problem]:
    if get("task") != "classify":
        yield "task", "classify", "TAO's own default is segment: write task: classify"
    if get("dataset.classify.num_golden") != 1:
        yield "dataset.classify.num_golden", "1", "several goldens are drawn at random, at inference too: no two runs agree"
    if get("dataset.classify.num_classes") != 2:
        yield "dataset.classify.num_classes", "2", "labels are PASS or not PASS"
    ext = get("dataset.classify.image_ext")
    if not isinstance(ext, str) or not ext.startswith("."):
        yield "dataset.classify.image_ext", "the images' extension with its dot", "for example .jpg"


def _backbone(get: _Values, release: Version) -> Iterator[Problem]:
    kind = get("model.backbone.type")
    family = BACKBONES.get(kind, "")
    if not family or release < FAMILY_SINCE.get(family, (0, 0, 0)):
        usable = sorted(b for b, f in BACKBONES.items() if release >= FAMILY_SINCE.get(f, (0, 0, 0)))
        yield "model.backbone.type", f"one of {', '.join(usable)}", "or embedded_siamese for the embedded engine"
        return
    path = get("model.backbone.pretrained_backbone_path")
    if path is not None:
        if "://" in str(path):
            yield "model.backbone.pretrained_backbone_path", "a local file", "stage it under augmentation/backbone/"
        elif not str(path).endswith(_BACKBONE_SUFFIXES):
            yield (
                "model.backbone.pretrained_backbone_path",
                f"a file ending in {', '.join(_BACKBONE_SUFFIXES)}",
                "TAO chooses the reader by the suffix: keep the real one",
            )
    elif get("model.backbone.freeze_backbone") and family != "dinov3":
        yield "model.backbone.freeze_backbone", "false where pretrained_backbone_path is null", "TAO refuses to freeze noise"
    if get("model.classify.difference_module") == "learnable":
        if list(get("model.decode_head.feature_strides")) != _STRIDES[family]:
            yield "model.decode_head.feature_strides", str(_STRIDES[family]), f"that is the pyramid of {kind}"
        if not 1 <= get("model.classify.learnable_difference_modules") <= 4:
            yield "model.classify.learnable_difference_modules", "1 to 4", ""
    yield from _size(get, family)


def _size(get: _Values, family: str) -> Iterator[Problem]:
    width, height = get("dataset.classify.image_width"), get("dataset.classify.image_height")
    lights, grid = _lights(get), get("dataset.classify.grid_map") or {}
    if get("dataset.classify.concat_type") == "grid" and lights > 1:
        width, height = width * int(grid.get("x", 1)), height * int(grid.get("y", 1))
    else:
        height *= lights
    if family == "radio" and get("model.classify.difference_module") == "learnable" and (width, height) != (RADIO_SIZE,) * 2:
        yield (
            "dataset.classify.image_width",
            f"{RADIO_SIZE} x {RADIO_SIZE} after the lights are joined, for C-RADIO with learnable (here {width} x {height})",
            "one light at 224, or a 2 x 2 grid at 112",
        )
    elif family == "radio" and (width % 16 or height % 16):
        yield "dataset.classify.image_width", "a multiple of 16", ""


def _lights(get: _Values) -> int:
    return max(1, len(get("dataset.classify.input_map") or {}))


def _input(get: _Values, _release: Version) -> Iterator[Problem]:
    lights, kind = _lights(get), get("dataset.classify.concat_type")
    if get("dataset.classify.num_input") != lights:
        yield (
            "dataset.classify.num_input",
            f"{lights}, the number of lights in input_map",
            "TAO's own default is 8; it sets the model's size",
        )
    if kind not in (None, "linear", "grid"):
        yield "dataset.classify.concat_type", "linear or grid", "TAO takes any other word for linear"
    if kind == "grid" and lights > 1:
        grid = get("dataset.classify.grid_map") or {}
        if lights % 2:
            yield "dataset.classify.concat_type", "linear for an odd number of lights", "TAO stacks them anyway"
        elif int(grid.get("x", 0)) * int(grid.get("y", 0)) != lights:
            yield "dataset.classify.grid_map", f"x * y = {lights}, the number of lights", "other lights are dropped or missed"


def _training(get: _Values, release: Version) -> Iterator[Problem]:
    epochs = get("train.num_epochs")
    if epochs < 1:
        yield "train.num_epochs", "1 or more", ""
    unit = get("train.checkpoint_interval_unit")
    if unit not in ("epoch", "step"):
        yield "train.checkpoint_interval_unit", "epoch or step", ""
    for key in ("train.checkpoint_interval", "train.validation_interval"):
        value = get(key)
        if value < 1 or (value > epochs and not (key.startswith("train.checkpoint") and unit == "step")):
            yield key, f"1 to num_epochs ({epochs})", "TAO asserts it; otherwise no checkpoint would be written"
    if get("train.tensorboard.enabled") and get("train.tensorboard.infrequent_logging_frequency") > epochs:
        yield "train.tensorboard.infrequent_logging_frequency", f"at most num_epochs ({epochs})", ""
    module, loss = get("model.classify.difference_module"), get("train.classify.loss")
    if module not in ("learnable", "euclidean"):
        yield "model.classify.difference_module", "learnable or euclidean", ""
    elif loss != (wanted := "ce" if module == "learnable" else "contrastive"):
        yield (
            "train.classify.loss",
            f"{wanted}, the loss of difference_module {module}",
            "keep it in inference specs too: releases before 7.3 assert the pair there as well",
        )
    if module == "learnable" and len(get("train.classify.cls_weight")) != get("dataset.classify.num_classes"):
        yield "train.classify.cls_weight", "one weight a class", "[weight of PASS, weight of defects]"
    if get("train.optim.optim") not in ("adamw", "adam", "sgd"):
        yield "train.optim.optim", "adamw, adam or sgd", ""
    if get("train.optim.policy") not in ("linear", "step"):
        yield "train.optim.policy", "linear or step", ""
    elif get("train.optim.policy") == "step" and epochs < 3:
        yield "train.optim.policy", "linear for fewer than 3 epochs", "the step would be 0 epochs long"
    if get("dataset.classify.batch_size") < 2:
        yield "dataset.classify.batch_size", "2 or more", "TAO asserts it for training (batch normalisation)"


def _places(get: _Values, _release: Version) -> Iterator[Problem]:
    for key in ("inference.num_gpus", "evaluate.num_gpus"):
        if get(key) != 1:
            yield key, "1", "TAO puts scores on the wrong rows with several GPUs"
    for key in _PATH_KEYS:
        if "${" in str(get(key) or ""):
            yield key, "a plain path", "TAO rewrites results_dir before it resolves interpolations"


_RULES: tuple[Callable[[_Values, Version], Iterator[Problem]], ...] = (_task, _backbone, _input, _training, _places)


def _check_rows(get: _Values, rows: Mapping[str, int]) -> None:
    batch = get("dataset.classify.batch_size")
    devices = get("train.num_gpus") * get("train.num_nodes")
    for split, count in rows.items():
        needed = batch * (devices if split in ("train", "validation") else 1)
        if count < needed:
            raise _stop(
                "dataset.classify.batch_size",
                f"at most {count // max(1, needed // batch)}: the {split} set has {count} "
                f"rows, and TAO asks for a whole batch ({needed}) of every split",
                batch,
                "lower the batch size",
            )
