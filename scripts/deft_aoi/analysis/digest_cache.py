"""The cache of image identities: one file, replaced atomically, safe to delete: Parquet, then the SHA-256 of it.

A row is a file: its path, its stamp, the SHA-256 of its bytes and, where it was decoded, what its pixels are. Equal bytes are
equal pixels, so a copy of a known file is not decoded again; but a TIFF or WebP file is decoded under its own extension
only, so what such a name allowed is no answer for another. The digest at the end is for damage: an identity that lost a bit
would let a copy of a KPI image pass, so a file that does not match it is not believed and the images are decoded again.
"""

from __future__ import annotations

import hashlib
import io
import os
import struct
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from deft_aoi.analysis.constants import THUMB_BYTES, THUMB_SIDE
from deft_aoi.contract.files import atomic_write_bytes
from deft_aoi.contract.images import FileBytes, Stamp, has_own_extension, stamp_of

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from PIL import Image

_THUMB = THUMB_BYTES
FILE_NAME = "image_digests.v4"
STAMP = ("size", "mtime_ns", "ctime_ns", "inode")


class FileIdentity(NamedTuple):
    """One image: SHA-256 of shape and RGB8 pixels, whether it is flat, its size and grey thumbnail if asked for."""

    digest: bytes
    flat: bool
    thumb: bytes | None


