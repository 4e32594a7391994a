"""Leakage between data sets by content: exact by digest, near by thumbnail and pixel distance."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from deft_aoi.analysis.constants import NEAR_RMSE, THUMB_SLACK
from deft_aoi.analysis.identity import Part, image_paths
from deft_aoi.analysis.scored import sample_id
from deft_aoi.contract.errors import HardStop
from deft_aoi.contract.images import open_image
from deft_aoi.contract.text import quoted

if TYPE_CHECKING:
    import pandas as pd

BLOCK_ROWS = 1024


def find_leaks(a: Part, b: Part) -> pd.DataFrame:
    """Rows of ``a`` whose content is in ``b``; featureless pairs are exempt.

    Returns:
        One line for each leaking row of ``a``, with the first row of ``b`` that has its content: ``row_a, row_b``
        (positions from 0), ``line_a, line_b``, ``sample_a, sample_b``, ``label_a, label_b``, ``content_id``.
    """
    import pandas as pd

    solid = ~b.ids["featureless"].to_numpy(dtype=bool)
    first = pd.Series(np.arange(len(b.ids))[solid], index=b.ids["content_id"].to_numpy()[solid])
    first = first[~first.index.duplicated()]
    found = first.reindex(a.ids["content_id"].to_numpy())
    hits = np.flatnonzero(found.notna().to_numpy() & ~a.ids["featureless"].to_numpy(dtype=bool))
    return _pairs(a, b, hits, found.to_numpy()[hits].astype(np.int64), a.ids["content_id"].to_numpy()[hits])


def _pairs(a: Part, b: Part, rows_a: Any, rows_b: Any, content: Any) -> pd.DataFrame:
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
            "content_id": list(content),
        }
    )


def refuse_leaks(a: Part, b: Part) -> None:
    """Stop when a row of ``a`` has the content of a row of ``b``.

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


def near_duplicates(a: Part, b: Part, *, rmse: float = NEAR_RMSE) -> pd.DataFrame:
    """Pairs that differ by less than ``rmse`` grey levels and are not exact copies.

    Block means cannot differ more than the images they come from, so thumbnails closer than ``rmse`` (plus one level for
    their rounding) propose every pair of equal size; the decoded images decide. Rows with one content are looked at once.

    Args:
        a: M rows.
        b: N rows with as many lights.
        rmse: root-mean-square distance over all images of a pair, in grey levels (0..255).

    Returns:
        The columns of :func:`find_leaks` and ``rmse``, ascending. Featureless pairs are exempt.
    """
    rows_a, rows_b = _once(a), _once(b)
    out: list[tuple[int, int, float]] = []
    if len(rows_a) and len(rows_b):
        thumbs_a, thumbs_b = _thumbs(a, rows_a), _thumbs(b, rows_b)
        ids_a, ids_b = a.ids["content_id"].to_numpy()[rows_a], b.ids["content_id"].to_numpy()[rows_b]
        paths_a, paths_b = image_paths(a.frame, a.layout), image_paths(b.frame, b.layout)
        for i, j in _proposals(thumbs_a, thumbs_b, rmse + THUMB_SLACK):
            if ids_a[i] == ids_b[j]:
                continue
            row_a, row_b = int(rows_a[i]), int(rows_b[j])
            distance = pair_rmse([p[row_a] for p in paths_a], [p[row_b] for p in paths_b])
            if distance < rmse:
                out.append((row_a, row_b, distance))
    out.sort(key=lambda t: (t[2], t[0], t[1]))
    found = _pairs(a, b, [t[0] for t in out], [t[1] for t in out], [a.ids["content_id"].iat[t[0]] for t in out])
    found["rmse"] = [t[2] for t in out]
    return found


def _once(part: Part) -> Any:
    """Positions of the first row of each content that is not featureless."""
    keep = ~part.ids["featureless"].to_numpy(dtype=bool) & ~part.ids["content_id"].duplicated().to_numpy(dtype=bool)
    return np.flatnonzero(keep)


def _thumbs(part: Part, rows: Any) -> Any:
    raw = b"".join(part.ids["phash"].to_numpy()[rows])
    return np.frombuffer(raw, dtype=np.uint8).reshape(len(rows), -1).astype(np.float32)


def _proposals(a: Any, b: Any, limit: float) -> list[tuple[int, int]]:
    if a.shape[1] != b.shape[1]:
        raise ValueError(f"both sets need as many images in a pair, got {a.shape[1]} and {b.shape[1]} thumbnail values")
    bound = limit * limit * a.shape[1]
    squares = np.einsum("ij,ij->i", b, b)
    out: list[tuple[int, int]] = []
    for start in range(0, len(a), BLOCK_ROWS):
        block = a[start : start + BLOCK_ROWS]
        for low in range(0, len(b), 64 * BLOCK_ROWS):
            high = low + 64 * BLOCK_ROWS
            distance = np.einsum("ij,ij->i", block, block)[:, None] + squares[None, low:high] - 2.0 * block @ b[low:high].T
            i, j = np.nonzero(distance <= bound + 1e-3 * bound)
            out += zip((i + start).tolist(), (j + low).tolist(), strict=True)
    return out


def pair_rmse(a: list[str], b: list[str]) -> float:
    """Root-mean-square distance of two pairs over all their images, in grey levels; the larger image is scaled down."""
    from PIL import Image

    total, n = 0.0, 0
    for path_a, path_b in zip(a, b, strict=True):
        one, two = open_image(path_a).convert("L"), open_image(path_b).convert("L")
        if one.size != two.size:
            size = (min(one.width, two.width), min(one.height, two.height))
            one, two = (i.resize(size, Image.Resampling.BOX) for i in (one, two))
        difference = np.asarray(one, dtype=np.float32) - np.asarray(two, dtype=np.float32)
        total += float(np.sum(difference * difference, dtype=np.float64))
        n += difference.size
    return float(np.sqrt(total / n))


def shared_boards(a: pd.DataFrame, b: pd.DataFrame) -> list[str]:
    """Board names that both sets have: a warning, because parts of one board look alike."""
    if "boardname" not in a.columns or "boardname" not in b.columns:
        return []
    return sorted((set(a["boardname"]) & set(b["boardname"])) - {""})
