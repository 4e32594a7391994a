"""The ChangeNet CSV and the images that its rows name.

Every cell is text: ``001`` stays ``001``. A row's image is
``{images_dir}/{input_path}/{object_name}_{light}{image_ext}`` for every light of the spec's ``input_map``.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deft_aoi.contract import table_reader
from deft_aoi.contract.errors import HardStop
from deft_aoi.contract.files import atomic_write_text
from deft_aoi.contract.paths import resolve_under
from deft_aoi.contract.safe_open import StrPath
from deft_aoi.contract.table_reader import file_line
from deft_aoi.contract.text import check_name, has_hidden, normalize_label, quoted

if TYPE_CHECKING:
    import pandas as pd

MANDATORY = ("input_path", "golden_path", "label", "object_name")
OPTIONAL = (
    "project",
    "boardname",
    "comp_type_2",
    "mpass_mfail",
    "is_valid",
    "comp_name",
    "part_type",
    "number_of_pins",
    "description",
    "comp_type_1",
)


def read_table(path: StrPath, *, what: str, mandatory: tuple[str, ...] = MANDATORY) -> pd.DataFrame:
    """A workspace's CSV, strictly: see :func:`deft_aoi.contract.table_reader.read_table`."""
    return table_reader.read_table(path, what=what, mandatory=mandatory)


def read_changenet_csv(path: StrPath, *, what: str) -> pd.DataFrame:
    """Read and check a ChangeNet CSV.

    Labels stay as written (TAO's rule is case-sensitive); each must be ``PASS`` or a defect name that
    :func:`deft_aoi.contract.text.normalize_label` accepts. Line numbers in messages are those of the file (the first
    data row is line 2).

    Raises:
        HardStop: anything :func:`read_table` refuses, a bad label, a bad object name, a bad path.
    """
    frame = read_table(path, what=what)
    _check_unique_cells(frame, "label", normalize_label, what)
    _check_unique_cells(frame, "object_name", lambda v: check_name(v, "object_name"), what)
    for column in ("input_path", "golden_path"):
        _check_unique_cells(frame, column, _check_relative, what)
    return frame


def _check_relative(value: str) -> None:
    if not value.strip():
        raise HardStop("a path is empty", expected="a folder relative to images_dir", hint="fill in the column")
    lexical = value.split("/")
    if (
        value.startswith(("/", "~"))
        or "\\" in value
        or ".." in lexical
        or has_hidden(value)
        or any(len(piece.encode()) > 255 for piece in lexical)
    ):
        raise HardStop(
            f"the path {quoted(value)} is not allowed",
            expected="a relative path with / between folders",
            hint="write it relative to images_dir, without .. in it",
        )


def _check_unique_cells(frame: pd.DataFrame, column: str, check: Any, what: str) -> None:
    for value in frame[column].unique():
        try:
            check(value)
        except HardStop as error:
            line = file_line(frame, int((frame[column] == value).idxmax()))
            error.message = f"{what}, line {line}, column {column}: {error.message}"
            raise


def ordered_columns(columns: list[str]) -> list[str]:
    """Mandatory columns first, then the optional ones, then everything else in its order."""
    known = [*MANDATORY, *OPTIONAL]
    return known + [c for c in columns if c not in known]


def csv_text(frame: pd.DataFrame) -> str:
    """The frame as CSV text: every cell through the csv writer, newline line ends, no index."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(frame.columns)
    writer.writerows(frame.itertuples(index=False, name=None))
    return out.getvalue()


def write_changenet_csv(frame: pd.DataFrame, path: StrPath) -> None:
    """Write rows atomically with the ten optional columns padded empty and further columns preserved."""
    columns = ordered_columns(list(frame.columns))
    atomic_write_text(path, csv_text(frame.reindex(columns=columns, fill_value="").fillna("")))


@dataclass(frozen=True)
class ImageLayout:
    """How rows name image files.

    Attributes:
        images_dir: absolute folder that row paths are relative to.
        lights: keys of ``input_map`` in their order; ``("",)`` when there is none (one image, no suffix).
        image_ext: with its dot.
    """

    images_dir: Path
    lights: tuple[str, ...]
    image_ext: str

    def file_name(self, object_name: str, light: str) -> str:
        """``{object_name}_{light}{image_ext}``; without a light, ``{object_name}{image_ext}``."""
        return f"{object_name}_{light}{self.image_ext}" if light else f"{object_name}{self.image_ext}"

    def _paths(self, folder: str, object_name: str) -> list[Path]:
        return [resolve_under(self.images_dir, folder, self.file_name(object_name, light)) for light in self.lights]

    def input_paths(self, row: Mapping[Any, Any]) -> list[Path]:
        """The row's test images, one a light."""
        return self._paths(row["input_path"], row["object_name"])

    def golden_paths(self, row: Mapping[Any, Any]) -> list[Path]:
        """The row's golden images, one a light."""
        return self._paths(row["golden_path"], row["object_name"])

    def missing(self, frame: pd.DataFrame, limit: int = 20) -> list[tuple[int, str, str]]:
        """Rows whose image is missing: ``(line, column, path)``, at most ``limit`` of them.

        Folders are listed once each, so the cost does not grow with a stat for every image.
        """
        listing: dict[str, set[str]] = {}
        out: list[tuple[int, str, str]] = []
        for column in ("input_path", "golden_path"):
            for row, (folder, name) in enumerate(zip(frame[column], frame["object_name"], strict=True)):
                for light in self.lights:
                    file = self.file_name(name, light)
                    try:
                        there = self._listed(listing, folder)
                    except HardStop as error:
                        error.message = f"line {file_line(frame, row)}, column {column}: {error.message}"
                        raise
                    if file not in there and len(out) < limit:
                        out.append((file_line(frame, row), column, f"{self.images_dir}/{folder}/{file}"))
        return out

    def _listed(self, listing: dict[str, set[str]], folder: str) -> set[str]:
        if folder not in listing:
            path = resolve_under(self.images_dir, folder)
            listing[folder] = {p.name for p in path.iterdir()} if path.is_dir() else set()
        return listing[folder]

    def require(self, frame: pd.DataFrame, what: str) -> None:
        """Stop when an image of the frame is missing.

        Raises:
            HardStop: names the first rows, their column and path.
        """
        missing = self.missing(frame)
        if missing:
            line, column, path = missing[0]
            raise HardStop(
                f"{what}, line {line}, column {column}: the image is missing",
                expected=quoted(path, 300),
                found=f"{len(missing)}{'+' if len(missing) == 20 else ''} missing images in this file",
                hint="check images_dir, image_ext and input_map in the spec; check_data.py lists every row",
            )
