"""The cache of image identities: one Parquet file, replaced atomically, safe to delete."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from deft_aoi.contract.files import atomic_write_bytes

Stamp = tuple[int, int, int, int]
"""size_bytes, mtime_ns, ctime_ns, inode: a file with the same stamp is taken to be unchanged."""

FILE_NAME = "image_digests.v1.parquet"
COLUMNS = ("path", "size", "mtime_ns", "ctime_ns", "inode", "digest", "flat", "thumb")


class FileIdentity(NamedTuple):
    """One image: SHA-256 of shape and RGB8 pixels, whether it is flat, its 8 x 8 grey thumbnail."""

    digest: bytes
    flat: bool
    thumb: bytes


class DigestCache:
    """Identities by path and stamp.

    Two processes may share a folder: each replaces the file as a whole, and what one of them did not see is decoded again.

    Args:
        folder: where the file lies.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE_NAME
        self._entries: dict[str, tuple[Stamp, FileIdentity]] | None = None

    @staticmethod
    def stamp(path: str) -> Stamp:
        """The stamp of a file. Raises FileNotFoundError."""
        s = os.stat(path)  # noqa: PTH116  (100,000 rows: Path objects cost more than the call)
        return s.st_size, s.st_mtime_ns, s.st_ctime_ns, s.st_ino

    def lookup(self, paths: Iterable[str]) -> tuple[dict[str, FileIdentity], list[tuple[str, Stamp]]]:
        """Split distinct paths into known identities and ``(path, stamp)`` of the files to decode."""
        entries = self._load()
        known: dict[str, FileIdentity] = {}
        unknown: list[tuple[str, Stamp]] = []
        stat = os.stat
        for path in dict.fromkeys(paths):
            s = stat(path)
            stamp = (s.st_size, s.st_mtime_ns, s.st_ctime_ns, s.st_ino)
            entry = entries.get(path)
            if entry is not None and entry[0] == stamp:
                known[path] = entry[1]
            else:
                unknown.append((path, stamp))
        return known, unknown

    def add(self, path: str, stamp: Stamp, identity: FileIdentity) -> None:
        """Remember an identity until :meth:`save`."""
        self._load()[path] = (stamp, identity)

    def save(self) -> None:
        """Replace the file. A folder that cannot be written costs the cache, not the result."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        entries = self._load()
        rows = [(path, *stamp, *identity) for path, (stamp, identity) in entries.items()]
        columns = dict(zip(COLUMNS, zip(*rows, strict=True), strict=True)) if rows else {c: () for c in COLUMNS}
        buffer = io.BytesIO()
        pq.write_table(pa.table(columns), buffer, compression="zstd")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            atomic_write_bytes(self.path, buffer.getvalue())
        except OSError:
            return

    def _load(self) -> dict[str, tuple[Stamp, FileIdentity]]:
        if self._entries is None:
            self._entries = self._read()
        return self._entries

    def _read(self) -> dict[str, tuple[Stamp, FileIdentity]]:
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            table = pq.read_table(self.path, columns=list(COLUMNS))
        except (OSError, pa.ArrowException, ValueError, KeyError):
            return {}  # absent, damaged or of another layout: decode again
        data = [table.column(c).to_pylist() for c in COLUMNS]
        stamps = zip(*data[1:5], strict=True)
        identities = map(FileIdentity, *data[5:8])
        return dict(zip(data[0], zip(stamps, identities, strict=True), strict=True))
