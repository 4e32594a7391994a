"""The CSVs of a workspace, read strictly: UTF-8 and commas, because TAO reads the same bytes.

Anything else is refused with its cause named; a user's own export is read by :mod:`deft_aoi.contract.user_table`. Every
cell is text: ``001`` stays ``001``. Line numbers in messages are lines of the file.
"""

from __future__ import annotations

import codecs
import csv
import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from deft_aoi.contract.charsets import DELIMITER_NAMES, SAMPLE_BYTES, delimiter_of, encoding_of_bytes, folded_name
from deft_aoi.contract.errors import HardStop
from deft_aoi.contract.safe_open import StrPath, open_regular
from deft_aoi.contract.text import quoted

if TYPE_CHECKING:
    import pandas as pd

MAX_CELL = 4096
_CHUNK = 1 << 20
_BLANK_LINES = "blank_lines"


def file_line(frame: pd.DataFrame, row: int) -> int:
    """Line of the file in which row ``row`` (from 0, in file order) is: the header is line 1, empty lines count."""
    line = int(row) + 2
    for blank in frame.attrs.get(_BLANK_LINES, ()):
        if blank > line:
            break
        line += 1
    return line


def with_blank_lines(frame: pd.DataFrame, blanks: tuple[int, ...]) -> pd.DataFrame:
    """The frame of a file, which then knows the empty lines of it (see :func:`file_line`)."""
    if blanks:
        frame.attrs[_BLANK_LINES] = blanks
    return frame


def read_table(path: StrPath, *, what: str, mandatory: Sequence[str]) -> pd.DataFrame:
    """Read a CSV of a workspace with every cell as text, strictly.

    Args:
        path: the file, UTF-8 (a byte-order mark is accepted), comma-separated, one header line.
        what: how messages name it, for example ``training set``.
        mandatory: columns that must be there.

    Returns:
        Frame of ``str`` cells without missing values, in file order, index 0..n-1; :func:`file_line` knows the lines.

    Raises:
        HardStop: missing or empty file, a symbolic link, wrong encoding or separator, duplicate or missing column, a row
            of another width, a cell with a line break or of more than 4096 characters. The message names the line.
    """
    file = Path(path)
    name = f"the {what} ({file.name})"
    with open_table(file, name) as handle:
        return _read_strict(handle, file, name, tuple(mandatory))


def open_table(file: Path, name: str) -> BinaryIO:
    if not file.is_file():
        raise HardStop(f"{name} is missing", expected=str(file), hint="check_data.py lists what a workspace needs")
    if file.is_symlink():  # its first line would be quoted in a message, whatever file it leads to
        raise HardStop(f"{name} is a symbolic link", expected="a file of its own", found=quoted(file, 200), hint="copy it")
    handle = os.fdopen(open_regular(file), "rb")
    if os.fstat(handle.fileno()).st_size == 0:
        handle.close()
        raise HardStop(
            f"{name} is empty",
            expected="a header line and at least one row",
            found=f"0 bytes in {file}",
            hint="make_workspace.py writes it from your own folders or table",
        )
    return handle


