"""DeepPCB as a workspace: crops of the user's own clone, boards that look alike kept in one part.

The gap is the demo's: base training knows two of the six defects, the other four are in the KPI set, the hold-out, the
mining pool and (drawn by our own code on golden crops) in the pre-generated pairs.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from deft_aoi.contract.errors import HardStop, UsageError
from deft_aoi.contract.text import PASS
from deft_aoi.workspaces.board_split import cluster_by_hash, split_boards
from deft_aoi.workspaces.builder import SPLITS, WorkspaceBuilder, embedded_spec, encode
from deft_aoi.workspaces.deeppcb_clone import LABELS, Board, Box, find_pcbdata, load_pair, read_boards, template_hash
from deft_aoi.workspaces.etching import MIN_CHANGED, draw_defect

LIGHT = "SolderLight"
ALL = tuple(sorted(LABELS.values()))
CHANGED_LEVELS = 64
"""A pixel has changed when test and template differ by more than this; the scans are two-tone, so the value hardly matters."""
ALIKE_BITS = 40
"""Templates whose hashes differ in at most so many of 512 bits are one design."""


@dataclass(frozen=True)
class Wanted:
    """Rows of one part at ``rows_scale`` 1: sound ones and defects of each label."""

    sound: int
    each: int
    base_labels_only: bool = False


WANTED = {
    "train": Wanted(160, 20, True),
    "validation": Wanted(80, 10, True),
    "kpi": Wanted(400, 30),
    "holdout": Wanted(300, 25),
    "pool": Wanted(900, 60),
}
FRACTIONS = {"train": 0.2, "validation": 0.1, "kpi": 0.25, "holdout": 0.1, "pool": 0.35}
PAIRS_EACH = 40


@dataclass(frozen=True)
class Options:
    """How to import.

    Args:
        base_labels: defects that base training and validation have.
        crop: side of a crop in pixels.
        blank_pass: share of PASS crops without any copper edge (real boards have them: empty areas).
        rows_scale: factor on all counts.
        seed: same clone and seed, same workspace.
    """

    base_labels: tuple[str, ...] = ("open", "short")
    crop: int = 64
    blank_pass: float = 0.35
    rows_scale: float = 1.0
    seed: int = 7

    def count(self, value: int) -> int:
        """A count of :data:`WANTED` at this scale."""
        return max(1, round(value * self.rows_scale))


@dataclass(frozen=True)
class Crop:
    """A place on a board: top left corner and label, with the annotated box for a defect."""

    board: str
    x: int
    y: int
    label: str
    box: Box | None


def import_deeppcb(clone: Path, output: Path, options: Options) -> dict[str, Any]:
    """Turn a clone into a workspace.

    Args:
        clone: the repository or its PCBData folder; only read.
        output: folder to create.
        options: see :class:`Options`.

    Returns:
        The report (schema ``workspace_report``).

    Raises:
        Blocked: no clone there.
        HardStop: the clone is damaged, or too small for a part to get any row of a label.
        UsageError: options out of range.
    """
    _check(options)
    with WorkspaceBuilder(output) as builder:
        boards = {b.name: b for b in read_boards(find_pcbdata(clone))}
        clusters = cluster_by_hash({b.name: template_hash(load_pair(b)[1]) for b in boards.values()}, ALIKE_BITS)
        weights: dict[str, Counter[Hashable]] = {
            b.name: Counter([b.group, *(f"{b.group}/{box.label}" for box in b.boxes)]) for b in boards.values()
        }
        parts = split_boards(clusters, weights, FRACTIONS, options.seed)
        notes = [
            f"{len(boards)} boards in {len(clusters)} groups that look alike; a group is in one part only",
            "DeepPCB's README allows research use only; its licence file says MIT: keep this note beside the data",
        ]
        largest = max(map(len, clusters))
        if largest * 4 > len(boards):
            notes.append(f"{largest} boards look alike and went to one part: the parts' sizes may be uneven")
        pregen: dict[str, int] = {}
        for split in SPLITS:
            own = [boards[name] for name in sorted(boards) if parts[name] == split]
            rows, sound = _write_split(builder, split, own, options, notes)
            if not any(row["label"] == PASS for row in rows):
                raise HardStop(f"the part {split} got no PASS crop", found=f"{len(own)} boards", hint="use a larger clone")
            builder.write_split(split, rows)
            if split == "pool":
                pregen = _write_pairs(builder, own, sound, options, notes)
        builder.write_spec(embedded_spec((LIGHT,), ".jpg", options.crop))
        parameters = {
            "base_labels": list(options.base_labels),
            "blank_pass": options.blank_pass,
            "crop": options.crop,
            "rows_scale": options.rows_scale,
            "seed": options.seed,
        }
        return builder.finish(kind="deeppcb", parameters=parameters, pregen=pregen, notes=notes)


def _check(options: Options) -> None:
    unknown = sorted(set(options.base_labels) - set(ALL))
    if (
        unknown
        or not options.base_labels
        or not 32 <= options.crop <= 256
        or not 0 <= options.blank_pass < 1
        or not 0 < options.rows_scale <= 10
    ):
        raise UsageError(
            "an option is out of range",
            expected=f"base labels of {', '.join(ALL)}; crop 32 to 256; blank-pass 0 to 1; rows-scale above 0 up to 10",
            found=f"{', '.join(options.base_labels)}; {options.crop}; {options.blank_pass}; {options.rows_scale}",
        )


def changed_pixels(test: Image.Image, golden: Image.Image) -> int:
    """Pixels that differ by more than :data:`CHANGED_LEVELS` grey levels."""
    a, b = (np.asarray(image.convert("L"), dtype=np.int16) for image in (test, golden))
    return int((np.abs(a - b) > CHANGED_LEVELS).sum())


def _cut(image: Image.Image, x: int, y: int, side: int) -> Image.Image:
    return image.crop((x, y, x + side, y + side))


def _is_blank(image: Image.Image) -> bool:
    low, high = image.convert("L").getextrema()
    return bool(high - low < 48)  # type: ignore[operator]


def _defect_crops(board: Board, size: tuple[int, int], side: int, rng: np.random.Generator) -> Iterator[Crop]:
    """One crop around each box that shows one class of defect only."""
    for box in board.boxes:
        if box.x1 - box.x0 > side or box.y1 - box.y0 > side:
            continue
        place = []
        for low, high, limit in ((box.x0, box.x1, size[0]), (box.y0, box.y1, size[1])):
            slack = (side - (high - low)) // 3
            at = (low + high - side) // 2 + int(rng.integers(-slack, slack + 1))
            place.append(int(np.clip(at, 0, limit - side)))
        x, y = place
        seen = {other.label for other in board.boxes if other.meets(x, y, side)}
        if seen == {box.label}:
            yield Crop(board.name, x, y, box.label, box)


def _sound_crops(board: Board, template: Image.Image, options: Options, rng: np.random.Generator) -> Iterator[tuple[Crop, bool]]:
    """Places without an annotated defect nearby, each with whether it is blank; about eight a board."""
    side = options.crop
    taken: list[tuple[int, int]] = []
    for _ in range(60):
        x, y = int(rng.integers(0, template.width - side + 1)), int(rng.integers(0, template.height - side + 1))
        if any(box.meets(x, y, side, margin=4) for box in board.boxes):
            continue
        if any(abs(x - a) < side // 2 and abs(y - b) < side // 2 for a, b in taken):
            continue
        taken.append((x, y))
        yield Crop(board.name, x, y, PASS, None), _is_blank(_cut(template, x, y, side))
        if len(taken) == 8:
            return


def _write_split(
    builder: WorkspaceBuilder, split: str, boards: list[Board], options: Options, notes: list[str]
) -> tuple[list[dict[str, str]], list[Crop]]:
    """Choose crops, write their images; returns the rows and all sound crops that are not blank, unused ones first."""
    wanted, side = WANTED[split], options.crop
    labels = options.base_labels if wanted.base_labels_only else ALL
    candidates: dict[str, list[Crop]] = defaultdict(list)
    for board in boards:
        test, template = load_pair(board)
        if min(template.size) < side:
            raise HardStop(
                f"{board.test.name} is smaller than a crop",
                expected=f"{side} px",
                found=f"{template.size}",
                hint="leave the board out, or choose smaller crops",
            )
        rng = np.random.default_rng([options.seed, *board.name.encode()])
        for crop in _defect_crops(board, template.size, side, rng):
            if changed_pixels(_cut(test, crop.x, crop.y, side), _cut(template, crop.x, crop.y, side)) >= MIN_CHANGED:
                candidates[crop.label].append(crop)
        for crop, blank in _sound_crops(board, template, options, rng):
            # An unannotated change is not a sound part.
            if changed_pixels(_cut(test, crop.x, crop.y, side), _cut(template, crop.x, crop.y, side)) < 4 * MIN_CHANGED:
                candidates["blank" if blank else PASS].append(crop)
    rng = np.random.default_rng([options.seed, 3, list(SPLITS).index(split)])
    shuffled = {label: [candidates[label][i] for i in rng.permutation(len(candidates[label]))] for label in sorted(candidates)}
    blanks = shuffled.pop("blank", [])[: round(options.count(wanted.sound) * options.blank_pass)]
    sound = shuffled.pop(PASS, [])
    need = options.count(wanted.sound) - len(blanks)
    chosen = blanks + sound[:need]
    for label in labels:
        got = shuffled.get(label, [])[: options.count(wanted.each)]
        if not got:
            raise HardStop(
                f"the part {split} got no crop of {label}",
                expected=f"{options.count(wanted.each)} crops",
                found=f"{len(boards)} boards",
                hint="use the whole clone, with its list files",
            )
        if len(got) < options.count(wanted.each):
            notes.append(f"{split}: {len(got)} crops of {label} instead of {options.count(wanted.each)}")
        chosen += got
    if len(chosen) < need and len(sound) < need:
        notes.append(f"{split}: {len(blanks) + len(sound)} PASS crops instead of {options.count(wanted.sound)}")
    chosen = [chosen[i] for i in rng.permutation(len(chosen))]
    return _write_rows(builder, split, {b.name: b for b in boards}, chosen, side), sound[need:] + sound[:need]


def _write_rows(
    builder: WorkspaceBuilder, split: str, boards: Mapping[str, Board], chosen: list[Crop], side: int
) -> list[dict[str, str]]:
    place, numbers, rows = SPLITS[split], Counter[str](), []
    opened: dict[str, tuple[Image.Image, Image.Image]] = {}
    for crop in chosen:
        board = boards[crop.board]
        if board.name not in opened:
            # Two 640 x 640 images a board: a few hundred boards fit in memory, thousands need not.
            if len(opened) >= 256:
                opened.pop(next(iter(opened)))
            opened[board.name] = load_pair(board)
        numbers[board.name] += 1
        name = f"C{board.name[-4:]}_{numbers[board.name]:02d}"
        row = {
            "input_path": f"{place.prefix}{board.group}/{board.name}/PerComponent",
            "golden_path": f"{place.prefix}golden/{board.group}/{board.name}",
            "label": crop.label,
            "object_name": f"{name}@1",
            "project": board.group,
            "boardname": board.name,
            "comp_name": name,
            "crop_x": str(crop.x),
            "crop_y": str(crop.y),
        }
        for column, image in zip(("input_path", "golden_path"), opened[board.name], strict=True):
            data = encode(_cut(image, crop.x, crop.y, side))
            builder.write_bytes(f"{place.images_dir}/{row[column]}/{row['object_name']}_{LIGHT}.jpg", data)
        rows.append(row)
    return rows


def copper_is_dark(boards: list[Board]) -> dict[str, bool]:
    """Whether copper is the darker tone, for each group, judged by its annotated extra and missing copper."""
    darker: Counter[str] = Counter()
    seen: Counter[str] = Counter()
    for board in boards:
        boxes = [b for b in board.boxes if b.label in ("copper", "pinhole", "open", "short")]
        if not boxes or seen[board.group] >= 60:
            continue
        test, template = (np.asarray(i.convert("L"), dtype=np.int16) for i in load_pair(board))
        for box in boxes:
            change = (test[box.y0 : box.y1, box.x0 : box.x1] - template[box.y0 : box.y1, box.x0 : box.x1]).sum()
            adds_copper = box.label in ("copper", "short")
            seen[board.group] += 1
            darker[board.group] += bool((change < 0) == adds_copper)
    groups = sorted({b.group for b in boards})
    return {group: darker[group] * 2 >= seen[group] for group in groups}


def _write_pairs(
    builder: WorkspaceBuilder, boards: list[Board], sound: list[Crop], options: Options, notes: list[str]
) -> dict[str, int]:
    """Draw the defects that base training lacks on golden crops of the pool's boards."""
    if not sound:
        return {}
    by_name, dark = {b.name: b for b in boards}, copper_is_dark(boards)
    rng = np.random.default_rng([options.seed, 5])
    counts: dict[str, int] = {}
    for label in (x for x in ALL if x not in options.base_labels):
        target, done = options.count(PAIRS_EACH), 0
        for crop in sound[int(rng.integers(len(sound) // 2 + 1)) :] + sound:
            if done == target:
                break
            board = by_name[crop.board]
            golden = _cut(load_pair(board)[1], crop.x, crop.y, options.crop)
            drawn = draw_defect(golden, label, copper_dark=dark[board.group], rng=rng)
            if drawn is None:
                continue
            stem = f"{board.name}_x{crop.x}y{crop.y}+{label}_{done:05d}"
            builder.write_bytes(f"augmentation/anomalygen/reconstructed_image/{stem}.jpg", encode(drawn))
            builder.write_bytes(f"augmentation/anomalygen/original_image/{stem}.jpg", encode(golden))
            done += 1
        counts[label] = done
        if done < target:
            notes.append(f"pre-generated: {done} pairs of {label} instead of {target}")
    return {label: count for label, count in counts.items() if count}
