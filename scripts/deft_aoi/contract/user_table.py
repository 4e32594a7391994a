"""A user's own table as a spreadsheet or an MES saves it: encoding and separator are detected, and said.

Every cell is text: ``001`` stays ``001``. Line numbers in messages are lines of the file.
"""

from __future__ import annotations

import codecs
import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from deft_aoi.contract.charsets import DELIMITER_NAMES, SAMPLE_BYTES, delimiter_of, encoding_of_bytes, folded_name
from deft_aoi.contract.errors import HardStop, UsageError
from deft_aoi.contract.safe_open import StrPath
from deft_aoi.contract.table_reader import MAX_CELL, open_table
from deft_aoi.contract.text import quoted

if TYPE_CHECKING:
    import pandas as pd

MAX_USER_BYTES = 512 << 20
"""A user's table is read into memory; a workspace's CSV is streamed and has no such limit."""


@dataclass(frozen=True)
class UserTable:
    """A user's table.

    Attributes:
        frame: text cells, in file order; wanted columns have the names that were asked for.
        lines: line of the file of each row.
        encoding: as Python calls it. delimiter: one character.
        notes: what was detected or left out, for the user.
    """

    frame: pd.DataFrame
    lines: tuple[int, ...]
    encoding: str
    delimiter: str
    notes: tuple[str, ...]


def read_user_table(
    path: StrPath, *, what: str, wanted: Sequence[str] = (), delimiter: str | None = None, encoding: str | None = None
) -> UserTable:
    r"""Read a user's own table as a spreadsheet or an MES saves it.

    Detected: encoding, separator, Excel's ``sep=`` line, line ends, empty lines, columns of the header whose case, width
    or blanks differ from the wanted ones.

    Args:
        path: the file.
        what: how messages name it.
        wanted: columns that must be there.
        delimiter: the separator; ``None`` to detect it. ``tab`` or ``\t`` mean a tab.
        encoding: as Python calls it; ``None`` to detect it.

    Raises:
        HardStop: missing, empty, a workbook, not decodable, a column missing or ambiguous, a row of another width.
        UsageError: an unknown encoding or a separator of several characters.
    """
    import pandas as pd

    file = Path(path)
    name = f"the {what} ({file.name})"
    with open_table(file, name) as handle:
        data = handle.read(MAX_USER_BYTES + 1)
    if len(data) > MAX_USER_BYTES:
        raise HardStop(f"{name} is too large", expected=f"at most {MAX_USER_BYTES >> 20} MiB", hint="divide it")
    if data.startswith((b"PK\x03\x04", b"\xd0\xcf\x11\xe0")):
        raise HardStop(
            f"{name} is a spreadsheet workbook",
            expected="a table as text",
            found="a workbook (.xlsx, .xls or .ods)",
            hint="save the sheet as CSV UTF-8 and give that file",
        )
    text, used = _decoded(data, encoding, name)
    lines = text.split("\n")
    notes = [] if used in ("utf-8", "utf-8-sig") else [f"{file.name}: read as {used} (--encoding overrides)"]
    first = next((n for n, line in enumerate(lines) if line.strip()), 0)
    cut = lines[first].strip().casefold() if lines else ""
    declared = cut[4:5] or "\t" if cut.startswith("sep=") and len(cut) <= 5 else None
    if declared is not None:
        lines[first] = ""
    shown = [line for line in lines[:200] if line.strip()][:50]
    separator = _separator(delimiter) or declared or delimiter_of(shown, wanted)
    if separator != ",":
        notes.append(
            f"{file.name}: cells are separated by {DELIMITER_NAMES.get(separator, quoted(separator))}s (--delimiter overrides)"
        )
    rows, at = _rows(lines, separator, name)
    if len(rows) < 2:
        raise HardStop(
            f"{name} has no rows", expected="a header and at least one row", found=f"{len(rows)} lines", hint="add rows"
        )
    header, renamed = _wanted_header(rows[0], wanted, name)
    notes += [f"{file.name}: {note}" for note in renamed]
    width = len(header)
    body = []
    for row, line in zip(rows[1:], at[1:], strict=True):
        while len(row) > width and not row[-1].strip():
            row.pop()
        if len(row) != width:
            raise HardStop(
                f"{name}, line {line}: {len(row)} cells instead of {width}",
                expected=f"as many cells as the header has ({', '.join(quoted(c, 30) for c in header[:8])})",
                found=quoted(separator.join(row), 160),
                hint="quote cells that hold the separator (a decimal comma is one, too), or name it with --delimiter",
            )
        body.append(row)
    return UserTable(pd.DataFrame(body, columns=header, dtype=object), tuple(at[1:]), used, separator, tuple(notes))


