"""The log as a file: its lock, its incomplete last line, its one durable write. ``os`` only; a line is bytes here.

Lock order: ``run/log.lock`` alone; it is never deleted. A writer holds it for one append.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time

from deft_aoi.contract.errors import Blocked, DeftError, HardStop, RunLocked, UsageError

LOG = "loop_log.jsonl"
STATE = "deft_state.json"
LOCK_TIMEOUT_SEC = 60.0
RESERVE_BYTES = 1 << 20
RESERVE_NEEDS_FREE_BYTES = 64 << 20
"""The reserve is (re)made only where this much is free, so that it never takes the last space itself."""

StrPath = str | os.PathLike[str]
_NO_FLOCK = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
_SUPPLIABLE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EMFILE, errno.ENFILE)


def error_from_os(error: OSError, what: str) -> DeftError:
    """The operating system's refusal as an error that says what to do; the log is as it was."""
    found = f"{os.strerror(error.errno or 0)} ({error.filename or LOG})"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Blocked(f"no space left: {what}", found=found, hint="free space and run the same command again; nothing is lost")
    if error.errno in _SUPPLIABLE:
        return Blocked(
            f"permission denied by the file system: {what}", found=found, hint="make the run's folder writable and try again"
        )
    return HardStop(
        f"the file system failed: {what}",
        found=found,
        hint="check the disk, then run the same command again: no event is recorded twice",
    )


class LogFile:
    """The log opened for appending, under its lock.

    Attributes:
        root: the run's folder.
        fd: descriptor of the log.
    """

    def __init__(self, root: str) -> None:
        self.root = root
        self._lock = self.fd = -1

    def __enter__(self) -> LogFile:
        try:
            _make_run_folder(self.root)
            self._lock = take_lock(os.path.join(self.root, "run", "log.lock"), self.root)
            flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            self.fd = os.open(os.path.join(self.root, LOG), flags, 0o644)
        except OSError as error:
            self.__exit__()
            raise error_from_os(error, "opening the run log") from error
        return self

    def __exit__(self, *_: object) -> None:
        for fd in (self.fd, self._lock):
            if fd >= 0:
                os.close(fd)
        self._lock = self.fd = -1

    def read(self) -> bytes:
        """The whole file."""
        parts, offset = [], 0
        while part := os.pread(self.fd, 1 << 24, offset):
            parts.append(part)
            offset += len(part)
        return b"".join(parts)

    def cut_tail(self, keep: int, tail: bytes) -> None:
        """Copy the incomplete last line ``tail``, the bytes after ``keep``, to ``run/torn/`` and cut it off."""
        if not tail:
            return
        keep_copy(self.root, f"{keep:012d}", tail)
        os.ftruncate(self.fd, keep)
        os.fsync(self.fd)

    def write(self, raw: bytes, offset: int, *, release_reserve: bool) -> None:
        """One durable line at ``offset`` (the end), or the log as it was.

        Args:
            raw: the line.
            offset: the log's size.
            release_reserve: give up the reserve where the disk is full: an error must be recordable then.

        Raises:
            Blocked: no space.
            HardStop: the device failed.
        """
        for reserve_left in (release_reserve, False):
            try:
                view = memoryview(raw)
                while view:
                    view = view[os.write(self.fd, view) :]
                if os.fstat(self.fd).st_size != offset + len(raw):
                    raise OSError(errno.EIO, "the log did not grow by what was written")
                os.fsync(self.fd)
                if offset == 0:
                    fsync_dir(self.root)
                return
            except OSError as error:
                # A failed fsync says nothing about what is on disk: the line is removed, and a repetition writes it again.
                self._back_to(offset)
                full = error.errno in (errno.ENOSPC, errno.EDQUOT)
                if full and reserve_left and _unlinked(os.path.join(self.root, "run", "reserve")):
                    continue
                raise error_from_os(error, "writing the run log") from error

    def _back_to(self, offset: int) -> None:
        try:
            os.ftruncate(self.fd, offset)
            os.fsync(self.fd)
        except OSError:
            pass  # the line may stay, unacknowledged; repeating its op_id makes it durable and acknowledges it


