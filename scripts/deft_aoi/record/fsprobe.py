"""What the workspace's file system can promise: named from the mount table, and proven in the run's own folder."""

from __future__ import annotations

import fcntl
import os
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


def describe(path: str | os.PathLike[str]) -> FileSystem:
    """Name the file system that holds ``path``; reads the mount table only."""
    real, best, kind = os.path.realpath(path), "", "unknown"
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as handle:
            for row in handle:
                left, _, right = row.partition(" - ")
                mount = left.split()[4].replace("\\040", " ")
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

    Returns:
        ``{"flock": …, "fsync": …, "rename": …}``.

    Raises:
        Blocked: rename does not replace a file, so nothing could be published here.
    """
    base = os.path.join(os.fspath(folder), f".probe-{os.getpid()}")
    found = {"flock": True, "fsync": True, "rename": True}
    for name in ("a", "b"):
        with open(f"{base}-{name}", "w", encoding="ascii") as handle:
            handle.write(name)
    fd = os.open(f"{base}-a", os.O_RDWR)
    try:
        for what, work in (("flock", lambda: fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)), ("fsync", lambda: os.fsync(fd))):
            try:
                work()
            except OSError:
                found[what] = False
        try:
            os.replace(f"{base}-a", f"{base}-b")
            fsync_dir(folder)
            with open(f"{base}-b", encoding="ascii") as handle:
                found["rename"] = handle.read() == "a"
        except OSError:
            found["rename"] = False
    finally:
        os.close(fd)
        for name in ("a", "b"):
            if os.path.exists(f"{base}-{name}"):
                os.unlink(f"{base}-{name}")
    if not found["rename"]:
        raise Blocked(
            "this file system cannot replace a file by rename", found=str(folder), hint="use a local or POSIX file system"
        )
    return found
