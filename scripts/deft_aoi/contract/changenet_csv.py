"""The ChangeNet CSV and the images that its rows name.

Every cell is text: ``001`` stays ``001``. A row's image is
``{images_dir}/{input_path}/{object_name}_{light}{image_ext}`` for every light of the spec's ``input_map``.
"""

from __future__ import annotations

import codecs
import csv
import io
import os
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from deft_aoi.contract.errors import HardStop
from deft_aoi.contract.files import atomic_write_text
from deft_aoi.contract.paths import resolve_under
from deft_aoi.contract.safe_open import StrPath, open_regular
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

MAX_CELL = 4096
MAX_BYTES = 8 << 30
_CHUNK = 1 << 20


def read_table(path: StrPath, *, what: str, mandatory: tuple[str, ...] = MANDATORY) -> pd.DataFrame:
    """Read a CSV with every cell as text, strictly.

    Args:
        path: the file, UTF-8 (a byte-order mark is accepted), comma-separated, one header line.
        what: how messages name it, for example ``training set``.
        mandatory: columns that must be there.

    Returns:
        Frame of ``str`` cells without missing values, in file order, index 0..n-1.

    Raises:
        HardStop: missing or empty file, a symbolic link, wrong encoding, duplicate or missing column, a row of another
            width, a cell with a line break or of more than 4096 characters. The message names the line.
    """
    file = Path(path)
    name = f"the {what} ({file.name})"
    if not file.is_file():
        raise HardStop(f"{name} is missing", expected=str(file), hint="check_data.py lists what a workspace needs")
    if file.is_symlink():  # its first line would be quoted in a message, whatever file it leads to
        raise HardStop(f"{name} is a symbolic link", expected="a file of its own", found=quoted(file, 200), hint="copy it")
    with os.fdopen(open_regular(file), "rb") as handle:
        return _read(handle, file, name, mandatory)


def _read(handle: BinaryIO, file: Path, name: str, mandatory: tuple[str, ...]) -> pd.DataFrame:
    """The rows of an open table: what is checked is what is read."""
    import pyarrow as pa
    import pyarrow.csv as pacsv

    if os.fstat(handle.fileno()).st_size == 0:
        raise HardStop(
            f"{name} is empty",
            expected="a header line and at least one row",
            found=f"0 bytes in {file}",
            hint="make_workspace.py writes it from your own folders or table",
        )
    _check_utf8(handle, name)
    header = _header(handle, name)
    duplicates = sorted({c for c in header if header.count(c) > 1})
    if duplicates or any(not c for c in header):
        raise HardStop(
            f"{name} has a duplicate or empty column name",
            expected="each column named once",
            found=quoted(", ".join(header), 200),
            hint="rename or remove the column",
        )
    missing = [c for c in mandatory if c not in header]
    if missing:
        raise HardStop(
            f"{name} lacks the column {', '.join(missing)}",
            expected=", ".join(mandatory),
            found=quoted(", ".join(header), 200),
            hint=f"add the column to {file}",
        )
    failed: list[str] = []

    def _bad_row(row: Any) -> str:
        failed.append(f"line {row.number or '?'}: {row.actual_columns} cells instead of {row.expected_columns}")
        return "error"

    try:
        handle.seek(0)
        table = pacsv.read_csv(
            handle,
            read_options=pacsv.ReadOptions(use_threads=False),
            parse_options=pacsv.ParseOptions(invalid_row_handler=_bad_row, newlines_in_values=False),
            convert_options=pacsv.ConvertOptions(
                column_types=dict.fromkeys(header, pa.string()), strings_can_be_null=False, quoted_strings_can_be_null=False
            ),
        )
    except (pa.ArrowInvalid, pa.ArrowKeyError, UnicodeDecodeError) as error:
        raise HardStop(
            f"{name} is not a well-formed CSV",
            expected="UTF-8, as many cells in each row as in the header, no line break inside a cell",
            found=quoted(failed[0] if failed else error, 160),
            hint="quote cells that hold a comma, and save as UTF-8",
        ) from error
    frame: pd.DataFrame = table.to_pandas().astype("object")
    if frame.empty:
        raise HardStop(
            f"{name} has no rows", expected="at least one row", found=f"only a header in {file}", hint="add the rows of this set"
        )
    for column in header:
        import pyarrow.compute as pc

        lengths = pc.max(pc.utf8_length(table.column(column))).as_py() or 0
        if lengths > MAX_CELL or any("\r" in v for v in frame[column].unique() if "\r" in v):
            raise HardStop(
                f"{name} has a cell that is too long or has a line break",
                expected=f"at most {MAX_CELL} characters in one line",
                found=f"column {quoted(column)}",
                hint="shorten the cell; check_data.py lists every finding",
            )
    return frame


def _check_utf8(handle: BinaryIO, name: str) -> None:
    """Stop at the first byte that is not UTF-8, with its line: the table reader would only say that there is one."""
    decoder, lines = codecs.getincrementaldecoder("utf-8")(), 1
    while True:
        chunk = handle.read(_CHUNK)
        try:
            decoder.decode(chunk, final=not chunk)
        except UnicodeDecodeError as error:
            lines += error.object.count(b"\n", 0, error.start)
            raise HardStop(
                f"{name}, line {lines}: not UTF-8",
                found=f"byte 0x{error.object[error.start]:02x}",
                hint="save it as UTF-8",
            ) from error
        if not chunk:
            return
        lines += chunk.count(b"\n")


def _header(handle: BinaryIO, name: str) -> list[str]:
    handle.seek(0)
    raw = handle.readline(1 << 20)
    try:
        line = raw.decode("utf-8-sig")
        if "\0" in line:
            raise HardStop(f"{name} is not text", found="a NUL byte in the header", hint="save it as a CSV in UTF-8")
        return [c for row in csv.reader(io.StringIO(line)) for c in row]
    except (UnicodeDecodeError, csv.Error) as error:
        raise HardStop(
            f"{name} has a header that cannot be read",
            expected="one line of column names, less than 1 MiB",
            found=quoted(error, 120),
            hint="save it as UTF-8 with plain line ends",
        ) from error


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
            line = int((frame[column] == value).idxmax()) + 2
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

    def input_paths(self, row: Mapping[Hashable, Any]) -> list[Path]:
        """The row's test images, one a light."""
        return self._paths(row["input_path"], row["object_name"])

    def golden_paths(self, row: Mapping[Hashable, Any]) -> list[Path]:
        """The row's golden images, one a light."""
        return self._paths(row["golden_path"], row["object_name"])

    def missing(self, frame: pd.DataFrame, limit: int = 20) -> list[tuple[int, str, str]]:
        """Rows whose image is missing: ``(line, column, path)``, at most ``limit`` of them.

        Folders are listed once each, so the cost does not grow with a stat for every image.
        """
        listing: dict[str, set[str]] = {}
        out: list[tuple[int, str, str]] = []
        for column in ("input_path", "golden_path"):
            for line, (folder, name) in enumerate(zip(frame[column], frame["object_name"], strict=True), start=2):
                for light in self.lights:
                    file = self.file_name(name, light)
                    try:
                        there = self._listed(listing, folder)
                    except HardStop as error:
                        error.message = f"line {line}, column {column}: {error.message}"
                        raise
                    if file not in there and len(out) < limit:
                        out.append((line, column, f"{self.images_dir}/{folder}/{file}"))
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
