"""Identity of a sample by content: the decoded pixels of every light, input then golden.

Renamed and re-encoded copies have one identity, because file names, encodings and metadata do not enter it. Pixels are
RGB8 as TAO decodes them: no EXIF rotation. A pair whose images are all flat is ``featureless`` and identifies nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deft_aoi.analysis.digest_cache import identify
from deft_aoi.analysis.file_index import FileIndex, UnusableImages, reason
from deft_aoi.analysis.scored import sample_ids
from deft_aoi.contract.changenet_csv import ImageLayout
from deft_aoi.contract.errors import HardStop
from deft_aoi.contract.files import digest_json
from deft_aoi.contract.images import ImageRefused
from deft_aoi.contract.paths import resolve_under
from deft_aoi.contract.table_reader import file_line
from deft_aoi.contract.text import quoted

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from deft_aoi.contract.splits import Split

__all__ = ["ContentIndex", "Part", "content_digest", "distinct_counts", "identify", "identities_of", "image_paths"]


@dataclass(frozen=True)
class Part:
    """One data set with its identities: what the leakage and assembly rules compare.

    Attributes:
        name: how messages call it: ``training set``, ``KPI set``, ``pool``.
        frame: N ChangeNet rows.
        layout: how rows name images.
        ids: (N,) frame of :meth:`ContentIndex.digest_pairs`.
    """

    name: str
    frame: pd.DataFrame
    layout: ImageLayout
    ids: pd.DataFrame

    def take(self, keep: Any) -> Part:
        """The rows of a boolean mask, index 0..n-1."""
        return Part(self.name, self.frame[keep].reset_index(drop=True), self.layout, self.ids[keep].reset_index(drop=True))


class ContentIndex(FileIndex):
    """Identities of rows; see :class:`deft_aoi.analysis.file_index.FileIndex` for its arguments and its cache."""

    def digest_pairs(self, frame: pd.DataFrame, layout: ImageLayout, *, what: str = "set") -> pd.DataFrame:
        """Identify every row.

        Args:
            frame: N ChangeNet rows.
            layout: how they name images.
            what: how messages name the set.

        Returns:
            Frame with the index of ``frame``: ``content_id`` (hex SHA-256 over the image digests, each light's input, then
            each light's golden) and ``featureless`` (bool) tell the pair; ``test_id``, ``test_flat`` and ``test_thumb`` (bytes)
            tell the test image alone, which is what leakage is about: the same part against another golden is the same part.

        Raises:
            HardStop: an image is missing or damaged, with the line, or a path leaves the layout's folder.
        """
        import numpy as np
        import pandas as pd

        columns = image_paths(frame, layout)
        at = {path: i for i, path in enumerate(dict.fromkeys(p for column in columns for p in column))}
        try:
            found = self.pixels(list(at), thumbs=True)
        except FileNotFoundError as error:
            raise _missing(frame, columns, str(error.filename), what) from error
        except ImageRefused as error:
            error.message = f"{what}, {_where(columns, error.path)[0]}{error.message}"
            raise
        except UnusableImages as error:
            problems = error.problems
            rows = (f"{_where(columns, p)[0]}{quoted(Path(p).name)}: {reason(e)}" for p, e in problems.items())
            raise UnusableImages(problems, rows, what=f"{what}: ") from error
        images = [np.fromiter((at[path] for path in column), np.int64, len(column)) for column in columns]
        digests = np.concatenate([found.digest[image] for image in images], axis=1)
        ids = [hashlib.sha256(row).hexdigest() for row in _rows(digests)]
        flat = np.logical_and.reduce([found.flat[image] for image in images])
        tests = images[: len(layout.lights)]
        assert found.thumb is not None
        test = {
            "test_id": [hashlib.sha256(row).hexdigest() for row in _rows(digests[:, : 32 * len(tests)])],
            "test_flat": np.logical_and.reduce([found.flat[image] for image in tests]),
            "test_thumb": _rows(np.concatenate([found.thumb[image] for image in tests], axis=1)),
        }
        return pd.DataFrame({"content_id": ids, "featureless": flat, **test}, index=frame.index)

    def part(self, name: str, frame: pd.DataFrame, layout: ImageLayout) -> Part:
        """A data set with its identities."""
        return Part(name, frame, layout, self.digest_pairs(frame, layout, what=name))


def _rows(matrix: np.ndarray) -> list[bytes]:
    """The rows of a (N, width) uint8 matrix as bytes."""
    raw, width = matrix.tobytes(), matrix.shape[1]
    return [raw[i : i + width] for i in range(0, len(raw), width)]


def image_paths(frame: pd.DataFrame, layout: ImageLayout) -> list[list[str]]:
    """Absolute image paths by column: each light's input, then each light's golden; N paths in each.

    Raises:
        HardStop: a folder leaves the layout's folder or is a symbolic link.
    """
    folders: dict[str, str] = {}
    for column in ("input_path", "golden_path"):
        for folder in frame[column].unique():
            try:
                folders[folder] = str(resolve_under(layout.images_dir, folder))
            except HardStop as error:
                line = file_line(frame, frame[column].tolist().index(folder))
                error.message = f"line {line}, column {column}: {error.message}"
                raise
    out = []
    names = frame["object_name"].tolist()
    for column in ("input_path", "golden_path"):
        roots = [folders[f] for f in frame[column]]
        for light in layout.lights:
            tail = layout.file_name("", light)
            out.append([f"{root}/{name}{tail}" for root, name in zip(roots, names, strict=True)])
    return out


def _where(columns: list[list[str]], path: str) -> tuple[str, int | None]:
    """``line N, column C: `` of the first row that names this file, and the row's number from 0."""
    for i, column in enumerate(columns):
        if path in column:
            row = column.index(path)
            name = "input_path" if i < len(columns) // 2 else "golden_path"
            return f"line {row + 2}, column {name}: ", row
    return "", None


def _missing(frame: pd.DataFrame, columns: list[list[str]], path: str, what: str) -> HardStop:
    where, row = _where(columns, path)
    if row is None:
        return HardStop(
            f"{what}: an image is missing",
            expected=quoted(path, 300),
            hint="restore the image or remove its row; check_data.py lists them all",
        )
    return HardStop(
        f"{what}, {where}the image is missing",
        expected=quoted(path, 300),
        found=f"no such file for {quoted(sample_ids(frame.iloc[[row]])[0], 160)}",
        hint="every light of input_map needs its file; check images_dir, image_ext and input_map in the spec",
    )


def distinct_counts(ids: pd.DataFrame) -> Mapping[str, int]:
    """Rows, distinct contents and featureless rows of a set."""
    return {
        "rows": len(ids),
        "distinct": int(ids["content_id"].nunique()),
        "featureless": int(ids["featureless"].sum()),
    }


def identities_of(split: Split, cache_dir: Path) -> pd.DataFrame:
    """Content identity of every row of a split (decodes what the cache does not know)."""
    return ContentIndex(cache_dir).digest_pairs(split.frame, split.layout, what=f"the {split.title}")


def content_digest(identities: pd.DataFrame) -> str:
    """One digest over the content identities of a set, in row order."""
    return digest_json(identities["content_id"].tolist())