def _make_run_folder(root: str) -> None:
    try:
        os.mkdir(os.path.join(root, "run"))
    except FileExistsError:
        return
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UsageError("there is no such run", expected="a folder results/run_<time>", found=root[:200]) from error


def take_lock(path: str, root: str) -> int:
    """Take the writers' lock; where the file system has no flock, the one on this machine's local disk.

    Raises:
        RunLocked: for a minute nobody let go of it and nobody wrote a line. A queue that moves is waited for: on a slow
            disk with 32 writers, who looks by chance at the wrong moments may be last.
    """
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    end, delay = time.monotonic() + LOCK_TIMEOUT_SEC, 0.0005
    seen = _log_size(root)
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return fd
        except OSError as error:
            if error.errno in _NO_FLOCK:
                os.close(fd)
                from deft_aoi.contract.user_folders import local_lock_path

                return take_lock(local_lock_path(root, "log"), root)
            if error.errno not in (errno.EWOULDBLOCK, errno.EINTR):
                os.close(fd)
                raise
            if time.monotonic() > end:
                size = _log_size(root)
                if size != seen:
                    seen, end = size, time.monotonic() + LOCK_TIMEOUT_SEC
                    continue
                os.close(fd)
                raise RunLocked("the run log is locked by another process", found=f"for {LOCK_TIMEOUT_SEC:g} seconds") from error
        # Never in step with the others: of 32 writers that looked every 20 ms, one once found it taken for 30 seconds.
        time.sleep(delay * (0.5 + time.monotonic_ns() % 997 / 997))
        delay = min(delay * 2, 0.005)


def _log_size(root: str) -> int:
    """Bytes of the log, -1 while there is none: it grows with every line."""
    try:
        return os.stat(os.path.join(root, LOG)).st_size
    except FileNotFoundError:
        return -1


def keep_copy(root: str, name: str, raw: bytes) -> str:
    """Keep bytes in ``run/torn/``; returns the file's path, or nothing where that failed.

    The bytes were never acknowledged: a copy for the curious, so a full disk must not wedge the log for it.
    """
    folder = os.path.join(root, "run", "torn")
    path = os.path.join(folder, f"{name}-{time.time_ns()}.bin")
    try:
        os.makedirs(folder, exist_ok=True)
        with open(path, "xb") as handle:
            handle.write(raw)
            handle.flush()
            os.fsync(handle.fileno())
    except OSError:
        return ""
    return path


def replace_file(path: str, raw: bytes) -> None:
    """Replace a file under the log's lock: temporary file, fsync, rename, fsync of the folder.

    The temporary name is fixed, so that killed writers leave one at most.
    """
    folder, name = os.path.split(path)
    temp = os.path.join(folder, f".{name}.tmp")
    fd = os.open(temp, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    try:
        view = memoryview(raw)
        while view:
            view = view[os.write(fd, view) :]
        os.fsync(fd)
    except OSError:
        _unlinked(temp)
        raise
    finally:
        os.close(fd)
    os.rename(temp, path)
    fsync_dir(folder)


def ensure_reserve(root: str) -> None:
    """Hold back 1 MiB, so that an error can be recorded on a full disk; best effort."""
    path = os.path.join(root, "run", "reserve")
    try:
        room = os.statvfs(root)
        if os.path.exists(path) or room.f_bavail * room.f_frsize < RESERVE_NEEDS_FREE_BYTES:
            return
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(fd, 0, RESERVE_BYTES)
        finally:
            os.close(fd)
    except OSError:
        return


def fsync_dir(path: str) -> None:
    """Make the folder's entries durable."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _unlinked(path: str) -> bool:
    try:
        os.unlink(path)
        return True
    except OSError:
        return False
