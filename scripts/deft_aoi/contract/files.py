"""The one way to write a file, to digest one and to copy one.

A write is: temporary file in the same folder, fsync, rename, fsync of the folder. A reader therefore sees the old
content or the new, never a part. Paths are accepted as ``str`` or ``os.PathLike``; ``pathlib`` is not imported here
because the run log's append path uses this module.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import stat
from collections.abc import Iterable
from typing import Any

from deft_aoi.contract.errors import Blocked, HardStop
from deft_aoi.contract.safe_open import StrPath, open_regular

_CHUNK = 1 << 20
_FICLONE = 0x40049409  # linux/fs.h: share the extents of another file (btrfs, xfs)


def fsync_dir(path: StrPath) -> None:
    """Make the folder's own entries durable."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def raise_unreadable(error: OSError) -> None:
    """For ``os.walk``, which passes over what it cannot read: only what is not there (any more) may be missing."""
    if not isinstance(error, FileNotFoundError):
        raise error


def fsync_tree(path: StrPath) -> None:
    """Make every regular file and folder under ``path`` durable, deepest first.

    Raises:
        OSError: a folder cannot be read, or something cannot be made durable.
    """
    for folder, _dirs, names in os.walk(path, topdown=False, onerror=raise_unreadable):
        for name in names:
            full = os.path.join(folder, name)
            if not stat.S_ISREG(os.lstat(full).st_mode):
                continue  # a FIFO would be waited for; what may not lie here is refused by the manifest
            fd = os.open(full, os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)
        fsync_dir(folder)


def atomic_write_bytes(path: StrPath, data: bytes, *, mode: int = 0o644) -> None:
    """Replace ``path`` by ``data`` so that a crash leaves the old file or the new one.

    Raises:
        Blocked: no space is left (the old file stands).
        OSError: any other failure (the old file stands).
    """
    target = os.fspath(path)
    folder, name = os.path.split(target)
    temp = os.path.join(folder, f".{name}.{os.getpid()}.tmp")
    fd = -1
    try:
        fd = os.open(temp, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, mode)
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]
        os.fsync(fd)
        os.close(fd)
        fd = -1
        os.replace(temp, target)
    except OSError as error:
        if fd >= 0:
            os.close(fd)
        with contextlib.suppress(OSError):
            os.unlink(temp)
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise Blocked(
                f"no space left while writing {target}",
                found=os.strerror(error.errno),
                hint="free space on that file system and run the same command again; the old file is untouched",
            ) from error
        raise
    fsync_dir(folder or ".")


def atomic_write_text(path: StrPath, text: str) -> None:
    """Replace ``path`` by ``text`` (UTF-8). See :func:`atomic_write_bytes`."""
    atomic_write_bytes(path, text.encode("utf-8"))


def atomic_write_json(path: StrPath, obj: Any) -> None:
    """Replace ``path`` by ``obj`` as JSON: sorted keys, ASCII, NaN refused, one newline at the end."""
    atomic_write_text(path, json.dumps(obj, sort_keys=True, indent=1, ensure_ascii=True, allow_nan=False) + "\n")


def read_json(path: StrPath, *, what: str) -> Any:
    """Read a JSON file that the project wrote.

    Raises:
        HardStop: the file is missing or is not one JSON value.
    """
    try:
        with os.fdopen(open_file(path), encoding="utf-8") as handle:
            return json.load(handle)
    except FileNotFoundError as error:
        raise HardStop(
            f"{what} is missing",
            expected=os.fspath(path),
            hint="restore the file; verify_run.py says what else is gone",
        ) from error
    except (ValueError, RecursionError) as error:
        raise HardStop(
            f"{what} is damaged",
            found=f"{type(error).__name__} in {os.fspath(path)}",
            hint="restore the file from a backup; nothing repairs it silently",
        ) from error


def canonical_json(obj: Any) -> str:
    """One spelling for one value: sorted keys, no spaces, ASCII. Digests are taken of this."""
    return json.dumps(obj, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def sha256_bytes(data: bytes) -> str:
    """Hex SHA-256 of ``data``."""
    return hashlib.sha256(data).hexdigest()


def digest_json(obj: Any) -> str:
    """Hex SHA-256 of the canonical JSON of ``obj``."""
    return sha256_bytes(canonical_json(obj).encode("ascii"))


def sha256_file(path: StrPath) -> str:
    """Hex SHA-256 of a regular file (a symbolic link is followed).

    Raises:
        HardStop: not a regular file; a FIFO is not waited for.
    """
    with os.fdopen(open_file(path), "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest() if hasattr(hashlib, "file_digest") else _digest(handle)


def _digest(handle: Any) -> str:
    digest = hashlib.sha256()
    while chunk := handle.read(_CHUNK):
        digest.update(chunk)
    return digest.hexdigest()


def open_file(path: StrPath) -> int:
    """Open a regular file for reading; links are followed, nothing is waited for."""
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise HardStop(
            f"{os.fspath(path)} is not a regular file",
            found="a folder or a special file",
            hint="put a copy of the data itself there",
        )
    return fd


def open_log(path: StrPath, *, append: bool) -> int:
    """Open a job's log for writing.

    The job may write to that folder, too: a link that it put in the log's place is removed, never followed.
    """
    flags = os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC | (os.O_APPEND if append else 0)
    with contextlib.suppress(OSError):
        fd = os.open(path, flags | os.O_NONBLOCK)
        found = os.fstat(fd)
        if stat.S_ISREG(found.st_mode) and found.st_nlink == 1:
            if not append:
                os.ftruncate(fd, 0)
            return fd
        os.close(fd)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    return os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o644)


def digests_below(root: StrPath, names: Iterable[str]) -> dict[str, str]:
    """``{relative path: hex SHA-256}`` of those files that are there."""
    paths = ((name, os.path.join(root, name)) for name in names)
    return {name: sha256_file(path) for name, path in paths if os.path.isfile(path)}


def copy_hashed(src: StrPath, dst: StrPath) -> tuple[int, str]:
    """Copy ``src`` to ``dst`` through one open descriptor and digest what was copied.

    The copy is private: extents may be shared by the file system (reflink), the inode never is. What is digested is
    read back from the copy when extents were shared, so the digest is always that of the copy.

    Returns:
        ``(size_bytes, sha256)`` of the copy.

    Raises:
        HardStop: ``src`` is not a regular file.
    """
    import fcntl

    source = open_regular(src)
    try:
        target = os.open(dst, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
        try:
            digest, size, reader = hashlib.sha256(), 0, source
            try:
                fcntl.ioctl(target, _FICLONE, source)
                reader = target
            except OSError:
                os.ftruncate(target, 0)
            while chunk := os.read(reader, _CHUNK):
                digest.update(chunk)
                size += len(chunk)
                view = memoryview(chunk) if reader is source else memoryview(b"")
                while view:
                    view = view[os.write(target, view) :]
            return size, digest.hexdigest()
        finally:
            os.close(target)
    finally:
        os.close(source)
