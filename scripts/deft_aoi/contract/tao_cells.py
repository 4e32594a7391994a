"""What TAO makes of the cells of a CSV: it reads them with pandas' type inference, only ``object_name`` as text.

``NA``, ``null`` and their like arrive as missing, ``00041`` as 41, ``1e5`` as a number: TAO then looks for another folder,
or trains another label, hours after the start.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from deft_aoi.contract.changenet_csv import MANDATORY, csv_text
from deft_aoi.contract.errors import HardStop
from deft_aoi.contract.table_reader import file_line
from deft_aoi.contract.text import quoted

if TYPE_CHECKING:
    import pandas as pd

Misread = tuple[str, int, str, str]
"""(column, first row from 0, the cell, what TAO reads)."""


def tao_misreads(frame: pd.DataFrame) -> list[Misread]:
    """Cells of the mandatory columns that TAO would read as something else, each value once."""
    import pandas as pd

    columns = [c for c in MANDATORY if c in frame.columns]
    seen = pd.read_csv(io.StringIO(csv_text(frame[columns])), dtype={"object_name": str}, low_memory=False)
    out: list[Misread] = []
    for column in columns:
        read = ["a missing value" if pd.isna(v) else str(v) for v in seen[column].tolist()]
        known: set[str] = set()
        for row, (cell, got) in enumerate(zip(frame[column].tolist(), read, strict=True)):
            if cell != got and cell not in known:
                known.add(cell)
                out.append((column, row, cell, got))
    return out


def tao_message(misread: Misread) -> tuple[str, str]:
    """What is wrong, and the fix."""
    column, _row, cell, got = misread
    fix = "rename the label" if column == "label" else "rename the part" if column == "object_name" else "rename the folder"
    return (
        f"TAO reads the CSV with pandas, which takes {quoted(cell)} in the column {column} for {quoted(got)}",
        f"{fix} so that it begins with a letter and is no word for a missing value, such as {quoted('x' + cell)}",
    )


def require_tao_cells(frame: pd.DataFrame, what: str) -> None:
    """Stop before anything is spent. Raises HardStop naming the line of the first such cell."""
    found = tao_misreads(frame)
    if found:
        message, fix = tao_message(found[0])
        line = file_line(frame, int(frame.index[found[0][1]]))
        raise HardStop(
            f"{what}, line {line}: {message}",
            expected="cells that stay text under pandas' type inference",
            found=", ".join(f"{quoted(cell, 30)} in {column}" for column, _, cell, _ in found[:8]),
            hint=fix,
        )
