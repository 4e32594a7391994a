"""What files and their pixels are, each read once and each distinct content of bytes decoded once.

Two questions with two prices: the SHA-256 of a file's bytes is as fast as reading it, what its pixels are needs the decoder.
Both answers are remembered by path and stamp, and that of the pixels by the bytes as well.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from deft_aoi.analysis import digest_workers
from deft_aoi.analysis.constants import MAX_LISTED
from deft_aoi.analysis.digest_cache import STAMP, DigestCache, FileIdentity, identify
from deft_aoi.analysis.digest_workers import Work
from deft_aoi.contract.errors import HardStop
from deft_aoi.contract.images import FileBytes, ImageRefused, has_own_extension, open_digested, read_image_file
from deft_aoi.contract.text import quoted

if TYPE_CHECKING:
    import numpy as np

SAVE_SECONDS = 30.0
"""What a killed process has to read again, at most; a long save makes the next one wait twenty times as long."""

Learned = tuple[FileBytes, FileIdentity | None]


class Pixels(NamedTuple):
    """What N images are: ``digest`` (N, 32) uint8, ``flat`` (N,) bool, ``thumb`` (N, THUMB_BYTES) uint8 if asked for."""

    digest: np.ndarray
    flat: np.ndarray
    thumb: np.ndarray | None


class UnusableImages(HardStop):
    """More than one image is missing or is not decoded.

    Attributes:
        problems: error by path.
    """

    def __init__(self, problems: dict[str, Exception], named: Iterable[str], *, what: str = "") -> None:
        listed = list(named)
        more = f"; and {len(problems) - MAX_LISTED} more" if len(problems) > MAX_LISTED else ""
        super().__init__(
            f"{what}{len(problems)} images cannot be used",
            expected="every image there, whole, and of a kind that is decoded",
            found="; ".join(listed[:MAX_LISTED]) + more,
            hint="replace the files, or remove their rows",
        )
        self.problems = problems


def reason(error: Exception) -> str:
    """Why an image is not used, without its path."""
    if isinstance(error, FileNotFoundError):
        return "missing"
    return error.found if isinstance(error, HardStop) and error.found else quoted(error, 120)


class FileIndex:
    """Digests of image files and of their pixels, with a cache.

    Args:
        cache_dir: folder of the cache file; made when needed.
        workers: child processes that read and decode; by default one a processor when there are thousands of new files.
    """

    def __init__(self, cache_dir: str | os.PathLike[str], *, workers: int | None = None) -> None:
        self._cache = DigestCache(Path(cache_dir))
        self._workers = workers
        self.decoded = 0

    def file_digests(self, paths: Sequence[str]) -> np.ndarray:
        """SHA-256 of the bytes of each of N distinct files, (N, 32) uint8; nothing is decoded.

        Raises:
            FileNotFoundError, ImageRefused, UnusableImages: a file is missing, no regular file, linked, or too large.
        """
        problems: dict[str, Exception] = {}
        table, rows = self._cache.find(paths)
        if new := _at(paths, rows < 0):
            with self._saving():
                self._learn(new, problems, Work.READ)
            _raise(problems)
            table, rows = self._cache.rows(paths)
        sha256: np.ndarray = _matrix(table, "sha256")[rows]
        return sha256

    def pixels(self, paths: Sequence[str], *, thumbs: bool = False) -> Pixels:
        """What each of N distinct images is; decodes bytes that the cache does not know, and saves what it learns.

        Raises:
            FileNotFoundError, ImageRefused, UnusableImages: images are missing or cannot be decoded.
        """
        problems: dict[str, Exception] = {}
        table, rows = self._cache.find(paths)
        decoded = table.column("thumb" if thumbs else "digest").is_valid().to_numpy()
        known = rows >= 0
        known[known] = decoded[rows[known]]
        if new := _at(paths, ~known):
            with self._saving():
                self._identify(new, problems, Work.THUMB if thumbs else Work.DECODE)
            _raise(problems)
            table, rows = self._cache.rows(paths)
        flat = table.column("flat").to_numpy()[rows].astype(bool)
        return Pixels(_matrix(table, "digest")[rows], flat, _matrix(table, "thumb")[rows] if thumbs else None)

    def pixel_digests(self, paths: Iterable[str]) -> dict[str, tuple[bytes, bool]]:
        """Digest and flatness of each distinct path; raises like :meth:`pixels`."""
        distinct = list(dict.fromkeys(paths))
        found = self.pixels(distinct)
        digests = (row.tobytes() for row in found.digest)
        return dict(zip(distinct, zip(digests, found.flat.tolist(), strict=True), strict=True))

    def _identify(self, new: list[str], problems: dict[str, Exception], work: Work) -> None:
        if self._children(len(new)) < 2:  # each file is opened once, and decoded unless its bytes are known
            self._learn(new, problems, work)
            return
        # Children do not know of one another: first the bytes of all, then the pixels of each distinct content of bytes.
        seen = self._read(new, problems)
        thumb, first = work is Work.THUMB, dict[bytes, str]()
        for path, read in seen.items():
            if self._cache.of_bytes(read.sha256, thumb=thumb) is None:
                first.setdefault(os.fsencode(path) if has_own_extension(path) else read.sha256, path)
        asked = set(first.values())
        self._learn(list(first.values()), problems, work)
        rest = []
        for path, read in seen.items():
            if path in asked:
                continue
            known = self._cache.of_bytes(read.sha256, thumb=thumb)
            if known is None:  # a copy of bytes that are no image, or a file that changed meanwhile
                rest.append(path)
            else:
                self._cache.add(path, read, known)
        self._learn(rest, problems, work)

    def _read(self, paths: list[str], problems: dict[str, Exception]) -> dict[str, FileBytes]:
        """The bytes' digests of files, which the cache may know although it does not know the pixels."""
        _table, rows = self._cache.find(paths)
        self._learn(_at(paths, rows < 0), problems, Work.READ)
        there = [path for path in paths if path not in problems]
        table, rows = self._cache.rows(there)
        sha256 = table.column("sha256").take(rows).to_pylist()
        stamps = zip(*(table.column(name).to_numpy()[rows].tolist() for name in STAMP), strict=True)
        return dict(zip(there, map(FileBytes, sha256, stamps), strict=True))

    def _learn(self, paths: Sequence[str], problems: dict[str, Exception], work: Work) -> None:
        """Read (and decode) files into the cache; what cannot be goes to ``problems``."""
        wait, saved = SAVE_SECONDS, time.monotonic()
        for path, answer in zip(paths, self._answers(paths, work), strict=True):
            if isinstance(answer, Exception):
                problems[path] = answer
                continue
            self._cache.add(path, *answer)
            if (now := time.monotonic()) - saved > wait:
                self._cache.save()
                saved = time.monotonic()
                wait = max(SAVE_SECONDS, 20 * (saved - now))

    def _answers(self, paths: Sequence[str], work: Work) -> Iterator[Learned | Exception]:
        workers = self._children(len(paths))
        if workers < 2:
            yield from map(self._alone, paths, itertools.repeat(work))
            return
        for path, answer in zip(paths, digest_workers.ask_children(paths, workers, work=work), strict=True):
            self.decoded += work is not Work.READ and answer is not None
            yield answer or self._alone(path, work)

    def _alone(self, path: str, work: Work) -> Learned | Exception:
        thumb = work is Work.THUMB
        try:
            if work is Work.READ:
                return read_image_file(path), None
            seen, found = open_digested(path, lambda sha256: self._cache.of_bytes(sha256, thumb=thumb))
            if isinstance(found, FileIdentity):
                return seen, found
            self.decoded += 1
            return seen, identify(found, thumb=thumb)
        except (ImageRefused, FileNotFoundError) as error:
            return error

    def _children(self, files: int) -> int:
        return digest_workers.worker_count(files) if self._workers is None else self._workers if files else 0

    @contextlib.contextmanager
    def _saving(self) -> Iterator[None]:
        try:
            yield
        finally:
            self._cache.save()


def _at(paths: Sequence[str], where: np.ndarray) -> list[str]:
    return [path for path, wanted in zip(paths, where.tolist(), strict=True) if wanted]


def _matrix(table: Any, name: str) -> np.ndarray:
    """A column of fixed-size binary values as (rows, bytes) uint8; what is null there has arbitrary bytes here."""
    import numpy as np

    width = table.schema.field(name).type.byte_width
    chunks = table.column(name).chunks
    if not chunks:
        return np.empty((0, width), dtype=np.uint8)
    (chunk,) = chunks
    return np.frombuffer(chunk.buffers()[1], dtype=np.uint8)[chunk.offset * width :][: len(chunk) * width].reshape(-1, width)


def _raise(problems: dict[str, Exception]) -> None:
    if len(problems) == 1:
        raise next(iter(problems.values()))
    if problems:
        raise UnusableImages(problems, (f"{quoted(path, 200)}: {reason(error)}" for path, error in problems.items()))
