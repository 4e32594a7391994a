"""``run/log.index``: what an append needs to know of the log without reading it: its tip, and where each ``op_id`` is.

A cache in pages of 4096 bytes, each with its own CRC. Page 0 is the header: offset, number and digest of the last verified
line, digest of the snapshot, boot id. The other pages are hash buckets of ``(op_id key, offset of the line)``; a hit is
always compared with the line itself, so a wrong entry cannot answer. A missing one could, therefore: a page whose CRC does
not hold, or a header of another boot (its pages may have been lost with the power), means that the index is made again
from the whole log. A killed process loses nothing that it wrote here, so no fsync is needed.

The header is also a witness: it was written after its line was durable, so a log that is shorter, or holds another line
there, has lost acknowledged events.
"""

from __future__ import annotations

import hashlib
import os
import struct
import zlib

from deft_aoi.record import log_event

TYPE_CHECKING = False
if TYPE_CHECKING:
    from deft_aoi.record.log_event import Event
    from deft_aoi.record.log_file import LogFile

PAGE = 4096
_HEADER = struct.Struct("<8sIQQ32s32s36s")
_MAGIC = b"DEFTIDX1"
_ENTRY = struct.Struct("<QQ")
_FULL = (PAGE - 8) // _ENTRY.size
_FIRST_BUCKETS = 4
_NO_BOOT = b"-" * 36


class Tip:
    """The last verified line.

    Attributes:
        offset: bytes of the log up to and including it.
        seq: its number; 0 for an empty log.
        head: its digest.
    """

    __slots__ = ("head", "offset", "seq")

    def __init__(self, offset: int = 0, seq: int = 0, head: str = log_event.GENESIS) -> None:
        self.offset = offset
        self.seq = seq
        self.head = head


class BrokenIndex(Exception):
    """A page does not hold what its CRC says."""


def index_path(root: str) -> str:
    """Where the index lies."""
    return os.path.join(root, "run", "log.index")


def boot_id() -> bytes:
    """This boot of this machine, 36 bytes; one that never matches where the kernel does not tell."""
    try:
        with open("/proc/sys/kernel/random/boot_id", "rb") as handle:
            found = handle.read(36)
    except OSError:
        return _NO_BOOT
    return found if len(found) == 36 else _NO_BOOT


def _key(op_id: str) -> int:
    return int.from_bytes(hashlib.sha256(op_id.encode("utf-8", "backslashreplace")).digest()[:8], "little")


def _sealed(body: bytes) -> bytes:
    return struct.pack("<I", zlib.crc32(body)) + body


def _opened(page: bytes) -> bytes | None:
    holds = len(page) == PAGE and struct.unpack_from("<I", page)[0] == zlib.crc32(page[4:])
    return page[4:] if holds else None


def read_header(root: str) -> tuple[Tip, str, int, bool] | None:
    """The header: ``(tip, sha256 of the snapshot, buckets, whether this boot wrote it)``; ``None`` without a whole one."""
    try:
        with open(index_path(root), "rb") as handle:
            body = _opened(handle.read(PAGE))
    except OSError:
        return None
    if body is None:
        return None
    magic, buckets, offset, seq, head, snapshot, boot = _HEADER.unpack_from(body)
    if magic != _MAGIC:
        return None
    return Tip(offset, seq, head.hex()), snapshot.hex(), buckets, boot == boot_id() != _NO_BOOT


