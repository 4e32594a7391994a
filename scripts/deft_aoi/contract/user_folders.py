"""Where the user's own files are: state (plans, approvals, locks), cache (digests), data (the Python environment).

``$XDG_STATE_HOME``, ``$XDG_CACHE_HOME`` and ``$XDG_DATA_HOME``, each with ``deft-aoi`` below it. A relative value is ignored,
as the XDG base directory specification asks; without one the folder is below the user's home.
"""

from __future__ import annotations

import errno
import os

TYPE_CHECKING = False  # typing itself would cost a hook a tenth of its start
if TYPE_CHECKING:
    from .errors import Blocked

_REFUSALS = {
    errno.EROFS: "mount it writable, or copy the workspace to a disk that is",
    errno.EACCES: "work as the user who owns the folder, or copy the workspace to a folder of your own",
    errno.EPERM: "work as the user who owns the folder, or copy the workspace to a folder of your own",
    errno.ENOSPC: "free space on that file system and run the same command again",
    errno.EDQUOT: "free space in your quota and run the same command again",
}
_BELOW_HOME = {"state": ".local/state", "cache": ".cache", "data": ".local/share"}


def user_folder(kind: str) -> str:
    """The folder of one kind, which need not exist yet.

    Args:
        kind: ``state``, ``cache`` or ``data``.

    Raises:
        Blocked: neither the variable nor a home folder says where.
    """
    variable = f"XDG_{kind.upper()}_HOME"
    base = os.environ.get(variable, "")
    if not os.path.isabs(base):
        home = os.path.expanduser("~")  # $HOME, else the passwd entry, else "~" itself
        if not os.path.isabs(home) or (os.path.exists(home) and not os.path.isdir(home)):
            from .errors import Blocked

            raise Blocked(
                f"there is no folder for this user's {kind} files",
                expected=f"HOME or {variable} names a folder that can be written",
                found=f"HOME={os.environ.get('HOME', 'not set')}, {variable}={base or 'not set'}",
                hint=f"set one of them, for example: export {variable}=/some/folder",
            )
        base = os.path.join(home, _BELOW_HOME[kind])
    return os.path.join(base, "deft-aoi")


def local_lock_path(run: str | os.PathLike[str], kind: str) -> str:
    """The local lock of a run, on this machine's own disk, named by the run's real path; its folder is made.

    It holds where the workspace's file system has no flock or keeps it to one host (NFS, Lustre, FUSE).
    """
    import hashlib

    key = hashlib.sha256(os.fsencode(os.path.realpath(run))).hexdigest()[:32]
    folder = os.path.join(user_folder("state"), "locks")
    os.makedirs(folder, mode=0o700, exist_ok=True)
    return os.path.join(folder, f"{key}.{kind}.lock")


def cannot_write(error: OSError) -> Blocked | None:
    """What to say of a folder that cannot be written or a file that this user may not touch; ``None`` for another fault."""
    from .errors import Blocked
    from .text import printable

    name = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes | os.PathLike) else ""
    for kind in _BELOW_HOME:
        try:
            folder = user_folder(kind)
        except Blocked:
            continue
        # The folder that could not be made may be one above it.
        if name and (name.startswith(folder) or folder.startswith(name.rstrip("/") + "/")):
            return Blocked(
                f"this user's {kind} files cannot be written",
                expected=f"a folder that can be written at {folder}",
                found=f"{error.strerror}: {name}",
                hint=f"set XDG_{kind.upper()}_HOME to a folder that can be written",
            )
    if not name or error.errno not in _REFUSALS:
        return None
    return Blocked(
        "the file system refuses a file",
        expected="a file system that this user may read and write",
        found=f"{error.strerror}: {printable(name, 300)}",
        hint=_REFUSALS[error.errno],
    )
