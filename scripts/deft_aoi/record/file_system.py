"""What the workspace's file system can promise: named from the mount table, and proven in the run's own folder."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
from typing import NamedTuple

from deft_aoi.contract.errors import Blocked
from deft_aoi.contract.files import fsync_dir

NETWORK = frozenset(
    (
        "nfs",
        "nfs4",
        "lustre",
        "cifs",
        "smb3",
        "9p",
        "fuse",
        "fuse.sshfs",
        "fuse.s3fs",
        "beegfs",
        "gpfs",
        "ceph",
        "afs",
        "glusterfs",
    )
)


class FileSystem(NamedTuple):
    """A file system by its mount.

    Attributes:
        kind: its type, as the kernel names it.
        network: whether other hosts may write to it.
        text: one line for a person.
    """

    kind: str
    network: bool
    text: str


NO_FLOCK = "locks lock nothing on this file system: one driver only, on one host; its lock lies on that host's own disk"

_ESCAPE = re.compile(r"\\([0-7]{3})")


def describe(path: str | os.PathLike[str]) -> FileSystem:
    """Name the file system that holds ``path``; reads the mount table only."""
    real, best, kind = os.path.realpath(path), "", "unknown"
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as handle:
            for row in handle:
                left, _, right = row.partition(" - ")
                mount = _ESCAPE.sub(lambda m: chr(int(m[1], 8)), left.split()[4])
                inside = real == mount or real.startswith(mount.rstrip("/") + "/")
                if inside and len(mount) >= len(best):
                    best, kind = mount, right.split()[0]
    except (OSError, IndexError):
        pass
    network = kind in NETWORK or kind.startswith("fuse.")
    promise = "one driver only, on one host at a time: locks are not shared between hosts" if network else "locks are shared"
    return FileSystem(kind, network, f"{kind} ({promise})")


def probe(folder: str | os.PathLike[str]) -> dict[str, bool]:
    """Try flock, fsync and rename in ``folder`` (which must be ours to write).

    flock counts only when a second descriptor is refused: a file system may take the call and lock nothing.

    Returns:
        ``{"flock": …, "fsync": …, "rename": …}``.

    Raises:
        Blocked: nothing can be written here, or rename does not replace a file, so nothing could be published.
    """
    base = os.path.join(os.fspath(folder), f".probe-{os.getpid()}")
    names = (f"{base}-a", f"{base}-b")
    fds: list[int] = []
    try:
        for name in names:
            fds.append(os.open(name, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600))
            os.write(fds[-1], name[-1:].encode())
        fds.append(os.open(names[0], os.O_RDWR | os.O_CLOEXEC))
        return {"flock": _locks(fds[0], fds[2]), "fsync": _syncs(fds[0]), "rename": _renames(names, os.fspath(folder))}
    except OSError as error:
        raise Blocked(
            "this folder cannot hold a run",
            expected="writing a file and replacing one by rename",
            found=f"{os.strerror(error.errno or 0)} in {os.fspath(folder)}",
            hint="use a local or POSIX file system that you may write to",
        ) from error
    finally:
        for fd in fds:
            os.close(fd)
        for name in names:
            with contextlib.suppress(OSError):
                os.unlink(name)


def require(folder: str | os.PathLike[str]) -> dict[str, bool]:
    """Prove that ``folder`` can hold a run; without flock it can, for one driver.

    Returns:
        What :func:`probe` found.

    Raises:
        Blocked: it cannot.
    """
    found = probe(folder)
    if not found["fsync"]:
        raise Blocked(
            "this folder cannot hold a run",
            expected="fsync, so that an event on record is still there after a power cut",
            found=f"fsync is refused in {os.fspath(folder)}",
            hint="use a local or POSIX file system",
        )
    return found


def _locks(first: int, second: int) -> bool:
    try:
        fcntl.flock(first, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    try:
        fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _syncs(fd: int) -> bool:
    try:
        os.fsync(fd)
    except OSError:
        return False
    return True


def _renames(names: tuple[str, str], folder: str) -> bool:
    os.replace(*names)
    fsync_dir(folder)
    with open(names[1], "rb") as handle:
        if handle.read() != b"a" or os.path.exists(names[0]):
            raise OSError(errno.EIO, "rename did not replace the file")
    return True