def _read_strict(handle: BinaryIO, file: Path, name: str, mandatory: tuple[str, ...]) -> pd.DataFrame:
    """The rows of an open table: what is checked is what is read."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.csv as pacsv

    header, blanks = check_csv_text(handle, file, name, mandatory)
    failed: list[str] = []

    def _bad_row(row: Any) -> str:
        line = int(row.number) + sum(b <= int(row.number) for b in blanks) if row.number else "?"
        failed.append(f"line {line}: {row.actual_columns} cells instead of {row.expected_columns}")
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
            hint="quote cells that hold a comma (a decimal comma is one, too), and save as UTF-8",
        ) from error
    frame: pd.DataFrame = table.to_pandas().astype("object")
    if frame.empty:
        raise HardStop(
            f"{name} has no rows", expected="at least one row", found=f"only a header in {file}", hint="add the rows of this set"
        )
    with_blank_lines(frame, blanks)
    for column in header:
        lengths = pc.max(pc.utf8_length(table.column(column))).as_py() or 0
        if lengths > MAX_CELL or any("\r" in v for v in frame[column].unique() if "\r" in v):
            raise HardStop(
                f"{name} has a cell that is too long or has a line break",
                expected=f"at most {MAX_CELL} characters in one line",
                found=f"column {quoted(column)}",
                hint="shorten the cell; check_data.py lists every finding",
            )
    return frame


def check_csv_text(handle: BinaryIO, file: Path, name: str, mandatory: tuple[str, ...]) -> tuple[list[str], tuple[int, ...]]:
    """Check encoding, line ends, separator and header of an open table.

    Returns:
        The column names, and the lines of the file that are empty.

    Raises:
        HardStop: not UTF-8 (the encoding that it seems to have is named), old line ends, another separator than a comma,
            a duplicate, empty or missing column.
    """
    blanks = _check_utf8(handle, file, name)
    handle.seek(0)
    raw = handle.readline(1 << 20)
    while raw and not raw.strip(b"\r\n"):
        raw = handle.readline(1 << 20)
    if raw.rstrip(b"\n").rstrip(b"\r").count(b"\r"):
        raise HardStop(
            f"{name} has the line ends of an old Macintosh",
            expected="a line end that is LF or CR LF",
            found="CR alone",
            hint="save it as CSV UTF-8 (comma-separated)",
        )
    try:
        header = [c for row in csv.reader(io.StringIO(raw.decode("utf-8-sig"))) for c in row]
    except (UnicodeDecodeError, csv.Error) as error:
        raise HardStop(
            f"{name} has a header that cannot be read",
            expected="one line of column names, less than 1 MiB",
            found=quoted(error, 120),
            hint="save it as UTF-8 with plain line ends",
        ) from error
    _check_header(header, raw.decode("utf-8-sig", "replace"), file, name, mandatory)
    return header, blanks


def _check_header(header: list[str], line: str, file: Path, name: str, mandatory: tuple[str, ...]) -> None:
    missing = [c for c in mandatory if c not in header]
    if missing or len(header) == 1:
        delimiter = delimiter_of([line.rstrip("\r\n")], mandatory)
        if delimiter != "," and line.count(delimiter) > line.count(","):
            raise HardStop(
                f"{name} has {DELIMITER_NAMES[delimiter]}s between its cells",
                expected="comma-separated cells: TAO reads no other separator",
                found=f"the separator {quoted(delimiter) if delimiter != chr(9) else 'tab'} in {quoted(line, 120)}",
                hint="save it as CSV UTF-8 (comma-separated), or let make_workspace.py --csv read it",
            )
    if any(not c.strip() for c in header):
        empty = [n for n, c in enumerate(header, start=1) if not c.strip()]
        raise HardStop(
            f"{name} has an empty column name: an empty column, which a spreadsheet adds, counts, too",
            expected="a name for each column",
            found=f"column {', '.join(map(str, empty[:10]))} of {len(header)} has no name",
            hint="delete the empty columns in the spreadsheet and save again",
        )
    duplicates = sorted({c for c in header if header.count(c) > 1})
    if duplicates:
        raise HardStop(
            f"{name} has a duplicate column name: {quoted(', '.join(duplicates), 120)}",
            expected="each column named once",
            found=quoted(", ".join(header), 200),
            hint="rename or remove one of them",
        )
    if missing:
        alike = {m: [c for c in header if folded_name(c) == folded_name(m)] for m in missing}
        close = "; ".join(
            f"{' and '.join(quoted(c) for c in found)} differ{'' if len(found) > 1 else 's'} from {wanted} in case or blanks"
            for wanted, found in alike.items()
            if found
        )
        ways = [
            f"rename {quoted(found[0])} to {wanted}" + (f" and remove {quoted(found[1])}" if len(found) > 1 else "")
            for wanted, found in alike.items()
            if found
        ]
        rest = [m for m in missing if not alike[m]]
        raise HardStop(
            f"{name} lacks the column {', '.join(missing)}",
            expected=", ".join(mandatory),
            found=close or quoted(", ".join(header), 200),
            hint="; ".join([*ways, *([f"add the column {', '.join(rest)} to {file}"] if rest else [])]),
        )


def _check_utf8(handle: BinaryIO, file: Path, name: str) -> tuple[int, ...]:
    """Stop at the first byte that is not UTF-8, with its line; returns the lines that are empty."""
    handle.seek(0)
    head = handle.read(4096)
    if encoding_of_bytes(head).startswith(("utf-16", "utf-32")) or head.startswith((b"PK\x03\x04", b"\xd0\xcf\x11\xe0")):
        workbook = head.startswith((b"PK\x03\x04", b"\xd0\xcf\x11\xe0"))
        raise HardStop(
            f"{name} is {'a spreadsheet workbook' if workbook else 'UTF-16 text'}",
            expected="a CSV in UTF-8",
            found="a workbook (.xlsx, .xls or .ods)" if workbook else "two bytes a character (Excel's 'Unicode text')",
            hint="save it as CSV UTF-8 (comma-separated)",
        )
    if b"\0" in head:
        raise HardStop(f"{name} is not text", found="a NUL byte", hint="save it as a CSV in UTF-8")
    handle.seek(0)
    decoder, lines, blank = codecs.getincrementaldecoder("utf-8")(), 1, False
    tail = b""
    while True:
        chunk = handle.read(_CHUNK)
        try:
            decoder.decode(chunk, final=not chunk)
        except UnicodeDecodeError as error:
            lines += error.object.count(b"\n", 0, error.start)
            raise HardStop(
                f"{name}, line {lines}: not UTF-8",
                expected="UTF-8",
                found=f"byte 0x{error.object[error.start]:02x}; the text seems to be {_guess(handle)}",
                hint="save it as CSV UTF-8",
            ) from error
        if not chunk:
            break
        lines += chunk.count(b"\n")
        joined = tail + chunk
        blank = blank or b"\n\n" in joined or b"\n\r\n" in joined or (not tail and joined.startswith((b"\n", b"\r\n")))
        tail = joined[-2:]
    return _blank_lines(handle) if blank else ()


def _guess(handle: BinaryIO) -> str:
    handle.seek(0)
    return encoding_of_bytes(handle.read(SAMPLE_BYTES))


def _blank_lines(handle: BinaryIO) -> tuple[int, ...]:
    handle.seek(0)
    return tuple(number for number, line in enumerate(handle, start=1) if not line.strip(b"\r\n"))
