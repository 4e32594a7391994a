"""The user's own data as a workspace: boards kept whole, copies of one picture kept together, files copied."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deft_aoi.analysis.identity import identify
from deft_aoi.contract.changenet_csv import MANDATORY
from deft_aoi.contract.errors import HardStop
from deft_aoi.contract.images import FORMAT_OF, format_of
from deft_aoi.contract.paths import given
from deft_aoi.contract.spec import Spec, get, load_spec, put
from deft_aoi.contract.text import PASS, check_name, quoted
from deft_aoi.workspaces.board_split import split_boards
from deft_aoi.workspaces.builder import SPLITS, WorkspaceBuilder, embedded_spec, encode
from deft_aoi.workspaces.check_rows import SHIPPED_BATCH
from deft_aoi.workspaces.crop_size import large_crops
from deft_aoi.workspaces.own_data import Sample, all_problems
from deft_aoi.workspaces.own_images import OwnImages, bits_of

if TYPE_CHECKING:
    from PIL.Image import Image

PREVIEW_PAIRS = 10
DEFAULT_FRACTIONS = "train=0.3,validation=0.1,kpi=0.25,holdout=0.1,pool=0.25"
MIN_SIDE, MAX_SIDE = 64, 128
"""Crop sides that the embedded engine is made for; larger images are scaled when they are read."""


@dataclass(frozen=True)
class Content:
    """What a sample's pictures show.

    Attributes:
        key: digests of all its pictures; featureless samples have none.
        side: the longer side of its first picture, pixels.
    """

    key: bytes
    side: int


@dataclass(frozen=True)
class Preview:
    """What would be written.

    Attributes:
        parts: part of the workspace → its samples.
        lights: names, ``("",)`` for one image a part.
        notes: what was detected, changed or left out.
        pairs: up to ten, of every class: caption, and test and golden images as the workspace will have them.
    """

    parts: Mapping[str, Sequence[Sample]]
    lights: tuple[str, ...]
    notes: Sequence[str]
    pairs: Sequence[tuple[str, Sequence[Image]]]

    def counts(self) -> dict[str, Counter[str]]:
        """Rows by part and label."""
        return {part: Counter(sample.label for sample in own) for part, own in self.parts.items()}


def make_workspace(
    samples: Sequence[Sample],
    output: Path,
    *,
    lights: tuple[str, ...],
    fractions: Mapping[str, float],
    seed: int,
    spec_file: Path | None = None,
    notes: Sequence[str] = (),
    defect_labels: Sequence[str] = (),
    bit_depth: str | None = None,
    confirm: Callable[[Preview], bool] | None = None,
) -> dict[str, Any] | None:
    """Deal samples to the parts of a new workspace.

    Args:
        samples: as :mod:`deft_aoi.workspaces.own_data` finds them.
        output: folder to create.
        lights: names, ``("",)`` for one image a part.
        fractions: share of each part (:func:`deft_aoi.workspaces.board_split.parse_fractions`).
        seed: same data and seed, same workspace.
        spec_file: a spec to start from (for TAO); ``None``: a spec for the embedded engine.
        notes: what was detected or left out before; the report begins with it.
        defect_labels: names that mean a good part and are defects, as the user says; kept in the report.
        bit_depth: what images of more than 8 bits a channel use, ``12``, ``16`` or ``auto``; ``None`` refuses them.
        confirm: asked before anything is written.

    Returns:
        The report (schema ``workspace_report``); ``None`` where ``confirm`` said no, and nothing is written.

    Raises:
        HardStop: an image cannot be decoded, one picture has two labels, too few boards, a part without PASS rows or
            without defects.
        UsageError: the output folder has content.
    """
    for light in filter(None, lights):
        check_name(light, "light")
    with WorkspaceBuilder(output) as builder:
        images = OwnImages(bits_of(bit_depth, [p for s in samples for p in (*s.test, *s.golden)] if bit_depth else ()))
        contents = _look_at_all(samples, images)
        kept, copies = _without_copies(samples, contents)
        notes = [*notes, *images.notes(), *copies]
        clusters = _clusters([s for s, _ in kept], [c for _, c in kept])
        weights: dict[str, Counter[Any]] = defaultdict(Counter)
        for sample, _ in kept:
            weights[sample.board][sample.label] += 1
        parts = split_boards(clusters, weights, fractions, seed)
        named = _unique_names([s for s, _ in kept])
        by_part = {part: [s for s in named if parts[s.board] == part] for part in fractions}
        notes += _check_parts(by_part)
        if confirm is not None and not confirm(Preview(by_part, lights, notes, _ten_pairs(named, images))):
            return None
        extension = ".png" if images.changed else _extension(named)
        for part, own in by_part.items():
            builder.write_split(part, [_write_sample(builder, part, s, lights, extension, images) for s in own])
        sides = sorted(c.side for _, c in kept)
        spec = _spec(lights, extension, sides[len(sides) // 2], spec_file)
        notes += large_crops(sides[len(sides) // 2], spec)
        rows = min(len(by_part[part]) for part in ("train", "validation"))
        if rows < int(get(spec, "dataset.classify.batch_size") or SHIPPED_BATCH):
            put(spec, "dataset.classify.batch_size", rows)
        builder.write_spec(spec)
        if len(clusters) < len(weights):
            notes.append(f"{len(weights)} boards in {len(clusters)} groups: boards that share a picture stay together")
        parameters = {"fractions": dict(fractions), "image_ext": extension, "lights": list(lights), "seed": seed}
        if defect_labels:
            parameters["defect_labels"] = list(defect_labels)
        return builder.finish(kind="own", parameters=parameters, pregen={}, notes=notes)


def _ten_pairs(samples: Sequence[Sample], images: OwnImages) -> list[tuple[str, list[Image]]]:
    """Up to ten samples, the classes by turns, with their images."""
    by_label: dict[str, list[Sample]] = defaultdict(list)
    for sample in samples:
        by_label[sample.label].append(sample)
    turns = [sample for turn in zip_longest(*by_label.values()) for sample in turn if sample is not None]
    return [
        (f"{s.label}: {s.board}, {s.object_name}", [images.open(path) for path in (*s.test, *s.golden)])
        for s in turns[:PREVIEW_PAIRS]
    ]


def _look_at_all(samples: Sequence[Sample], images: OwnImages) -> list[Content]:
    """Every picture decoded once, and all that cannot be used in one stop."""
    seen: dict[Path, tuple[bytes, bool, int]] = {}
    contents, problems = [], []
    for sample in samples:
        files = (*sample.test, *sample.golden)
        try:
            for path in files:
                if path not in seen:
                    image = images.open(path)
                    digest, is_flat, _thumb = identify(image)
                    seen[path] = digest, is_flat, max(image.size)
        except HardStop as error:
            error.message = f"{sample.origin}: {error.message}"
            problems.append(error)
            continue
        flat = all(seen[path][1] for path in files)
        contents.append(Content(b"" if flat else b"".join(seen[path][0] for path in files), seen[files[0]][2]))
    if problems:
        raise all_problems(problems)
    return contents


def _without_copies(samples: Sequence[Sample], contents: Sequence[Content]) -> tuple[list[tuple[Sample, Content]], list[str]]:
    """Each picture once; the same picture under two labels is a contradiction that only the user can settle."""
    first: dict[bytes, Sample] = {}
    kept, dropped = [], 0
    for sample, content in zip(samples, contents, strict=True):
        known = first.setdefault(content.key, sample) if content.key else sample
        if known.label != sample.label:
            raise HardStop(
                f"one picture has two labels: {sample.origin} and {known.origin}",
                expected="one label for one picture",
                found=f"{quoted(sample.label)} and {quoted(known.label)}",
                hint="correct or remove one of them",
            )
        if known is sample:
            kept.append((sample, content))
        else:
            dropped += 1
    return kept, [f"{dropped} exact copies were left out"] if dropped else []


def _clusters(samples: Sequence[Sample], contents: Sequence[Content]) -> list[list[str]]:
    """Boards that share a test picture (against another golden, say) must not be in two parts."""
    owner: dict[bytes, str] = {}
    parent = {s.board: s.board for s in samples}

    def find(board: str) -> str:
        while parent[board] != board:
            board = parent[board]
        return board

    for sample, content in zip(samples, contents, strict=True):
        if content.key:
            picture = content.key[: 32 * len(sample.test)]
            a, b = find(owner.setdefault(picture, sample.board)), find(sample.board)
            parent[max(a, b)] = min(a, b)
    groups: dict[str, list[str]] = defaultdict(list)
    for board in sorted(parent):
        groups[find(board)].append(board)
    return list(groups.values())


def _unique_names(samples: Sequence[Sample]) -> list[Sample]:
    """A part inspected twice on one board gets a second name; TAO finds images by name alone."""
    seen: Counter[tuple[str, str]] = Counter()
    taken = {(s.board, s.object_name) for s in samples}
    out = []
    for sample in samples:
        key = (sample.board, sample.object_name)
        seen[key] += 1
        name = sample.object_name
        while seen[key] > 1 and (sample.board, name) in taken:
            name = f"{sample.object_name}.{seen[key]}"
            if (sample.board, name) in taken:
                seen[key] += 1
        taken.add((sample.board, name))
        out.append(replace(sample, object_name=check_name(name, "object_name")))
    return out


def _check_parts(by_part: Mapping[str, Sequence[Sample]]) -> list[str]:
    notes = []
    labels = {part: Counter(s.label for s in own) for part, own in by_part.items()}
    for part, counts in labels.items():
        if not counts[PASS] or counts[PASS] == counts.total():
            raise HardStop(
                f"the part {part} would have no {'PASS' if not counts[PASS] else 'defect'} rows",
                expected="good parts and defects in every part; boards are never divided",
                found=", ".join(f"{quoted(label)} {count}" for label, count in list(counts.items())[:10]) or "no rows",
                hint="add boards with the missing class, or give the part a larger share with --fractions",
            )
        if part in ("train", "validation") and counts.total() < SHIPPED_BATCH:
            notes.append(f"{part} has {counts.total()} rows: the spec's dataset.classify.batch_size is at most that")
    for label in sorted(set().union(*labels.values()) - {PASS}):
        absent = [part for part in ("kpi", "pool") if not labels[part][label]]
        if absent:
            notes.append(f"{label}: no row in {' and '.join(absent)}; too few boards have it")
    return notes


def _extension(samples: Sequence[Sample]) -> str:
    """The one extension of the workspace; mixed data becomes PNG, which loses nothing."""
    found = {path.suffix.lower() for s in samples for path in (*s.test, *s.golden)}
    return found.pop() if len(found) == 1 else ".jpg" if found == {".jpg", ".jpeg"} else ".png"


def _write_sample(
    builder: WorkspaceBuilder, part: str, sample: Sample, lights: tuple[str, ...], extension: str, images: OwnImages
) -> dict[str, str]:
    split = SPLITS[part]
    row = dict.fromkeys(MANDATORY, "") | dict(sample.extra)
    row |= {
        "input_path": f"{split.prefix}{sample.board}/PerComponent",
        "golden_path": f"{split.prefix}golden/{sample.board}",
        "label": sample.label,
        "object_name": sample.object_name,
        "boardname": sample.board,
    }
    for column, files in (("input_path", sample.test), ("golden_path", sample.golden)):
        for light, source in zip(lights, files, strict=True):
            name = f"{sample.object_name}_{light}{extension}" if light else f"{sample.object_name}{extension}"
            target = f"{split.images_dir}/{row[column]}/{name}"
            if source not in images.changed and format_of(source) == FORMAT_OF[extension]:
                builder.copy_file(source, target)
            else:
                builder.write_bytes(target, encode(images.open(source), extension))
    return row


def _spec(lights: tuple[str, ...], extension: str, side: int, spec_file: Path | None) -> Spec:
    own = embedded_spec(lights, extension, min(MAX_SIDE, max(MIN_SIDE, round(side / 32) * 32)))
    if spec_file is None:
        return own
    spec = load_spec(given(spec_file))
    classify = own["dataset"]["classify"]
    for key in ("train_dataset", "validation_dataset", "infer_dataset", "image_ext", "num_input", "input_map"):
        put(spec, f"dataset.classify.{key}", classify[key])
    if get(spec, "dataset.classify.test_dataset"):
        put(spec, "dataset.classify.test_dataset", classify["infer_dataset"])
    return spec
