"""The one way to open a file that somebody else may have put there: a regular file, and no link on the whole way to it.

The kernel decides while it opens (``openat2`` with ``RESOLVE_NO_SYMLINKS``, Linux 5.6), so nobody can swap a folder for a link
between a check and the opening. Where there is no such call each folder is opened from the one before it, which decides the
same at several times the price. The caller resolves the links that are allowed (:func:`deft_aoi.contract.paths.given`, the
workspace's root) beforehand.
"""

from __future__ import annotations

import errno
import functools
import os
import stat
import sys
from collections.abc import Callable

from deft_aoi.contract.errors import HardStop

StrPath = str | os.PathLike[str]

_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_FOLDER = os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC | (os.O_PATH if sys.platform == "linux" else os.O_RDONLY)
_OPENAT2 = 437  # the same number on every architecture (linux/unistd.h)
_RESOLVE_NO_SYMLINKS = 0x04  # linux/openat2.h
_AT_FDCWD = -100
_NOT_HERE = (errno.ENOSYS, errno.EPERM, errno.EINVAL)
"""What an older kernel, or a container's filter of system calls, answers to a call that it does not know."""


def open_regular(path: StrPath) -> int:
    """Open a regular file for reading: no symbolic link anywhere on the way is followed, and no FIFO waited for.

    Raises:
        HardStop: ``path`` is a link, a folder, a device or a FIFO, or a folder on the way is a link.
        FileNotFoundError: there is no such file.
    """
    return open_regular_stat(path)[0]


def open_regular_stat(path: StrPath) -> tuple[int, os.stat_result]:
    """:func:`open_regular`, with the ``fstat`` that it needed anyway."""
    try:
        fd = _open(path)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO):
            raise _refused(path) from error
        raise
    info = os.fstat(fd)
    if not stat.S_ISREG(info.st_mode):
        os.close(fd)
        raise HardStop(
            f"{os.fspath(path)} is not a regular file",
            found="a folder or a special file",
            hint="put a copy of the data itself there",
        )
    return fd, info


def _refused(path: StrPath) -> HardStop:
    """Which of the two it was, for the message alone."""
    try:
        above = stat.S_ISDIR(os.lstat(path).st_mode) or stat.S_ISREG(os.lstat(path).st_mode)
    except OSError:
        above = True
    if above:
        return HardStop(
            f"{os.fspath(path)} is reached through a symbolic link",
            expected="real folders on the whole way",
            found="a folder that is a link, or that was exchanged while the file was opened",
            hint="copy the data to where it is used",
        )
    return HardStop(
        f"{os.fspath(path)} is not a regular file",
        found="a symbolic link or a special file",
        hint="put a copy of the data itself there",
    )


def _open(path: StrPath) -> int:
    kernel = _openat2()
    if kernel is None:
        return _open_step_by_step(path)
    name = os.fsencode(path)
    if b"\0" in name:
        raise ValueError("embedded null byte")
    while True:
        fd, error = kernel(name)
        if fd >= 0:
            return fd
        if error in _NOT_HERE:
            return _open_step_by_step(path)
        if error != errno.EINTR:
            raise OSError(error, os.strerror(error), os.fspath(path))


@functools.cache
def _openat2() -> Callable[[bytes], tuple[int, int]] | None:
    """The system call, which Python has no function for: ``path`` → (descriptor or -1, errno)."""
    if sys.platform != "linux":
        return None
    import ctypes  # takes some milliseconds, and the run log's append never comes here

    call = ctypes.CDLL(None, use_errno=True).syscall
    call.restype = ctypes.c_long
    call.argtypes = [ctypes.c_long, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p, ctypes.c_size_t]
    how = (ctypes.c_uint64 * 3)(_READ, 0, _RESOLVE_NO_SYMLINKS)  # struct open_how: flags, mode, resolve
    size = ctypes.sizeof(how)

    def opened(path: bytes) -> tuple[int, int]:
        fd = call(_OPENAT2, _AT_FDCWD, path, how, size)
        return fd, 0 if fd >= 0 else ctypes.get_errno()

    return opened


def _open_step_by_step(path: StrPath) -> int:
    """Each folder from the one before it, none of them through a link."""
    if not os.fspath(path):
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), "")
    *parents, name = os.path.abspath(path).strip("/").split("/")
    folder = os.open("/", _FOLDER)
    try:
        for parent in parents:
            try:
                below = os.open(parent, _FOLDER, dir_fd=folder)
            except NotADirectoryError as error:  # what O_DIRECTORY makes of a link, and of a file
                if stat.S_ISLNK(os.stat(parent, dir_fd=folder, follow_symlinks=False).st_mode):
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), os.fspath(path)) from error
                raise
            folder, above = below, folder
            os.close(above)
        return os.open(name, _READ, dir_fd=folder)
    except FileNotFoundError as error:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), os.fspath(path)) from error
    finally:
        os.close(folder)
