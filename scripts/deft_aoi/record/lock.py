"""One driver a run: a kernel lock that dies with its process, held while stages run."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import socket
import time
from types import TracebackType

from deft_aoi.contract.errors import RunLocked
from deft_aoi.contract.paths import state_home

StrPath = str | os.PathLike[str]


def _open(path: str) -> int:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)


def _paths(results_dir: StrPath) -> tuple[str, str]:
    """The lock in the run, and its twin on this machine's own disk (where flock is not shared between hosts)."""
    root = os.path.realpath(results_dir)
    key = hashlib.sha256(root.encode("utf-8", "surrogateescape")).hexdigest()[:32]
    return os.path.join(root, "run", "run.lock"), os.path.join(str(state_home()), "locks", f"{key}.lock")


def _boot_id() -> str:
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as handle:
            return handle.read().strip()
    except OSError:
        return ""


class DriverLock:
    """Hold the run while stages are driven.

    Raises:
        RunLocked: another driver holds it; names the holder.
    """

    def __init__(self, results_dir: StrPath) -> None:
        self.paths = _paths(results_dir)
        self.fds: list[int] = []

    def __enter__(self) -> DriverLock:
        try:
            for path in self.paths:
                fd = _open(path)
                self.fds.append(fd)
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            who = _read_holder(self.fds[-1])
            self._close()
            raise RunLocked(
                "another driver holds this run",
                found=who,
                hint="wait for it: run_loop.py --results-dir R --wait 300, or stop that process",
            ) from error
        except OSError:
            self._close()
            raise
        note = {"pid": os.getpid(), "host": socket.gethostname(), "boot_id": _boot_id(), "since": _now()}
        raw = json.dumps(note, sort_keys=True).encode()
        for fd in self.fds:
            os.ftruncate(fd, 0)
            os.pwrite(fd, raw, 0)
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self._close()

    def _close(self) -> None:
        for fd in self.fds:
            os.close(fd)
        self.fds = []


def holder(results_dir: StrPath) -> str | None:
    """Who drives the run now (``pid … on …``), or ``None``."""
    for path in _paths(results_dir):
        try:
            fd = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return _read_holder(fd)
        finally:
            os.close(fd)
    return None


def _read_holder(fd: int) -> str:
    try:
        note = json.loads(os.pread(fd, 4096, 0))
        return f"pid {int(note['pid'])} on {note['host']} since {note['since']}"
    except (ValueError, KeyError, TypeError):
        return "a process that has not said its name yet"


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
