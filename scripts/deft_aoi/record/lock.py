"""One driver a run: a kernel lock that dies with its process, held while stages run.

Two files: ``run/run.lock`` in the run's folder, and a twin on this machine's own disk, which holds where the workspace's
file system has no flock or keeps it to one host (NFS, Lustre, FUSE).
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
import time
from types import TracebackType

from deft_aoi.contract.errors import RunLocked, UsageError
from deft_aoi.contract.text import printable
from deft_aoi.contract.user_folders import local_lock_path
from deft_aoi.record import log
from deft_aoi.record.log_file import LOG, StrPath

LOCK_WAIT_SEC = 0.5
"""How long a driver knocks: :func:`holder` holds a shared lock for some microseconds when it looks."""

NOTE_BYTES = 512
NOTE_PATIENCE_SEC = 0.5
"""How long to wait for the name of a driver that has taken the lock a moment ago."""

_NO_FLOCK = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


def _run_path(results_dir: StrPath) -> str:
    return os.path.join(os.path.realpath(results_dir), "run", "run.lock")


class DriverLock:
    """Hold the run while stages are driven; on entering, the whole record is verified and its view written.

    Raises:
        RunLocked: another driver holds it; names the holder.
        UsageError: there is no such folder.
        HardStop: the record is damaged.
    """

    def __init__(self, results_dir: StrPath, *, verify: bool = True) -> None:
        """``verify=False`` is for repairing a damaged record."""
        self.root = os.path.realpath(results_dir)
        self.verify = verify
        self.fds: list[int] = []

    def __enter__(self) -> DriverLock:
        if not os.path.isdir(self.root):
            raise UsageError("there is no such run", expected="a folder results/run_<time>", found=printable(self.root, 200))
        os.makedirs(os.path.join(self.root, "run"), exist_ok=True)
        try:
            taken = [self._take(path) for path in (_run_path(self.root), local_lock_path(self.root, "run"))]
            if not any(taken):
                raise RunLocked("no lock can be taken here", found="neither the run's folder nor the state folder has flock")
            note = {"pid": os.getpid(), "host": socket.gethostname(), "boot_id": _boot_id(), "since": _now()}
            raw = json.dumps(note, sort_keys=True).encode()
            for fd in self.fds:
                os.pwrite(fd, raw.ljust(NOTE_BYTES), 0)  # one write of one length: never half a note
                os.ftruncate(fd, NOTE_BYTES)
            if self.verify and os.path.exists(os.path.join(self.root, LOG)):
                log.verify_whole(self.root)
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self._close()

    def _take(self, path: str) -> bool:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
        end = time.monotonic() + LOCK_WAIT_SEC
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                self.fds.append(fd)
                return True
            except OSError as error:
                if error.errno == errno.EWOULDBLOCK and time.monotonic() < end:
                    time.sleep(0.005)
                    continue
                who = _read_holder(fd)
                os.close(fd)
                if error.errno in _NO_FLOCK:
                    return False
                if error.errno != errno.EWOULDBLOCK:
                    raise
                raise RunLocked(
                    "another driver holds this run",
                    found=who,
                    hint="wait for it: run_loop.py --results-dir R --wait 300, or stop that process",
                ) from error

    def _close(self) -> None:
        for fd in self.fds:
            os.close(fd)
        self.fds = []


def holder(results_dir: StrPath) -> str | None:
    """Who drives the run now (``pid … on … since …``), or ``None``. Reads only."""
    for path in (_run_path(results_dir), local_lock_path(results_dir, "run")):
        try:
            fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return _read_holder(fd)
        except OSError:
            continue
        finally:
            os.close(fd)
    return None


def _read_holder(fd: int) -> str:
    """The name on the lock; one that a dead process of this machine left there is not the holder's."""
    end = time.monotonic() + NOTE_PATIENCE_SEC
    while True:
        try:
            note = json.loads(os.pread(fd, NOTE_BYTES, 0))
            if note["boot_id"] != _boot_id() or _alive(int(note["pid"])):
                return f"pid {int(note['pid'])} on {printable(note['host'])} since {printable(note['since'])}"
        except (ValueError, KeyError, TypeError):
            pass
        if time.monotonic() > end:
            return "a process that has not said its name yet"
        time.sleep(0.005)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _boot_id() -> str:
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as handle:
            return handle.read().strip()
    except OSError:
        return ""


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
