"""Reading a clone of DeepPCB (https://github.com/tangsanli5201/DeepPCB) as it is on disk.

``PCBData/groupGGGGG/GGGGG/NNNNNNNN_{test,temp}.jpg`` and ``PCBData/groupGGGGG/GGGGG_not/NNNNNNNN.txt``, one box a line,
``x1 y1 x2 y2 type``, separated by spaces or by commas. ``trainval.txt`` and ``test.txt`` list ``image annotation`` with
image names that lack the ``_test`` / ``_temp`` that the files have.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from deft_aoi.contract.errors import Blocked, HardStop
from deft_aoi.contract.images import FORMAT_OF, open_image
from deft_aoi.contract.paths import resolve_under
from deft_aoi.contract.text import check_name, quoted

LABELS = {1: "open", 2: "short", 3: "mousebite", 4: "spur", 5: "copper", 6: "pinhole"}
_LISTS = ("trainval.txt", "test.txt")
_GROUP = re.compile(r"group\w+")
HASH_SIDE = 16


@dataclass(frozen=True)
class Box:
    """An annotated defect, pixels of the 640 × 640 image, right and bottom exclusive."""

    x0: int
    y0: int
    x1: int
    y1: int
    label: str

    def meets(self, x: int, y: int, side: int, margin: int = 0) -> bool:
        """Whether the square crop at (x, y) touches the box grown by ``margin``."""
        return x < self.x1 + margin and self.x0 - margin < x + side and y < self.y1 + margin and self.y0 - margin < y + side


@dataclass(frozen=True)
class Board:
    """One test image with its template."""

    name: str
    group: str
    test: Path
    template: Path
    boxes: tuple[Box, ...]


def find_pcbdata(path: Path) -> Path:
    """The PCBData folder of ``path``, which is the repository or the folder itself.

    Raises:
        Blocked: neither.
    """
    root = path.expanduser().absolute()
    for candidate in (root / "PCBData", root):
        if candidate.is_dir() and any(p.is_dir() and _GROUP.fullmatch(p.name) for p in candidate.iterdir()):
            return candidate.resolve()
    raise Blocked(
        f"no DeepPCB clone at {quoted(root, 200)}",
        expected="the repository or its PCBData folder, with folders group00041, group12000, …",
        hint="git clone https://github.com/tangsanli5201/DeepPCB, then --deeppcb DeepPCB",
    )


def read_boards(pcbdata: Path) -> list[Board]:
    """All boards that the list files name; without list files, all that the folders hold.

    Returns:
        Boards sorted by name.

    Raises:
        HardStop: a listed image, template or annotation is missing, or an annotation line cannot be read.
    """
    entries = _listed(pcbdata) or _found(pcbdata)
    boards: dict[str, Board] = {}
    for image, annotation, origin in entries:
        stem = re.sub(r"_(test|temp)$", "", Path(image).stem)
        check_name(stem, "board")
        if stem in boards:
            continue
        folder = str(Path(image).parent)
        test, template = (
            _existing(pcbdata, [f"{folder}/{stem}_{kind}{ext}" for ext in FORMAT_OF], origin) for kind in ("test", "temp")
        )
        boxes = _read_boxes(_existing(pcbdata, [annotation], origin))
        boards[stem] = Board(stem, Path(image).parts[0], test, template, boxes)
    if not boards:
        raise HardStop(
            "the clone has no board",
            expected="*_test.jpg with *_temp.jpg and a .txt",
            found=str(pcbdata),
            hint="name the clone's own folder, the one with PCBData in it",
        )
    return [boards[name] for name in sorted(boards)]


def _listed(pcbdata: Path) -> list[tuple[str, str, str]]:
    out = []
    for name in _LISTS:
        file = pcbdata / name
        if not file.is_file():
            continue
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1):
            parts = line.split()
            if len(parts) == 2:
                out.append((parts[0], parts[1], f"{name}, line {number}"))
            elif parts:
                raise HardStop(
                    f"{name}, line {number} cannot be read",
                    expected="image annotation",
                    found=quoted(line),
                    hint="clone the data again: that line is not DeepPCB's",
                )
    return out


def _found(pcbdata: Path) -> list[tuple[str, str, str]]:
    out = []
    for test in sorted(p for p in pcbdata.glob("group*/*/*") if "_test." in p.name):
        group, folder = test.parent.parent.name, test.parent.name
        stem = test.stem.removesuffix("_test")
        out.append((f"{group}/{folder}/{stem}{test.suffix}", f"{group}/{folder}_not/{stem}.txt", test.name))
    return out


def _existing(pcbdata: Path, candidates: list[str], origin: str) -> Path:
    for candidate in candidates:
        path = resolve_under(pcbdata, candidate)
        if path.is_file():
            return path
    raise HardStop(
        f"{origin}: a file is missing", expected=quoted(pcbdata / candidates[0], 300), hint="complete the clone (git status)"
    )


def _read_boxes(path: Path) -> tuple[Box, ...]:
    boxes = []
    for number, line in enumerate(path.read_text(encoding="utf-8-sig").splitlines(), start=1):
        cells = [c for c in re.split(r"[\s,]+", line.strip()) if c]
        if not cells:
            continue
        try:
            x0, y0, x1, y1, kind = (int(c) for c in cells)
            boxes.append(Box(min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1), LABELS[kind]))
        except (ValueError, KeyError) as error:
            raise HardStop(
                f"{path.name}, line {number} cannot be read",
                expected="x1 y1 x2 y2 type with type 1 to 6, separated by spaces or commas",
                found=quoted(line),
                hint="clone the data again: that line is not DeepPCB's",
            ) from error
    return tuple(boxes)


def load_pair(board: Board) -> tuple[Image.Image, Image.Image]:
    """Test image and template, RGB.

    Raises:
        HardStop: an image is damaged, or the two differ in size.
    """
    test, template = open_image(board.test), open_image(board.template)
    if test.size != template.size:
        raise HardStop(
            f"{board.test.name} and its template differ in size",
            found=f"{test.size} and {template.size}",
            hint="clone the data again: that file is not DeepPCB's",
        )
    return test, template


def template_hash(template: Image.Image) -> np.ndarray:
    """Difference hash of a template, (2 * HASH_SIDE²,) of 0 and 1: is each cell brighter than its right, its lower neighbour?

    The template, not the test image: two boards of one design have the same template whatever their defects.
    """
    side = HASH_SIDE + 1
    cells = np.asarray(template.convert("L").resize((side, side), Image.Resampling.BOX), dtype=np.int16)
    # Three grey levels of slack: on an empty area, noise must not decide.
    right = cells[:-1, 1:] > cells[:-1, :-1] + 3
    below = cells[1:, :-1] > cells[:-1, :-1] + 3
    return np.concatenate([right.ravel(), below.ravel()]).astype(np.uint8)
