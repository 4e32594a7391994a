"""Read a scored CSV fast, and of a very large one only what the KPI needs, columns that repeat as dictionaries.

``inference.csv`` has every column of the input CSV and the score. TAO re-serialises the other
columns (``00041`` becomes ``41``), so rows are joined by position, never by such a column: :func:`attach_scores`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from deft_aoi.analysis.scored import NAME_COLUMNS
from deft_aoi.contract.errors import HardStop
from deft_aoi.contract.table_reader import check_csv_text, with_blank_lines
from deft_aoi.contract.text import quoted

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

LARGE_BYTES = 1 << 28
REPEATING = ("golden_path", "project", "boardname", "part_type", "comp_type_1", "light")
"""Columns whose values repeat: read as dictionaries a very large file takes less memory, if a little more time."""


def read_scores(path: Path, *, label_column: str = "label", score_column: str = "siamese_score") -> pd.DataFrame:
    """Read a scored CSV.

    Args:
        path: the file, UTF-8.
        label_column: its label column.
        score_column: its score column.

    Returns:
        Frame with the score as float64 and every other column as text; above 256 MiB only the columns that the KPI uses.

    Raises:
        HardStop: missing, empty, malformed, a duplicate column, or one of the two columns is absent.
    """
    file = Path(path)
    header, blanks = _header(file, label_column, score_column)
    large = file.stat().st_size > LARGE_BYTES
    used = {label_column, score_column, *NAME_COLUMNS, *REPEATING}
    columns = [c for c in header if c in used] if large else header
    try:
        table = _read(file, columns, label_column, score_column, numeric=True, large=large)
    except HardStop:
        # Some score is no number: read it as text, so that the check can name its line.
        table = _read(file, columns, label_column, score_column, numeric=False, large=large)
    frame: pd.DataFrame = table.to_pandas(split_blocks=True, self_destruct=True)
    return with_blank_lines(frame, blanks)


def _header(file: Path, label_column: str, score_column: str) -> tuple[list[str], tuple[int, ...]]:
    if not file.is_file() or file.stat().st_size == 0:
        raise HardStop(
            f"the scored set {quoted(file, 200)} is missing or empty",
            expected="a CSV with a label and a score column",
            hint="run the inference; it writes inference.csv",
        )
    with file.open("rb") as handle:
        try:
            return check_csv_text(handle, file, f"the scored set ({file.name})", (label_column, score_column))
        except HardStop as error:
            if "lacks the column" in error.message and "rename" not in error.hint:
                error.hint = "give --label-column or --score-column"
            raise


def _read(file: Path, columns: list[str], label: str, score: str, *, numeric: bool, large: bool) -> pa.Table:
    import pyarrow as pa
    import pyarrow.csv as pacsv

    repeating = pa.dictionary(pa.int32(), pa.string())
    coded = {label, *REPEATING} if large else set()
    types: dict[str, Any] = {c: repeating if c in coded else pa.large_string() for c in columns}
    types[score] = pa.float64() if numeric else pa.string()
    convert = pacsv.ConvertOptions(
        column_types=types, include_columns=columns, strings_can_be_null=False, null_values=["", "NaN", "nan", "NULL", "null"]
    )
    try:
        if not large:
            return pacsv.read_csv(file, convert_options=convert).combine_chunks()
        with pacsv.open_csv(file, convert_options=convert) as reader:
            return pa.Table.from_batches(reader, schema=reader.schema).unify_dictionaries()
    except (pa.ArrowInvalid, pa.ArrowKeyError, UnicodeDecodeError) as error:
        raise HardStop(
            f"{quoted(file.name)} is not a well-formed CSV",
            expected="UTF-8, as many cells in each row as in the header",
            found=quoted(error, 200),
            hint="score the set again: a job that died while it wrote leaves half a line",
        ) from error


def attach_scores(rows: pd.DataFrame, scored: pd.DataFrame, *, score_column: str = "siamese_score") -> pd.DataFrame:
    """Put the scores of an ``inference.csv`` beside the rows that were given to the inference, by position.

    Args:
        rows: N rows of the input CSV.
        scored: N rows of ``inference.csv``.
        score_column: the score column of ``scored``.

    Returns:
        ``rows`` with the score column.

    Raises:
        HardStop: another number of rows, or ``object_name`` or ``label`` differ at a line (the two columns that TAO keeps
            as they are).
    """
    if len(rows) != len(scored):
        raise HardStop(
            "the inference has another number of rows than its input",
            expected=f"{len(rows)} rows",
            found=f"{len(scored)} rows",
            hint="a job that died midway, or a file of another run: run the inference again",
        )
    for column in ("object_name", "label"):
        if column in scored.columns and column in rows.columns:
            differs = rows[column].astype(str).to_numpy() != scored[column].astype(str).to_numpy()
            if differs.any():
                line = int(differs.argmax())
                raise HardStop(
                    f"line {line + 2} of the inference is another sample than its input",
                    expected=f"{column} {quoted(rows[column].iat[line])}",
                    found=quoted(scored[column].iat[line]),
                    hint="scores are in input order with one GPU; more GPUs shuffle them (inference.num_gpus=1)",
                )
    return rows.reset_index(drop=True).assign(**{score_column: scored[score_column].to_numpy()})