class Index:
    """The open index of a locked log. Errors of the file system never leave it: it is then only slower.

    Attributes:
        tip: the tip that the header names.
        snapshot: digest of the snapshot that belongs to it.
        usable: whether lookups may be answered from it.
    """

    def __init__(self, log: LogFile) -> None:
        self.log = log
        self.path = index_path(log.root)
        self.tip, self.snapshot, self._buckets, self.usable = read_header(log.root) or (Tip(), "", 0, False)
        self._fd = -1
        if self.usable:
            try:
                self._fd = os.open(self.path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
                self.usable = os.fstat(self._fd).st_size == PAGE * (1 + self._buckets)
            except OSError:
                self.usable = False

    def __enter__(self) -> Index:
        return self

    def __exit__(self, *_: object) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def rebuild(self, entries: list[tuple[str, int]], tip: Tip) -> None:
        """Make the index again from every ``(op_id, offset)`` of the log."""
        self._fill([(_key(op_id), offset) for op_id, offset in entries], tip)

    def find(self, op_id: str) -> Event | None:
        """The event with this ``op_id``, read from the log itself.

        Raises:
            BrokenIndex: a page is damaged; the index must be rebuilt.
        """
        key = _key(op_id)
        for known, offset in self._bucket(key):
            if known == key and (event := event_at(self.log, offset)) is not None and event["op_id"] == op_id:
                return event
        return None

    def note(self, op_id: str, offset: int) -> None:
        """Add one line; adding it again changes nothing.

        Raises:
            BrokenIndex: see :meth:`find`.
        """
        key = _key(op_id)
        rows = self._bucket(key)
        if (key, offset) in rows:
            return
        if len(rows) == _FULL:
            entries = [row for bucket in range(self._buckets) for row in self._rows(bucket)]
            self._fill([*entries, (key, offset)], self.tip)
            return
        self._put(key % self._buckets + 1, _page([*rows, (key, offset)]))

    def save(self, tip: Tip, snapshot: str) -> None:
        """Write the header: everything up to ``tip`` is in the index and durable in the log."""
        self.tip, self.snapshot = tip, snapshot
        self._put(0, self._header())

    def _header(self) -> bytes:
        tip = self.tip
        head, snapshot = bytes.fromhex(tip.head), bytes.fromhex(self.snapshot or "00" * 32)
        body = _HEADER.pack(_MAGIC, self._buckets, tip.offset, tip.seq, head, snapshot, boot_id())
        return _sealed(body.ljust(PAGE - 4, b"\0"))

    def _bucket(self, key: int) -> list[tuple[int, int]]:
        return self._rows(key % self._buckets)

    def _rows(self, bucket: int) -> list[tuple[int, int]]:
        try:
            body = _opened(os.pread(self._fd, PAGE, PAGE * (bucket + 1)))
        except OSError:
            body = None
        if body is None:
            raise BrokenIndex
        count = struct.unpack_from("<I", body)[0]
        return list(_ENTRY.iter_unpack(body[4 : 4 + count * _ENTRY.size]))

    def _put(self, page: int, raw: bytes) -> None:
        if not self.usable:
            return
        try:
            self.usable = os.pwrite(self._fd, raw, PAGE * page) == PAGE
        except OSError:
            self.usable = False

    def _fill(self, entries: list[tuple[int, int]], tip: Tip) -> None:
        buckets = _FIRST_BUCKETS
        while True:
            rows: list[list[tuple[int, int]]] = [[] for _ in range(buckets)]
            for entry in dict.fromkeys(entries):
                rows[entry[0] % buckets].append(entry)
            if max(map(len, rows)) < _FULL:
                break
            buckets *= 4
        self.tip, self._buckets = tip, buckets
        self.__exit__()
        temp = f"{self.path}.tmp"
        try:
            with open(temp, "wb") as handle:
                handle.write(self._header() + b"".join(map(_page, rows)))
            os.rename(temp, self.path)
            self._fd = os.open(self.path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
            self.usable = True
        except OSError:
            self.usable = False


def _page(rows: list[tuple[int, int]]) -> bytes:
    body = struct.pack("<I", len(rows)) + b"".join(_ENTRY.pack(*row) for row in rows)
    return _sealed(body.ljust(PAGE - 4, b"\0"))


def event_at(log: LogFile, offset: int) -> Event | None:
    """The event whose line begins at ``offset``; ``None`` where no line of ours does."""
    import json

    raw = log.pread(log_event.MAX_LINE, offset)
    try:
        event = json.loads(raw[: raw.index(b"\n")])
    except ValueError:
        return None
    return event if not log_event.check_event(event) else None


def line_before(log: LogFile, offset: int) -> bytes:
    """The line that ends at ``offset``, newline included."""
    begin = max(0, offset - log_event.MAX_LINE - 1)
    before = log.pread(offset - begin, begin)
    return before[before.rfind(b"\n", 0, max(len(before) - 1, 0)) + 1 :]
