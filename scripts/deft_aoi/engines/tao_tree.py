"""TAO's experiment spec tree (``tao_experiment.yaml``) as keys, types and defaults, and since when each exists.

A spec written for TAO must load in the embedded engine unchanged, and a misspelt key must be refused before a job starts,
so the whole tree is here once. Release 7.0.1 is the same tree without ``train.checkpointer``.
"""

from __future__ import annotations

import dataclasses
import json
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple

# Dotted prefix -> first release that knows it.
SINCE = {
    "model.precise_msda": (7, 0, 1),
    "train.checkpointer": (7, 1, 0),
}

# Backbones that `classify` builds, by the family whose rules they share.
BACKBONES = {
    "fan_tiny_8_p4_hybrid": "fan",
    "fan_small_12_p4_hybrid": "fan",
    "fan_base_16_p4_hybrid": "fan",
    "fan_large_16_p4_hybrid": "fan",
    "vit_large_nvdinov2": "vit",
    "c_radio_p1_vit_huge_patch16_224_mlpnorm": "radio",
    "c_radio_p2_vit_huge_patch16_224_mlpnorm": "radio",
    "c_radio_p3_vit_huge_patch16_224_mlpnorm": "radio",
    "c_radio_v2_vit_base_patch16_224": "radio",
    "c_radio_v2_vit_large_patch16_224": "radio",
    "c_radio_v2_vit_huge_patch16_224": "radio",
    "vit_small_dinov3": "dinov3",
    "vit_small_plus_dinov3": "dinov3",
    "vit_base_dinov3": "dinov3",
    "vit_large_dinov3": "dinov3",
    "vit_huge_plus_dinov3": "dinov3",
    "vit_7b_dinov3": "dinov3",
}
FAMILY_SINCE = {"dinov3": (7, 1, 0)}

_SCALARS: dict[str, Any] = {"int": int, "float": float, "bool": bool, "str": str, "any": Any}


class Leaf(NamedTuple):
    """One key: its type as the file spells it, and TAO's own default (``???`` where it has none)."""

    kind: str
    default: Any


@lru_cache(maxsize=1)
def _tree() -> dict[str, Any]:
    import yaml

    text = Path(__file__).with_name("tao_experiment.yaml").read_text(encoding="utf-8")
    tree: dict[str, Any] = yaml.safe_load(text)
    return tree


def _leaf(text: str) -> Leaf:
    kind, default = text.split(" = ", 1)
    return Leaf(kind, default if default == "???" else json.loads(default))


@lru_cache(maxsize=1)
def leaves() -> dict[str, Leaf]:
    """Every key of the tree, dotted."""

    def walk(node: dict[str, Any], prefix: str) -> dict[str, Leaf]:
        found: dict[str, Leaf] = {}
        for key, value in node.items():
            found |= walk(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: _leaf(value)}
        return found

    return walk(_tree(), "")


@lru_cache(maxsize=1)
def experiment_class() -> type:
    """The tree as nested dataclasses with TAO's defaults, for ``OmegaConf.structured``."""
    return _as_dataclass("Experiment", _tree())


def _as_dataclass(name: str, node: dict[str, Any]) -> type:
    fields: list[Any] = []
    for key, value in node.items():
        if isinstance(value, dict):
            child = _as_dataclass(f"{name}_{key}", value)
            fields.append((key, child, dataclasses.field(default_factory=child)))
        else:
            kind, default = _leaf(value)
            fresh = partial(type(default), default) if isinstance(default, (list, dict)) else None
            spec: Any = dataclasses.field(default_factory=fresh) if fresh else dataclasses.field(default=default)
            fields.append((key, _python_type(kind), spec))
    return dataclasses.make_dataclass(name, fields)


def _python_type(kind: str) -> Any:
    if kind.endswith("?"):
        return _python_type(kind[:-1]) | None
    if kind.startswith("["):
        return list[_python_type(kind[1:-1])]  # type: ignore[misc]
    if kind.startswith("{"):
        return dict[str, _python_type(kind[1:-1])]  # type: ignore[misc]
    return _SCALARS[kind]
