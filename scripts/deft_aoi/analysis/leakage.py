"""Leakage between data sets, decided by the test image alone: exact by digest, near by what it shows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from deft_aoi.analysis.identity import Part, image_paths
from deft_aoi.analysis.near_duplicates import Load, match
from deft_aoi.analysis.scored import sample_id
from deft_aoi.contract.errors import HardStop
from deft_aoi.contract.images import open_image
from deft_aoi.contract.text import quoted

if TYPE_CHECKING:
    import pandas as pd


def find_leaks(a: Part, b: Part) -> pd.DataFrame:
    """Rows of ``a`` whose test image is one of ``b``, whatever its golden; constant test images identify nothing.

    Returns:
        One line for each leaking row of ``a``, with the first row of ``b`` that has its test image: ``row_a, row_b``
        (positions from 0), ``line_a, line_b``, ``sample_a, sample_b``, ``label_a, label_b``.
    """
    import pandas as pd

    solid = ~b.ids["test_flat"].to_numpy(dtype=bool)
    first = pd.Series(np.arange(len(b.ids))[solid], index=b.ids["test_id"].to_numpy()[solid])
    first = first[~first.index.duplicated()]
    found = first.reindex(a.ids["test_id"].to_numpy())
    hits = np.flatnonzero(found.notna().to_numpy() & ~a.ids["test_flat"].to_numpy(dtype=bool))
    return _pairs(a, b, hits, found.to_numpy()[hits].astype(np.int64))


def _pairs(a: Part, b: Part, rows_a: Any, rows_b: Any) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame(
        {
            "row_a": np.asarray(rows_a, dtype=np.int64),
            "row_b": np.asarray(rows_b, dtype=np.int64),
            "line_a": np.asarray(rows_a, dtype=np.int64) + 2,
            "line_b": np.asarray(rows_b, dtype=np.int64) + 2,
            "sample_a": [sample_id(a.frame, int(r)) for r in rows_a],
            "sample_b": [sample_id(b.frame, int(r)) for r in rows_b],
            "label_a": [a.frame["label"].iat[int(r)] for r in rows_a],
            "label_b": [b.frame["label"].iat[int(r)] for r in rows_b],
        }
    )


def refuse_leaks(a: Part, b: Part) -> None:
    """Stop when a row of ``a`` has the test image of a row of ``b``.

    Raises:
        HardStop: naming both rows.
    """
    leaks = find_leaks(a, b)
    if len(leaks):
        first = leaks.iloc[0]
        raise HardStop(
            f"leakage: line {first.line_a} of the {a.name} has the pixels of line {first.line_b} of the {b.name}",
            expected=f"no sample of the {a.name} in the {b.name}, whatever it is called",
            found=f"{quoted(first.sample_a, 120)} and {quoted(first.sample_b, 120)}; {len(leaks)} such row(s)",
            hint=f"remove these rows from the {a.name}; check_data.py --write-fixed proposes a clean file",
        )


def near_duplicates(a: Part, b: Part) -> pd.DataFrame:
    """Rows of ``a`` whose test image is one of ``b`` in another dress (:mod:`deft_aoi.analysis.near_duplicates`).

    Returns:
        The columns of :func:`find_leaks` and ``residual``, by row of ``a``; exact copies are not among them.
    """
    hits = match(a.ids, b.ids, grey_images(a), grey_images(b))
    found = _pairs(a, b, hits["row_a"], hits["row_b"])
    found["residual"] = hits["residual"]
    return found


def near_stop(a: str, b: str, near: pd.DataFrame) -> HardStop:
    """The error for near-duplicates of the set ``b`` in the set ``a``."""
    first = near.iloc[0]
    return HardStop(
        f"leakage: line {first.line_a} of the {a} shows the test image of line {first.line_b} of the {b} in another dress "
        "(re-encoded, moved, cropped, brighter, resized, flipped or turned)",
        expected=f"no part of the {b} in the {a}, however its image was saved",
        found=f"{quoted(first.sample_a, 120)} and {quoted(first.sample_b, 120)}, {first.residual:.1f} grey levels apart; "
        f"{len(near)} such row(s)",
        hint=f"remove these rows from the {a} (check_data.py --write-fixed proposes a clean file), or, where they are different "
        "parts, --allow-near-duplicates",
    )


LEAK_COLUMNS = ("leak", "leak_kind", "leak_with")


def leaks_into(a: Part, held_out: Mapping[str, Part]) -> pd.DataFrame:
    """Which rows of ``a`` may not be trained on, by any of the sets that judge.

    Returns:
        (M,) frame of text, index of ``a``: ``leak`` (name of the set, empty for none), ``leak_kind`` (``exact`` or ``near``)
        and ``leak_with`` (sample of that set). Exact goes before near, and the first set before the next.
    """
    import pandas as pd

    out = pd.DataFrame("", index=range(len(a.frame)), columns=list(LEAK_COLUMNS))
    for kind, find in (("exact", find_leaks), ("near", near_duplicates)):
        for name, part in held_out.items():
            free = out["leak"].to_numpy() == ""
            if free.any():
                rows = np.flatnonzero(free)
                found = find(a.take(free), part)
                out.loc[rows[found["row_a"]], list(LEAK_COLUMNS)] = [(name, kind, sample) for sample in found["sample_b"]] or ""
    return out.set_axis(a.frame.index)


def grey_images(part: Part) -> Load:
    """Loads the grey test images of a row of ``part``, one a light."""
    paths = image_paths(part.frame, part.layout)[: len(part.layout.lights)]

    def load(row: int) -> list[Any]:
        return [np.asarray(open_image(column[row]).convert("L"), dtype=np.float32) for column in paths]

    return load


def shared_boards(a: pd.DataFrame, b: pd.DataFrame) -> list[str]:
    """Board names that both sets have: a warning, because parts of one board look alike."""
    if "boardname" not in a.columns or "boardname" not in b.columns:
        return []
    return sorted((set(a["boardname"]) & set(b["boardname"])) - {""})