def _separator(given: str | None) -> str | None:
    if given is None:
        return None
    names = {"tab": "\t", "\\t": "\t", "comma": ",", "semicolon": ";", "pipe": "|"}
    value = names.get(given.strip().casefold(), given)
    if len(value) != 1 or value in '"\r\n':
        raise UsageError("--delimiter is not one character", expected="one character, or tab", found=quoted(given))
    return value


def _decoded(data: bytes, encoding: str | None, name: str) -> tuple[str, str]:
    used = encoding or encoding_of_bytes(data[:SAMPLE_BYTES])
    try:
        codecs.lookup(used)
    except LookupError as error:
        raise UsageError("--encoding is not known", expected="cp1252, gbk, shift_jis, utf-16 …", found=quoted(used)) from error
    try:
        text = data.decode(used)
    except (UnicodeDecodeError, UnicodeError) as error:
        whole = encoding_of_bytes(data)
        if encoding is not None or whole == used:
            start = getattr(error, "start", 0)
            raise HardStop(
                f"{name}, line {data.count(bytes([10]), 0, start) + 1}: not {used}",
                found=f"byte 0x{data[start]:02x}; the text seems to be {whole}",
                hint=f"--encoding {whole}, or save it as CSV UTF-8",
            ) from error
        return _decoded(data, whole, name)
    return text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n"), used


def _rows(lines: list[str], separator: str, name: str) -> tuple[list[list[str]], list[int]]:
    """Rows with any content, and the line at which each begins."""
    rows, at = [], []
    reader = csv.reader((line + "\n" for line in lines), delimiter=separator)
    begin = 1
    try:
        for row in reader:
            cells = [" ".join(c.split()) if "\n" in c else c.strip() for c in row]
            if any(cells):
                if any(len(c) > MAX_CELL for c in cells):
                    raise HardStop(
                        f"{name}, line {begin}: a cell is too long", expected=f"at most {MAX_CELL} characters", hint="shorten it"
                    )
                rows.append(cells)
                at.append(begin)
            begin = reader.line_num + 1
    except csv.Error as error:
        raise HardStop(f"{name}, line {begin}: not a well-formed CSV", found=quoted(error, 120), hint="quote the cell") from error
    return rows, at


def _wanted_header(found: list[str], wanted: Sequence[str], name: str) -> tuple[list[str], list[str]]:
    """The header with the wanted names, and what was taken for what."""
    while found and not found[-1]:
        found = found[:-1]
    header = [c or f"column {n}" for n, c in enumerate(found, start=1)]
    notes, missing = [], []
    for column in dict.fromkeys(wanted):
        same = [n for n, c in enumerate(header) if c == column]
        alike = same or [n for n, c in enumerate(header) if folded_name(c) == folded_name(column)]
        if len(alike) > 1:
            raise HardStop(
                f"{name} has several columns {quoted(column)}",
                expected="one",
                found=", ".join(quoted(header[n]) for n in alike),
                hint="rename one of them, or map it by its exact name",
            )
        if not alike:
            missing.append(column)
        elif not same:
            notes.append(f"the column {quoted(header[alike[0]])} is taken as {quoted(column)}")
            header[alike[0]] = column
    if missing:
        raise HardStop(
            f"{name} lacks the column {', '.join(missing)}",
            expected=", ".join(wanted),
            found=quoted(", ".join(found), 300),
            hint="correct --map, or name the separator with --delimiter and the encoding with --encoding",
        )
    seen: dict[str, int] = {}
    for n, column in enumerate(header):
        seen[column] = seen.get(column, 0) + 1
        if seen[column] > 1:
            header[n] = f"{column}.{seen[column]}"
    return header, notes
