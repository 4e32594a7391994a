"""ChangeNet rows and their image pairs, read as TAO's classify loader reads them.

Image of a row and a light: ``images_dir/input_path/object_name[_light]image_ext``; the golden has ``golden_path`` in
place of ``input_path``. The keys of ``input_map`` in their order are the lights (its numbers mean nothing). Lights are
stacked vertically (``linear``) or row by row (``grid``). Class 0 is the label ``PASS`` exactly, everything else is 1.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from omegaconf import DictConfig
from PIL import Image
from torch import Tensor

from deft_aoi.contract.errors import HardStop
from deft_aoi.contract.images import open_image

PASS = "PASS"
MANDATORY = ("input_path", "golden_path", "label", "object_name")
CACHE_BYTES = 1 << 30  # decoded pairs are kept in memory up to here; beyond it they are decoded again each epoch


class DataError(ValueError):
    """A CSV or an image breaks the contract; the message is one line and names the row (1 = first data row)."""


@dataclass(frozen=True)
class Table:
    """A ChangeNet CSV with every cell as its text."""

    path: Path
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def __len__(self) -> int:
        """Number of data rows."""
        return len(self.rows)

    def column(self, name: str) -> list[str]:
        """All cells of one column, in row order."""
        at = self.columns.index(name)
        return [row[at] for row in self.rows]


def read_table(path: Path) -> Table:
    """Read a ChangeNet CSV, cells verbatim.

    Raises:
        FileNotFoundError: no such file.
        DataError: not UTF-8, a mandatory column missing or doubled, a row of another width, no rows.
    """
    if not path.is_file():
        raise FileNotFoundError(f"CSV file not found: {path}")
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = [tuple(line) for line in csv.reader(file, strict=True) if line]
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: not a UTF-8 CSV file: {error}") from error
    if not lines:
        raise DataError(f"{path}: the file is empty, expected a header with {', '.join(MANDATORY)}")
    header, rows = lines[0], lines[1:]
    for name in MANDATORY:
        if header.count(name) != 1:
            raise DataError(f"{path}: column {name!r} must appear once, found {header.count(name)} times")
    for number, row in enumerate(rows, start=1):
        if len(row) != len(header):
            raise DataError(f"{path}: row {number} has {len(row)} cells, the header has {len(header)}")
    if not rows:
        raise DataError(f"{path}: no rows")
    return Table(path, header, tuple(rows))


@dataclass(frozen=True)
class PairLayout:
    """Where a row's images are and how its lights are put together."""

    images_dir: Path
    lights: tuple[str, ...]
    image_ext: str
    width: int
    height: int
    grid: tuple[int, int] | None = None
    num_golden: int = 1

    @classmethod
    def from_config(cls, data: DictConfig, images_dir: str) -> PairLayout:
        """Build the layout of one split from ``dataset.classify``."""
        lights = tuple(data.input_map or {}) or ("",)
        grid = None
        # TAO takes the grid only for an even number of lights; every other case is a vertical stack.
        if data.concat_type == "grid" and len(lights) % 2 == 0:
            grid = (int(data.grid_map["x"]), int(data.grid_map["y"]))
        size = data.image_width, data.image_height
        return cls(Path(images_dir).resolve(), lights, data.image_ext, *size, grid, data.num_golden)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of one put-together image."""
        columns, rows = self.grid or (1, len(self.lights))
        return 3, rows * self.height, columns * self.width

    def paths(self, folder: str, object_name: str) -> list[Path]:
        """The image of every light of one object in one folder."""
        suffixes = [f"_{light}" if light else "" for light in self.lights]
        return [self.images_dir / folder / f"{object_name}{suffix}{self.image_ext}" for suffix in suffixes]

    def golden_sets(self, folder: str, object_name: str) -> list[list[Path]]:
        """``num_golden`` goldens, each as one path per light.

        With one golden it has the row's own object name. With more, all objects of the golden folder count (TAO draws
        at random, at inference too); here they are taken evenly from the sorted list, so a score never changes.
        """
        if self.num_golden == 1:
            return [self.paths(folder, object_name)]
        first = f"_{self.lights[0]}{self.image_ext}" if self.lights[0] else self.image_ext
        place = self.images_dir / folder
        if not place.is_dir():
            return []
        stems = sorted(path.name[: -len(first)] for path in place.iterdir() if path.name.endswith(first))
        if not stems:
            return []
        picks = [
            stems[(number * len(stems)) // self.num_golden] if len(stems) >= self.num_golden else stems[number % len(stems)]
            for number in range(self.num_golden)
        ]
        return [self.paths(folder, stem) for stem in picks]


def read_image(path: Path, width: int, height: int) -> np.ndarray:
    """Decode an image to RGB and resize as TAO does (bilinear, antialiased).

    Returns:
        ``(height, width, 3)`` uint8.

    Raises:
        DataError: the file cannot be decoded.
    """
    try:
        rgb = open_image(path)
    except (HardStop, OSError) as error:
        found = getattr(error, "found", "")
        raise DataError(f"cannot decode image {path}: {error}" + (f" ({found})" if found else "")) from error
    if rgb.size != (width, height):
        rgb = rgb.resize((width, height), Image.Resampling.BILINEAR)
    return np.array(rgb, dtype=np.uint8)


def compose(paths: Sequence[Path], layout: PairLayout) -> np.ndarray:
    """Put the lights of one object together.

    Returns:
        ``layout.shape`` uint8, channels first.
    """
    images = [read_image(path, layout.width, layout.height) for path in paths]
    if layout.grid is None:
        whole = np.concatenate(images, axis=0)
    else:
        columns, rows = layout.grid
        whole = np.concatenate(
            [np.concatenate(images[row * columns : (row + 1) * columns], axis=1) for row in range(rows)], axis=0
        )
    return np.ascontiguousarray(whole.transpose(2, 0, 1))


class PairSet:
    """The pairs of one CSV: existence checked up front for every row, light and side; decoded once if memory allows."""

    def __init__(self, table: Table, layout: PairLayout) -> None:
        """Resolve every path.

        Raises:
            FileNotFoundError: an image is missing; names the row, the column and the path.
        """
        self.table, self.layout = table, layout
        self.labels = torch.tensor([0 if label == PASS else 1 for label in table.column("label")], dtype=torch.long)
        self._inputs: list[list[Path]] = []
        self._goldens: list[list[list[Path]]] = []
        columns = (table.column(name) for name in ("input_path", "golden_path", "object_name"))
        for number, (folder, golden, name) in enumerate(zip(*columns, strict=True), start=1):
            inputs, goldens = layout.paths(folder, name), layout.golden_sets(golden, name)
            if not goldens:
                raise FileNotFoundError(
                    f"{table.path}: row {number}, column golden_path: no golden image in {layout.images_dir / golden}"
                )
            for column, paths in [("input_path", inputs), *(("golden_path", golden_set) for golden_set in goldens)]:
                for path in paths:
                    if not path.is_file():
                        raise FileNotFoundError(f"{table.path}: row {number}, column {column}: image not found: {path}")
            self._inputs.append(inputs)
            self._goldens.append(goldens)
        row_bytes = int(np.prod(layout.shape)) * (1 + layout.num_golden)
        self._cache: dict[int, np.ndarray] | None = {} if row_bytes * len(table) <= CACHE_BYTES else None

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.table)

    def _pair(self, index: int) -> np.ndarray:
        """Row ``index`` as ``(1 + num_golden, 3, H, W)`` uint8: the input, then its goldens."""
        if self._cache is not None and index in self._cache:
            return self._cache[index]
        try:
            pair = np.stack(
                [compose(self._inputs[index], self.layout), *(compose(golden, self.layout) for golden in self._goldens[index])]
            )
        except DataError as error:
            raise DataError(f"{self.table.path}: row {index + 1}: {error}") from error
        if self._cache is not None:
            self._cache[index] = pair
        return pair

    def batch(self, indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Pairs ``(B, 1 + num_golden, 3, H, W)`` uint8 and labels ``(B,)`` int64 of these rows."""
        return torch.from_numpy(np.stack([self._pair(index) for index in indices])), self.labels[list(indices)]

    def ordered(self, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """All rows in their order; the last batch may be short."""
        for start in range(0, len(self), batch_size):
            yield self.batch(range(start, min(start + batch_size, len(self))))


def sampling_weights(labels: Tensor, fpratio: float) -> Tensor:
    """TAO's weights for drawing training rows: PASS 1, defect ``n_pass / n_defect * fpratio``.

    The expected share of defects is ``fpratio / (1 + fpratio)``.

    Args:
        labels: ``(N,)`` 0 for PASS, 1 for defect.
        fpratio: ``dataset.classify.fpratio_sampling``.

    Raises:
        DataError: one of the classes is absent.
    """
    defects = int(labels.sum())
    passes = len(labels) - defects
    if passes == 0:
        raise DataError("the training CSV has no row with label PASS (exactly, upper case): nothing to learn from")
    if defects == 0:
        raise DataError("the training CSV has no defect row (every label is PASS): nothing to learn from")
    weights = torch.ones(len(labels), dtype=torch.float64)
    weights[labels == 1] = passes / defects * fpratio
    return weights
