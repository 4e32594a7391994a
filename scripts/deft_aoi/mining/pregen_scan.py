"""Reading the pre-generated pairs: which synthetic defect image belongs to which good one, or why not."""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from deft_aoi.contract.errors import HardStop
from deft_aoi.contract.images import format_of, open_image
from deft_aoi.contract.paths import Workspace, resolve_under
from deft_aoi.contract.text import check_name, quoted
from deft_aoi.mining.defect_types import assign_types, read_defect_spec
from deft_aoi.mining.settings import MAX_LISTED


@dataclass(frozen=True)
class PregenPair:
    """One synthetic defect and its defect-free partner; both paths are workspace-relative."""

    stem: str
    defect_type: str
    ng: str
    ok: str


@dataclass(frozen=True)
class PregenPairs:
    """What :func:`scan` found.

    Attributes:
        present: whether the workspace has pre-generated pairs at all.
        pairs: sorted by stem.
        lights: lights that each image will be staged for.
        image_ext: the spec's extension, with its dot.
        ignored: hidden, non-image and nested entries, workspace-relative.
    """

    present: bool
    pairs: tuple[PregenPair, ...]
    lights: tuple[str, ...]
    image_ext: str
    ignored: tuple[str, ...] = ()

    @property
    def counts_by_type(self) -> dict[str, int]:
        """Pairs by defect type."""
        return dict(sorted(Counter(pair.defect_type for pair in self.pairs).items()))


def scan(workspace: Workspace, lights: tuple[str, ...], image_ext: str, *, decode: bool = True) -> PregenPairs:
    """Pair ``reconstructed_image`` (NG) with ``original_image`` (OK) by stem, whatever the extensions.

    Args:
        workspace: the customer's folder; nothing is written.
        lights: keys of ``input_map`` in order, ``("",)`` for none.
        image_ext: the spec's extension with its dot.
        decode: decode every image completely (``False``: only pair the names).

    Returns:
        The pairs. Without either folder there are none, and ``present`` is false.

    Raises:
        HardStop: one folder without the other, no image in either, orphans, stem collisions, a link, bad names,
            undecodable or oversize images (all findings in one message), or an allocation mismatch.
    """
    ng_dir, ok_dir = workspace.pregen_ng, workspace.pregen_ok
    if not os.path.lexists(ng_dir) and not os.path.lexists(ok_dir):
        return PregenPairs(False, (), lights, image_ext)
    problems: list[str] = []
    ignored: list[str] = []
    ng = _list_side(workspace, ng_dir, problems, ignored)
    ok = _list_side(workspace, ok_dir, problems, ignored)
    problems += [f"{quoted(ng[s])}: no original_image of that stem" for s in sorted(ng.keys() - ok.keys())]
    problems += [f"{quoted(ok[s])}: no reconstructed_image of that stem" for s in sorted(ok.keys() - ng.keys())]
    if not ng and not ok and not problems:
        problems.append("both folders hold no image")
    if decode:
        for rel in sorted([*ng.values(), *ok.values()]):
            try:
                open_image(workspace.root / rel)
            except HardStop as error:
                problems.append(f"{quoted(rel)}: {error.message} ({error.found})")
    if problems:
        more = f"; and {len(problems) - MAX_LISTED} more" if len(problems) > MAX_LISTED else ""
        raise HardStop(
            f"the pre-generated pairs have {len(problems)} problem{'s' if len(problems) > 1 else ''}",
            expected="one decodable image per stem in reconstructed_image and in original_image",
            found="; ".join(problems[:MAX_LISTED]) + more,
            hint="correct or remove these files; without the folder augmentation/anomalygen the loop runs on real data only",
        )
    types = assign_types(ng, read_defect_spec(workspace.defect_spec))
    pairs = tuple(PregenPair(stem, types[stem], ng[stem], ok[stem]) for stem in sorted(ng))
    return PregenPairs(True, pairs, lights, image_ext, tuple(sorted(ignored)))


def _list_side(workspace: Workspace, folder: Path, problems: list[str], ignored: list[str]) -> dict[str, str]:
    """Stem → workspace-relative path of one side; what is wrong goes to ``problems``."""
    rel_folder = workspace.rel(folder)
    try:
        real = resolve_under(workspace.root, rel_folder).is_dir()
    except HardStop:
        real = False
    if not real:
        problems.append(f"{rel_folder} is missing or is not a real folder")
        return {}
    found: dict[str, str] = {}
    for entry in sorted(os.scandir(folder), key=lambda e: e.name):
        rel = f"{rel_folder}/{entry.name}"
        name = Path(unicodedata.normalize("NFC", entry.name))
        stem = name.stem
        if entry.name.startswith(".") or not format_of(name) or entry.is_dir(follow_symlinks=False):
            ignored.append(rel)
            continue
        if not entry.is_file(follow_symlinks=False):
            problems.append(f"{quoted(rel)}: a symbolic link or a special file")
            continue
        try:
            check_name(stem, "stem")
        except HardStop as error:
            problems.append(f"{quoted(rel)}: {error.message}")
            continue
        if stem in found:
            problems.append(f"{quoted(found[stem])} and {quoted(rel)} have one stem")
            continue
        found[stem] = rel
    return found