def identify(image: Image.Image, *, thumb: bool = True) -> FileIdentity:
    """Digest (SHA-256 over shape and pixels), flatness and, if asked for, thumbnail of an RGB image.

    The thumbnail (size, then block means in grey levels) costs as much as the rest; the search for near-duplicates needs it.
    """
    raw = image.tobytes()
    digest = hashlib.sha256(b"RGB8 %d %d\n" % image.size)
    digest.update(raw)
    flat = raw[:3] == raw[-3:] and raw == raw[:3] * (len(raw) // 3)
    return FileIdentity(digest.digest(), flat, _thumb(image) if thumb else None)


def _thumb(image: Image.Image) -> bytes:
    from PIL import Image

    if image.width % THUMB_SIDE or image.height % THUMB_SIDE:
        small = image.resize((THUMB_SIDE, THUMB_SIDE), Image.Resampling.BOX)
    else:  # the same block means, in half the time
        small = image.reduce((image.width // THUMB_SIDE, image.height // THUMB_SIDE))
    return struct.pack("<HH", min(image.width, 0xFFFF), min(image.height, 0xFFFF)) + small.convert("L").tobytes()


_UNKNOWN = FileIdentity(bytes(32), False, None)
_UNKNOWN_THUMB = bytes(_THUMB)


class DigestCache:
    """What is known of files, by path and stamp.

    Two processes may share a folder: each replaces the file as a whole, and what one of them did not see is read again.

    Args:
        folder: where the file lies.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE_NAME
        self._saved: pa.Table | None = None
        self._new = _New()
        self._dirty = False
        self._by_bytes: dict[bytes, int] | None = None

    def find(self, paths: Sequence[str]) -> tuple[pa.Table, np.ndarray]:
        """The table of all that is known, and the row in it of each path that is there with the recorded stamp, else -1."""
        import numpy as np

        table, rows = self.rows(paths)
        hit = np.flatnonzero(rows >= 0)
        now = np.array([_stamp(paths[i]) for i in hit.tolist()], dtype=np.int64).reshape(-1, 4)
        same = np.ones(len(hit), dtype=bool)
        for i, name in enumerate(STAMP):
            same &= table.column(name).to_numpy()[rows[hit]] == now[:, i]
        rows[hit[~same]] = -1
        return table, rows

    def rows(self, paths: Sequence[str]) -> tuple[pa.Table, np.ndarray]:
        """The table and the row of each path as it was read, whatever its stamp is by now; -1 where there is none."""
        import numpy as np
        import pyarrow as pa
        import pyarrow.compute as pc

        table = self._table()
        at = pc.index_in(pa.array(paths, pa.large_string()), value_set=table.column("path")).fill_null(-1)
        return table, at.to_numpy(zero_copy_only=False).astype(np.int64)

    def of_bytes(self, sha256: bytes, *, thumb: bool) -> FileIdentity | None:
        """What is known of the pixels of a file with these bytes, whatever it is called; with its thumbnail if need be."""
        if self._by_bytes is None:
            self._by_bytes = _decoded(self._table())
        row = self._by_bytes.get(sha256)
        if row is None:
            return None
        found = self._new.identity(~row) if row < 0 else self._saved_identity(row)
        return None if thumb and found.thumb is None else found

    def _saved_identity(self, row: int) -> FileIdentity:
        assert self._saved is not None
        return FileIdentity(*(self._saved.column(name)[row].as_py() for name in ("digest", "flat", "thumb")))

    def add(self, path: str, seen: FileBytes, pixels: FileIdentity | None) -> None:
        """Remember a file until :meth:`save`."""
        self._dirty = True
        at = self._new.add(path, seen, pixels)
        if pixels and self._by_bytes is not None and not has_own_extension(path):
            self._by_bytes[seen.sha256] = ~at  # below 0: not saved yet

    def save(self) -> None:
        """Replace the file, if there is anything new. A folder that cannot be written costs the cache, not the result."""
        import pyarrow.parquet as pq

        if not self._dirty:
            return
        self._dirty = False
        buffer = io.BytesIO()
        pq.write_table(self._table(), buffer, compression="lz4", use_dictionary=False)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            data = buffer.getvalue()
            atomic_write_bytes(self.path, data + hashlib.sha256(data).digest())
        except OSError:
            return

    def _table(self) -> pa.Table:
        """Everything known, one row a path; what is new replaces what was saved of the same path."""
        import pyarrow as pa
        import pyarrow.compute as pc

        if self._saved is None:
            self._saved = self._read()
        if self._new.paths:
            new, self._new, self._by_bytes = self._new.table(), _New(), None
            old = self._saved.filter(pc.invert(pc.is_in(self._saved.column("path"), value_set=new.column("path"))))
            self._saved = pa.concat_tables([old, new]).combine_chunks()
        return self._saved

    def _read(self) -> pa.Table:
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            whole = memoryview(self.path.read_bytes())
            data = whole[:-32]
            if hashlib.sha256(data).digest() == whole[-32:]:
                table = pq.read_table(pa.BufferReader(data))
                if table.schema.equals(_schema()):
                    table.validate(full=True)
                    return table.combine_chunks()
        except (OSError, pa.ArrowException, ValueError, KeyError):
            pass  # absent, damaged or of another layout: read the files again
        return _schema().empty_table()


def _stamp(path: str) -> Stamp:
    """The stamp of a file; -1 throughout where there is none, which no row has."""
    try:
        return stamp_of(os.stat(path))  # noqa: PTH116  (100,000 rows: Path objects cost more than the call)
    except FileNotFoundError:
        return -1, -1, -1, -1


def _schema() -> pa.Schema:
    import pyarrow as pa

    stamps = [(name, pa.int64()) for name in STAMP]
    pixels = [("digest", pa.binary(32)), ("flat", pa.bool_()), ("thumb", pa.binary(_THUMB))]
    return pa.schema([("path", pa.large_string()), *stamps, ("sha256", pa.binary(32)), *pixels])


class _New:
    """The rows that are not in the table yet, by column: an object a row costs the garbage collector a tenth of a file's time."""

    def __init__(self) -> None:
        self.paths: list[str] = []
        self._stamps = array("q")
        self._sha256, self._digest, self._thumb = bytearray(), bytearray(), bytearray()
        self._flat = bytearray()  # 0 or 1
        self._decoded, self._thumbed = bytearray(), bytearray()  # whether digest and flatness, and the thumbnail, are there

    def add(self, path: str, seen: FileBytes, pixels: FileIdentity | None) -> int:
        """Add a row and return its number."""
        self.paths.append(path)
        self._stamps.extend(seen.stamp)
        self._sha256 += seen.sha256
        digest, flat, thumb = pixels or _UNKNOWN
        self._digest += digest
        self._flat.append(flat)
        self._decoded.append(pixels is not None)
        self._thumb += thumb or _UNKNOWN_THUMB
        self._thumbed.append(thumb is not None)
        return len(self.paths) - 1

    def identity(self, at: int) -> FileIdentity:
        """What the pixels of a decoded row are."""
        thumb = bytes(self._thumb[at * _THUMB : (at + 1) * _THUMB]) if self._thumbed[at] else None
        return FileIdentity(bytes(self._digest[at * 32 : (at + 1) * 32]), bool(self._flat[at]), thumb)

    def table(self) -> pa.Table:
        """The rows; of a path that comes twice the last."""
        import numpy as np
        import pyarrow as pa

        rows, schema = len(self.paths), _schema()
        decoded, thumbed = (pa.array(np.frombuffer(b, dtype=bool)) for b in (self._decoded, self._thumbed))

        def binary(name: str, values: bytearray, valid: pa.Array | None) -> pa.Array:
            bitmap = None if valid is None else valid.buffers()[1]
            return pa.Array.from_buffers(schema.field(name).type, rows, [bitmap, pa.py_buffer(values)])

        table = pa.Table.from_arrays(
            [
                pa.array(self.paths, schema.field("path").type),
                *np.frombuffer(self._stamps, dtype=np.int64).reshape(-1, len(STAMP)).T,
                binary("sha256", self._sha256, None),
                binary("digest", self._digest, decoded),
                pa.array(np.frombuffer(self._flat, dtype=bool), mask=~np.frombuffer(self._decoded, dtype=bool)),
                binary("thumb", self._thumb, thumbed),
            ],
            schema=schema,
        )
        last = {path: at for at, path in enumerate(self.paths)}
        return table if len(last) == rows else table.take(pa.array(last.values()))


def _decoded(table: pa.Table) -> dict[bytes, int]:
    """The row of each content of bytes whose pixels are known, whatever a file with them is called."""
    decoded = table.column("digest").is_valid().to_pylist()
    rows = zip(table.column("path").to_pylist(), table.column("sha256").to_pylist(), decoded, strict=True)
    return {sha256: at for at, (path, sha256, known) in enumerate(rows) if known and not has_own_extension(path)}
