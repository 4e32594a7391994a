"""The one way to write a file, to digest one, to copy one and to vouch for a folder.

A write is: temporary file in the same folder, fsync, rename, fsync of the folder. A reader therefore sees the old
content or the new, never a part. Paths are accepted as ``str`` or ``os.PathLike``; ``pathlib`` is not imported here
because the run record's append path uses this module.
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

StrPath = str | os.PathLike[str]

MANIFEST_NAME = "_MANIFEST.json"
_CHUNK = 1 << 20
_FICLONE = 0x40049409  # linux/fs.h: share the extents of another file (btrfs, xfs)


def fsync_dir(path: StrPath) -> None:
    """Make the folder's own entries durable."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _unreadable(error: OSError) -> None:
    """For ``os.walk``, which passes over what it cannot read: only what is not there (any more) may be missing."""
    if not isinstance(error, FileNotFoundError):
        raise error


def fsync_tree(path: StrPath) -> None:
    """Make every regular file and folder under ``path`` durable, deepest first.

    Raises:
        OSError: a folder cannot be read, or something cannot be made durable.
    """
    for folder, _dirs, names in os.walk(path, topdown=False, onerror=_unreadable):
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
        raise HardStop(f"{what} is missing", expected=os.fspath(path)) from error
    except (ValueError, RecursionError) as error:
        raise HardStop(f"{what} is damaged", found=f"{type(error).__name__} in {os.fspath(path)}") from error


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
        raise HardStop(f"{os.fspath(path)} is not a regular file", found="a folder or a special file")
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


def open_regular(path: StrPath) -> int:
    """Open a regular file for reading: no symbolic link anywhere on the way is followed, and no FIFO waited for.

    The check is made on what was opened, so nobody can swap a folder for a link between check and open. The caller resolves
    the links that are allowed (:func:`deft_aoi.contract.paths.given`, the workspace's root) beforehand.

    Raises:
        HardStop: ``path`` is a link, a folder, a device or a FIFO, or a folder on the way is a link.
        FileNotFoundError: there is no such file.
    """
    return open_regular_stat(path)[0]


def open_regular_stat(path: StrPath) -> tuple[int, os.stat_result]:
    """:func:`open_regular`, with the ``fstat`` that it needed anyway."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO):
            raise HardStop(f"{os.fspath(path)} is not a regular file", found="a symbolic link or a special file") from error
        raise
    info = os.fstat(fd)
    if not stat.S_ISREG(info.st_mode):
        os.close(fd)
        raise HardStop(f"{os.fspath(path)} is not a regular file", found="a folder or a special file")
    if not _opened_as_named(fd, os.path.abspath(path)):
        os.close(fd)
        raise HardStop(
            f"{os.fspath(path)} is reached through a symbolic link",
            expected="real folders on the whole way",
            found="a folder that is a link, or that was exchanged while the file was opened",
            hint="copy the data to where it is used",
        )
    return fd, info


def _opened_as_named(fd: int, path: str) -> bool:
    """Whether an open file is the one that this absolute path names when no link is followed."""
    try:
        found = os.readlink(f"/proc/self/fd/{fd}")  # the kernel's own word, for one system call
        return found in (path, f"{path} (deleted)")  # replaced since, under its own name, as every write of ours does
    except OSError:  # no /proc: walk, folder by folder
        return _walked(path) == _identity(os.fstat(fd))


def _walked(path: str) -> tuple[int, int] | None:
    """Device and inode of what ``path`` names; ``None`` where a folder on the way is a link."""
    folder = os.open("/", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        *parents, name = path.strip("/").split("/")
        for parent in parents:
            flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
            folder, above = os.open(parent, flags, dir_fd=folder), folder
            os.close(above)
        return _identity(os.stat(name, dir_fd=folder, follow_symlinks=False))
    except OSError:
        return None
    finally:
        os.close(folder)


def _identity(found: os.stat_result) -> tuple[int, int]:
    return found.st_dev, found.st_ino


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


def list_files(root: StrPath) -> list[str]:
    """Relative POSIX paths of every entry under ``root`` that is no real folder, sorted; the manifest itself left out.

    Raises:
        OSError: a folder under ``root`` cannot be read; its files would be missing without a word.
    """
    top, found = os.fspath(root), []
    for folder, dirs, names in os.walk(top, onerror=_unreadable):
        for name in [*names, *(d for d in dirs if os.path.islink(os.path.join(folder, d)))]:
            rel = os.path.relpath(os.path.join(folder, name), top)
            if rel != MANIFEST_NAME:
                found.append(rel)
    return sorted(found)


def _entry(root: str, rel: str) -> dict[str, Any]:
    full = os.path.join(root, rel)
    if os.path.islink(full):
        link = os.readlink(full)
        if os.path.isabs(link) or ".." in link.split(os.sep):
            raise HardStop(f"symbolic link leaves its folder: {rel}", found=link)
        return {"path": rel, "link": link}
    if not stat.S_ISREG(os.lstat(full).st_mode):
        raise HardStop(f"a special file is in a stage's folder: {rel}", found="a FIFO, a socket or a device")
    return {"path": rel, "size": os.stat(full).st_size, "sha256": sha256_file(full)}


def require_plain(root: StrPath) -> None:
    """Stop when something lies under ``root`` that is no file, folder or link within its own folder.

    Raises:
        HardStop: a link that leaves its folder (reading or copying it would bring in what lies elsewhere), or a special file.
    """
    top = os.fspath(root)
    for rel in list_files(top):
        full = os.path.join(top, rel)
        if os.path.islink(full) or not os.path.isfile(full):
            _entry(top, rel)


def write_manifest(root: StrPath, *, inputs_digest: str, extra: dict[str, Any] | None = None) -> str:
    """Vouch for every file under ``root``; written last, so that its presence means that the folder is whole.

    Args:
        root: the folder.
        inputs_digest: digest of everything that the content was made from.
        extra: further facts to keep.

    Returns:
        Hex SHA-256 of the manifest file.
    """
    top = os.fspath(root)
    body = {
        "version": 1,
        "inputs_digest": inputs_digest,
        "files": [_entry(top, rel) for rel in list_files(top)],
        "extra": extra or {},
    }
    atomic_write_json(os.path.join(top, MANIFEST_NAME), body)
    return sha256_file(os.path.join(top, MANIFEST_NAME))


def read_manifest(root: StrPath) -> dict[str, Any]:
    """Read the folder's manifest.

    Raises:
        HardStop: there is none, or it is damaged.
    """
    body = read_json(os.path.join(root, MANIFEST_NAME), what="folder manifest")
    if not isinstance(body, dict) or not isinstance(body.get("files"), list):
        raise HardStop("folder manifest is damaged", found=os.path.join(root, MANIFEST_NAME))
    return body


def verify_manifest(root: StrPath) -> list[str]:
    """Compare the folder with its manifest.

    Returns:
        One line for each thing that does not hold; an empty list means that the folder is as it was published.
    """
    top = os.fspath(root)
    listed = {entry["path"]: entry for entry in read_manifest(top)["files"]}
    problems = [f"not in the manifest: {rel}" for rel in list_files(top) if rel not in listed]
    for rel, entry in listed.items():
        full = os.path.join(top, rel)
        if not os.path.lexists(full):
            problems.append(f"missing: {rel}")
        elif _entry(top, rel) != entry:
            problems.append(f"changed: {rel}")
    return problems
