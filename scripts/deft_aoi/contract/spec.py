"""Experiment specs: read safely, merged, overridden, derived; never rewritten.

Precedence: TAO's schema defaults < the engine's shipped spec < the workspace's spec < the command line.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from deft_aoi.contract.changenet_csv import ImageLayout
from deft_aoi.contract.errors import HardStop
from deft_aoi.contract.files import atomic_write_text
from deft_aoi.contract.safe_open import StrPath, open_regular
from deft_aoi.contract.text import check_name, quoted

Spec = dict[str, Any]

MAX_SPEC_BYTES = 1 << 20
MAX_DEPTH = 24
EMBEDDED_BACKBONE = "embedded_siamese"
# Also ${oc.${x}:HF_TOKEN}: OmegaConf takes a part of a resolver's name from another key.
_RESOLVER = re.compile(r"\$\{.*:", re.DOTALL)
_EXT = re.compile(r"\.[A-Za-z0-9]{1,8}")


class _StrictLoader(yaml.SafeLoader):
    """SafeLoader without aliases, without duplicate keys and with a bounded depth."""

    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
        if self.check_event(yaml.events.AliasEvent):
            raise yaml.constructor.ConstructorError(None, None, "aliases are not allowed", mark)
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise yaml.constructor.ConstructorError(None, None, "nested too deep", mark)
        try:
            return super().compose_node(parent, index)
        finally:
            self.depth -= 1

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _value in node.value:
            # A key is a name and stays what was written: On, 010 and 2026-01-01 are lights, too.
            key = key_node.value if isinstance(key_node, yaml.ScalarNode) else None
            if key is None or key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"duplicate or unusable key {quoted(key)}", key_node.start_mark
                )
            seen.add(key)
            key_node.tag = "tag:yaml.org,2002:str"
        return super().construct_mapping(node, deep)


class _StrictDumper(yaml.SafeDumper):
    """SafeDumper that quotes whatever text the loader would take for a number."""


_FLOAT = re.compile(r"^[-+]?(?:\d[\d_]*\.?[\d_]*|\.\d[\d_]*)(?:[eE][-+]?\d+)$")
# ``1e-4`` is a number, as for OmegaConf and TAO (YAML 1.1 takes it for text), when read and so when written.
_StrictDumper.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+0123456789."))
# The core of YAML 1.2: no sexagesimals, dates, octals, yes or on; whatever is no plain number stays text. The dumper keeps
# the resolvers of YAML 1.1, so that it quotes what a reader of 1.1 (TAO) would take for something else.
_StrictLoader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in (
    ("bool", r"^(?:true|True|TRUE|false|False|FALSE)$", "tTfF"),
    ("null", r"^(?:~|null|Null|NULL|)$", ["~", "n", "N", ""]),
    ("int", r"^[-+]?(?:0|[1-9][0-9]{0,17})$", "-+0123456789"),
    ("float", r"^[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]{1,4})?$", "-+0123456789."),
    ("float", r"^[-+]?\.(?:inf|Inf|INF)$|^\.(?:nan|NaN|NAN)$", "-+."),
):
    _StrictLoader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(_pattern), list(_first))


def _refuse_sexagesimal(loader: _StrictLoader, node: yaml.ScalarNode) -> str:
    raise yaml.constructor.ConstructorError(
        None, None, f"{quoted(node.value, 40)} is a number to the base of 60 for TAO (YAML 1.1): quote it", node.start_mark
    )


_SEXAGESIMAL = "tag:deft,2026:sexagesimal"
_StrictLoader.add_implicit_resolver(
    _SEXAGESIMAL, re.compile(r"^[-+]?[0-9][0-9_]*(?::[0-9]+)+(?:\.[0-9_]*)?$"), list("-+0123456789")
)
_StrictLoader.add_constructor(_SEXAGESIMAL, _refuse_sexagesimal)


def _parse(text: str) -> Any:
    loader = _StrictLoader(text)
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()


def load_yaml(path: StrPath, *, what: str = "spec") -> Any:
    """Read one YAML document: no tags, no aliases, no duplicate keys, bounded size and depth.

    Raises:
        HardStop: missing, a symbolic link, too large, or not such a document; the message names line and column.
    """
    file = Path(path)
    if not file.is_file():
        raise HardStop(
            f"the {what} is missing",
            expected=str(file),
            hint="copy one from the skill's specs folder; make_workspace.py writes it, too",
        )
    if file.is_symlink():
        raise HardStop(f"the {what} is a symbolic link", expected="a file of its own", found=quoted(file, 200), hint="copy it")
    with os.fdopen(open_regular(file), "rb") as handle:
        data = handle.read(MAX_SPEC_BYTES + 1)
    if len(data) > MAX_SPEC_BYTES:
        size = file.stat().st_size
        raise HardStop(
            f"the {what} is too large",
            expected=f"at most {MAX_SPEC_BYTES} bytes",
            found=f"{size} bytes",
            hint="a spec holds settings only; data belongs into CSV files",
        )
    try:
        return _parse(data.decode("utf-8-sig"))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise HardStop(
            f"the {what} {file.name} cannot be read",
            found=where + quoted(getattr(error, "problem", None) or error, 160),
            hint="correct the YAML at that place",
        ) from error


def load_spec(path: StrPath, *, what: str = "spec") -> Spec:
    """Read a spec: a YAML mapping. Raises :class:`HardStop` otherwise."""
    spec = load_yaml(path, what=what)
    if not isinstance(spec, dict):
        raise HardStop(
            f"the {what} is not a mapping",
            expected="task, model, dataset, train …",
            found=type(spec).__name__,
            hint="the skill's specs folder has a spec to start from",
        )
    _check_no_resolver(spec, what)
    return spec


def _check_no_resolver(node: Any, what: str) -> None:
    """Refuse ``${oc.env:HF_TOKEN}`` and its kind: resolved, it would write a secret of the environment into the run."""
    if isinstance(node, str) and _RESOLVER.search(node):
        raise HardStop(
            f"the {what} asks for something outside it",
            expected="values, and references to other keys such as ${results_dir}",
            found=quoted(node),
            hint="write the value itself",
        )
    for child in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        _check_no_resolver(child, what)


def get(spec: Spec, dotted: str, default: Any = None) -> Any:
    """Value at ``a.b.c``, or ``default`` where a part is absent (an explicit null is returned as ``None``)."""
    node: Any = spec
    for part in dotted.split("."):
        if not isinstance(node, dict) or part not in node:
            return default
        node = node[part]
    return node


def put(spec: Spec, dotted: str, value: Any) -> None:
    """Set ``a.b.c`` in place, making mappings on the way."""
    *parents, last = dotted.split(".")
    for part in parents:
        child = spec.get(part)
        if not isinstance(child, dict):
            child = spec[part] = {}
        spec = child
    spec[last] = value


def drop(spec: Spec, dotted: str) -> None:
    """Remove ``a.b.c`` in place if it is there."""
    *parents, last = dotted.split(".")
    node = get(spec, ".".join(parents), None) if parents else spec
    if isinstance(node, dict):
        node.pop(last, None)


def merge(*specs: Spec) -> Spec:
    """Merge mappings, later ones over earlier ones; lists are replaced; nothing is shared with the inputs."""
    out: Spec = {}
    for spec in specs:
        for key, value in spec.items():
            if isinstance(value, dict):
                base = out.get(key)
                out[key] = merge(base if isinstance(base, dict) else {}, value)
            else:
                out[key] = list(value) if isinstance(value, list) else value
    return out


def apply_overrides(spec: Spec, overrides: list[str] | tuple[str, ...]) -> Spec:
    """Apply ``a.b.c=value`` texts (values are YAML scalars or flow collections) over a copy of ``spec``.

    Raises:
        HardStop: an override is not of that form, or asks for something outside the spec.
    """
    out = merge(spec)
    for text in overrides:
        key, sep, raw = text.partition("=")
        if not sep or not re.fullmatch(r"[A-Za-z_][\w]*(\.[A-Za-z_0-9][\w]*)*", key):
            raise HardStop(
                "a spec override cannot be read",
                expected="a.b.c=value",
                found=quoted(text),
                hint="quote the whole argument: --set 'train.optim.lr=1e-4'",
            )
        try:
            put(out, key, _parse(raw))
        except (yaml.YAMLError, ValueError, RecursionError) as error:
            raise HardStop(
                f"the value of the override {key} cannot be read",
                found=quoted(raw),
                hint="write the value as YAML, in quotes where it has special characters",
            ) from error
        _check_no_resolver(get(out, key), f"override {key}")
    return out


def dump_spec(spec: Spec, path: StrPath, *, comments: Sequence[str] = ()) -> None:
    """Write a derived spec atomically, keys in their order, below comment lines for whoever opens it."""
    head = "".join(f"# {line}\n" for line in comments)
    atomic_write_text(path, head + yaml.dump(spec, Dumper=_StrictDumper, sort_keys=False, allow_unicode=False, width=1000))


def lights(spec: Spec) -> tuple[str, ...]:
    """Keys of ``dataset.classify.input_map`` in their order; ``("",)`` when it is null or empty."""
    mapping = get(spec, "dataset.classify.input_map") or {}
    if not isinstance(mapping, dict):
        raise HardStop(
            "dataset.classify.input_map is not a mapping",
            expected="{LightName: 0}",
            found=quoted(mapping),
            hint="write one key for each light, such as input_map: {SolderLight: 0}",
        )
    return tuple(check_name(str(light), "light") for light in mapping) or ("",)


def image_ext(spec: Spec) -> str:
    """``dataset.classify.image_ext`` with its dot.

    Raises:
        HardStop: absent (TAO has no default that works) or not an extension.
    """
    ext = get(spec, "dataset.classify.image_ext")
    if not isinstance(ext, str) or not _EXT.fullmatch(ext):
        raise HardStop(
            "dataset.classify.image_ext is not an extension with its dot",
            expected=".jpg, .png, .bmp",
            found=quoted(ext),
            hint="write it with its dot, as the image files end",
        )
    return ext


def layout(spec: Spec, images_dir: Path) -> ImageLayout:
    """The :class:`ImageLayout` of this spec below ``images_dir``."""
    return ImageLayout(images_dir, lights(spec), image_ext(spec))


def backbone_type(spec: Spec) -> str:
    """``model.backbone.type``; TAO's default when absent."""
    return str(get(spec, "model.backbone.type") or "fan_small_12_p4_hybrid")


def engine_for(spec: Spec) -> str:
    """``embedded`` for ``embedded_siamese``, ``tao`` for every TAO backbone."""
    return "embedded" if backbone_type(spec) == EMBEDDED_BACKBONE else "tao"


TAO_SIZE = 224
"""``dataset.classify.image_width`` and ``image_height`` where a spec is silent."""


def network_size(spec: Spec) -> tuple[int, int]:
    """Width and height of the network's picture of one light."""
    width, height = (int(get(spec, f"dataset.classify.image_{side}") or TAO_SIZE) for side in ("width", "height"))
    return width, height


def has_several_goldens(spec: Spec) -> bool:
    """Whether each part is compared with more than one golden: such goldens are neither measured nor registered."""
    return int(get(spec, "dataset.classify.num_golden") or 1) > 1
