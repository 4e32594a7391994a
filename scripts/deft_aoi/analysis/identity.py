"""Identity of a sample by content: the decoded pixels of every light, input then golden (DESIGN sections 7 and 10).

Renamed and re-encoded copies have one identity, because file names, encodings and metadata do not enter it. Pixels are
RGB8 as TAO decodes them: no EXIF rotation. A pair whose images are all flat is ``featureless`` and identifies nothing.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deft_aoi.analysis import digest_workers
from deft_aoi.analysis.constants import THUMB_SIDE
from deft_aoi.analysis.digest_cache import DigestCache, FileIdentity
from deft_aoi.analysis.scored import sample_ids
from deft_aoi.contract.changenet_csv import ImageLayout
from deft_aoi.contract.errors import HardStop
from deft_aoi.contract.images import ImageRefused, open_image
from deft_aoi.contract.paths import resolve_under
from deft_aoi.contract.text import safe_text

if TYPE_CHECKING:
    import pandas as pd
    from PIL import Image

SAVE_SECONDS = 30.0
"""What a killed process has to decode again, at most; a long save makes the next one wait twenty times as long."""


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


def identify(image: Image.Image) -> tuple[bytes, bool, bytes]:
    """Digest, flatness and thumbnail of an RGB image.

    Returns:
        SHA-256 over shape and pixels; whether every pixel has one colour; the 8 x 8 block means in grey levels.
    """
    from PIL import Image

    raw = image.tobytes()
    digest = hashlib.sha256(b"RGB8 %d %d\n" % image.size)
    digest.update(raw)
    flat = raw == raw[:3] * (len(raw) // 3)
    if image.width % THUMB_SIDE or image.height % THUMB_SIDE:
        small = image.resize((THUMB_SIDE, THUMB_SIDE), Image.Resampling.BOX)
    else:  # the same block means, in half the time
        small = image.reduce((image.width // THUMB_SIDE, image.height // THUMB_SIDE))
    return digest.digest(), flat, small.convert("L").tobytes()


class ContentIndex:
    """Identities of images, cached by (path, size, mtime_ns, ctime_ns, inode), so that only new files are decoded.

    Args:
        cache_dir: folder of the cache file; made when needed.
        workers: child processes that decode; by default one a processor when there are thousands of new files.
    """

    def __init__(self, cache_dir: str | os.PathLike[str], *, workers: int | None = None) -> None:
        self._cache = DigestCache(Path(cache_dir))
        self._workers = workers
        self.decoded = 0

    def identities(self, paths: Iterable[str]) -> dict[str, FileIdentity]:
        """Identity of each distinct path; decodes what the cache does not know and saves it.

        Raises:
            HardStop: an image is missing or cannot be decoded.
        """
        known, unknown = self._cache.lookup(paths)
        if not unknown:
            return known
        wait, saved = SAVE_SECONDS, time.monotonic()
        try:
            found = self._decode([path for path, _ in unknown])
            for (path, stamp), identity in zip(unknown, found, strict=True):
                if self._cache.stamp(path) == stamp:  # a file that changed while it was read is not remembered
                    self._cache.add(path, stamp, identity)
                known[path] = identity
                self.decoded += 1
                if (now := time.monotonic()) - saved > wait:
                    self._cache.save()
                    saved = time.monotonic()
                    wait = max(SAVE_SECONDS, 20 * (saved - now))
        finally:
            self._cache.save()
        return known

    def _decode(self, paths: Sequence[str]) -> Iterator[FileIdentity]:
        """The identity of each path, in order."""
        workers = digest_workers.worker_count(len(paths)) if self._workers is None else self._workers
        if workers < 2:
            yield from (FileIdentity(*identify(open_image(path))) for path in paths)
            return
        for path, identity in zip(paths, digest_workers.identify_files(paths, workers), strict=True):
            yield identity or FileIdentity(*identify(open_image(path)))

    def digest_pairs(self, frame: pd.DataFrame, layout: ImageLayout, *, what: str = "set") -> pd.DataFrame:
        """Identify every row.

        Args:
            frame: N ChangeNet rows.
            layout: how they name images.
            what: how messages name the set.

        Returns:
            Frame with the index of ``frame``: ``content_id`` (hex SHA-256 over the image digests, each light's input, then
            each light's golden), ``featureless`` (bool), ``phash`` (bytes, 64 for each image: block-mean thumbnails).

        Raises:
            HardStop: an image is missing or damaged, with the line, or a path leaves the layout's folder.
        """
        import pandas as pd

        columns = image_paths(frame, layout)
        try:
            known = self.identities(p for column in columns for p in column)
        except FileNotFoundError as error:
            raise _missing(frame, columns, str(error.filename), what) from error
        except ImageRefused as error:
            error.message = _where(columns, error.path, what)[0] + error.message
            raise
        per_image = [[known[p] for p in column] for column in columns]
        ids, flat, thumbs = [], [], []
        for images in zip(*per_image, strict=True):
            ids.append(hashlib.sha256(b"".join([i.digest for i in images])).hexdigest())
            flat.append(all([i.flat for i in images]))  # noqa: C419  (a list is twice as fast for two images)
            thumbs.append(b"".join([i.thumb for i in images]))
        return pd.DataFrame({"content_id": ids, "featureless": flat, "phash": thumbs}, index=frame.index)

    def part(self, name: str, frame: pd.DataFrame, layout: ImageLayout) -> Part:
        """A data set with its identities."""
        return Part(name, frame, layout, self.digest_pairs(frame, layout, what=name))


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
                line = frame[column].tolist().index(folder) + 2
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


def _where(columns: list[list[str]], path: str, what: str) -> tuple[str, int | None]:
    """``<set>, line N, column C: `` of the first row that names this file, and the row's number from 0."""
    for i, column in enumerate(columns):
        if path in column:
            row = column.index(path)
            name = "input_path" if i < len(columns) // 2 else "golden_path"
            return f"{what}, line {row + 2}, column {name}: ", row
    return f"{what}: ", None


def _missing(frame: pd.DataFrame, columns: list[list[str]], path: str, what: str) -> HardStop:
    where, row = _where(columns, path, what)
    if row is None:
        return HardStop(f"{where}an image is missing", expected=safe_text(path, 300))
    return HardStop(
        f"{where}the image is missing",
        expected=safe_text(path, 300),
        found=f"no such file for {safe_text(sample_ids(frame.iloc[[row]])[0], 160)}",
        hint="every light of input_map needs its file; check images_dir, image_ext and input_map in the spec",
    )


def distinct_counts(ids: pd.DataFrame) -> Mapping[str, int]:
    """Rows, distinct contents and featureless rows of a set."""
    return {
        "rows": len(ids),
        "distinct": int(ids["content_id"].nunique()),
        "featureless": int(ids["featureless"].sum()),
    }
