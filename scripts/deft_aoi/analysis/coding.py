"""Codes for columns that repeat (labels, boards, parts) and for the names of samples: integers are compared, not text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import pandas as pd

Codes = npt.NDArray[np.signedinteger[Any]]
Rows = npt.NDArray[np.intp]

RUN_PROBE = 4096
"""Rows looked at to see whether a column comes in runs: an inspection writes board after board."""

RUN_LENGTH = 8
"""Mean length from which runs are coded instead of rows; run-length encoding a shuffled column would cost more."""

BLOCK_ROWS = 1 << 15
"""Rows sieved at once: their numbers stay in the processor's cache."""

SIEVE_BITS = 22
"""4 MiB of marks: 50,000 names mark one in eighty."""

HASH_FACTOR = np.uint64(0x9E3779B97F4A7C15)
"""Fibonacci hashing: the odd number nearest to 2**64 over the golden ratio (Knuth, TAOCP 3, 6.4)."""


def factorize(values: Any) -> tuple[Codes, Any]:
    """Number the distinct values of a column.

    Args:
        values: (N,) cells; missing ones count as one more value.

    Returns:
        ``(codes, uniques)``: (N,) integers from 0, each of them in use, and the value of each code.
    """
    import pandas as pd

    series = pd.Series(values)
    if isinstance(series.dtype, pd.CategoricalDtype):
        codes = series.cat.codes.to_numpy().astype(np.int32)  # they may come as int8: too narrow to be counted with
        if codes.min(initial=0) >= 0 and np.bincount(codes, minlength=len(series.cat.categories)).all():
            return codes, series.cat.categories  # coded already, and each code is in use
    if isinstance(series.dtype, pd.StringDtype) and series.dtype.storage == "pyarrow" and len(series) > RUN_PROBE:
        return _factorize_text(series)
    return pd.factorize(series, use_na_sentinel=False)


def _factorize_text(series: pd.Series[Any]) -> tuple[Codes, list[Any]]:
    import pyarrow as pa
    import pyarrow.compute as pc

    cells = pa.chunked_array(pa.array(series))
    lengths = None
    if len(pc.run_end_encode(cells.slice(0, RUN_PROBE).combine_chunks()).values) * RUN_LENGTH <= RUN_PROBE:
        runs = [pc.run_end_encode(chunk) for chunk in cells.chunks]
        lengths = np.concatenate([np.diff(r.run_ends.to_numpy(), prepend=0) for r in runs])
        cells = pa.chunked_array([r.values for r in runs])
    coded: Any = cells.dictionary_encode("encode").combine_chunks()
    codes = coded.indices.to_numpy()
    return codes if lengths is None else np.repeat(codes, lengths), coded.dictionary.to_pylist()


def groups_of(frame: pd.DataFrame, column: str) -> tuple[Codes, list[str]] | None:
    """Codes and values of a grouping column (board, part type); ``None`` when it is absent or empty throughout."""
    if column not in frame.columns:
        return None
    codes, uniques = factorize(frame[column])
    values = [cell_text(u) for u in uniques]
    return (codes, values) if any(values) else None


def cell_text(value: Any) -> str:
    """A cell as text; empty for a missing one."""
    return value if isinstance(value, str) else "" if value is None or value != value else str(value)


def name_codes(frame: pd.DataFrame, rows: Rows | None = None) -> Codes | None:
    """One code for each (input_path, golden_path, object_name); ``None`` when every row has its own object_name.

    Args:
        frame: the rows.
        rows: positions of those to look at; absent: all.
    """

    def column(name: str) -> Any:
        return frame[name] if rows is None else frame[name].iloc[rows]

    codes, uniques = factorize(column("object_name"))
    if len(uniques) == len(codes):
        return None
    for name in ("input_path", "golden_path"):
        more, found = factorize(column(name))
        codes = factorize(codes.astype(np.int64) * len(found) + more)[0]
    return codes


def rows_named_as(frame: pd.DataFrame, which: npt.NDArray[np.bool_]) -> Rows:
    """Positions of rows that may share an object_name with a row in ``which``: those that do, and few others.

    Hashing each of a million names costs more than all other checks together, so the last bytes of a name, read as one
    number, sieve them first. Whoever asks compares the names of what is left.
    """
    import pyarrow as pa

    names: Any = pa.array(frame["object_name"])
    names = names.combine_chunks() if isinstance(names, pa.ChunkedArray) else names
    if not isinstance(names, pa.LargeStringArray) or names.null_count:
        return np.arange(len(names))
    _valid, offsets, text = names.buffers()
    ends = np.frombuffer(offsets, dtype=np.int64)[names.offset : names.offset + len(names) + 1]
    padded = np.concatenate([np.zeros(8, dtype=np.uint8), np.frombuffer(text or b"", dtype=np.uint8)])
    words = np.ndarray((len(padded) - 7,), dtype="<u8", buffer=padded, strides=(1,))  # at each byte the word that ends there
    marks = np.zeros(1 << SIEVE_BITS, dtype=bool)
    ours = np.flatnonzero(which)
    marks[_place(_tails(words, ends[ours], ends[ours + 1]))] = True
    blocks = [(ends[b:-1][:BLOCK_ROWS], ends[b + 1 :][:BLOCK_ROWS]) for b in range(0, len(names), BLOCK_ROWS)]
    rows = np.flatnonzero(np.concatenate([marks[_place(_tails(words, *block))] for block in blocks]))
    tails = _tails(words, ends[rows], ends[rows + 1])
    ordered = np.sort(tails)
    return rows[np.isin(tails, ordered[1:][ordered[1:] == ordered[:-1]])]


def _tails(words: npt.NDArray[np.uint64], starts: Codes, ends: Codes) -> npt.NDArray[np.uint64]:
    """The last eight bytes of each text as one number; a shorter text as if NUL stood before it."""
    half = np.maximum(8 - (ends - starts), 0).view(np.uint64) * np.uint64(4)
    tails: npt.NDArray[np.uint64] = words[ends]
    tails >>= half
    tails >>= half  # twice: a shift by the whole word is undefined, and an empty text needs it
    return tails


def _place(tails: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
    """Where a text stands in the sieve."""
    return (tails * HASH_FACTOR >> np.uint64(64 - SIEVE_BITS)).view(np.int64)
