"""SIGKILL at the n-th change of the file system that a process of ours makes, without a tracer.

The functions that change files are wrapped in the process that is to die. A *point* is the moment before such a call, the
moment after a file was opened for writing (it is empty now), the middle of a write, and both sides of a job's launch. The
state that a kill leaves behind differs between any two points that follow each other; ``fsync`` changes nothing that a
killed process could leave (the page cache stays), so it is not a point.
"""

from __future__ import annotations

import builtins
import io
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

JOB_ENDED = "job-ended"
"""The point between the end of a job and the moment at which the driver judges it."""


class Crash:
    """Counts points, and ends this process at one of them.

    Args:
        roots: only what lies below these folders counts.
        at: the point to die at, from 1; 0 for none.
        trace: where the points that were passed are written (``kind path`` a line); read it to know what there is.
        look: called whenever a job has ended; what it does itself does not count.
    """

    def __init__(
        self, roots: tuple[Path, ...], at: int = 0, trace: Path | None = None, look: Callable[[], None] | None = None
    ) -> None:
        self.roots, self.at, self.count, self.look = tuple(str(root) for root in roots), at, 0, look
        self.out = os.open(trace, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC) if trace is not None else -1
        self.write = os.write

    def point(self, kind: str, path: object, last_act: Callable[[], object] | None = None) -> None:
        """One point; the process ends here if it is the one."""
        name = _name(path)
        if not name.startswith(self.roots):
            return
        self.count += 1
        if self.out >= 0:
            self.write(self.out, f"{kind} {name}\n".encode())
        if self.count == self.at:
            if last_act is not None:
                last_act()
            os.kill(os.getpid(), signal.SIGKILL)

    def install(self) -> None:
        """Wrap what changes files, in this process, for the rest of its life."""
        for name in ("rename", "replace", "link", "symlink"):
            self._before(name, lambda args: args[1])
        for name in ("mkdir", "unlink", "remove", "rmdir", "ftruncate", "truncate", "utime", "chmod"):
            self._before(name, lambda args: args[0])
        for name in ("write", "pwrite"):
            self._torn(name)
        self._open_calls()
        self._launches()

    def _before(self, name: str, target: Callable[[tuple[Any, ...]], object]) -> None:
        real = getattr(os, name)

        def wrapped(*args: Any, **kwargs: Any) -> Any:
            folder = kwargs.get("dir_fd")
            self.point(name, target(args) if folder is None else os.path.join(_name(folder), os.fsdecode(target(args))))
            return real(*args, **kwargs)

        setattr(os, name, wrapped)

    def _torn(self, name: str) -> None:
        real = getattr(os, name)

        def wrapped(fd: int, data: Any, *rest: int) -> int:
            half = bytes(memoryview(data)[: len(data) // 2])
            self.point(name, fd)
            self.point(f"half-{name}", fd, lambda: real(fd, half, *rest))
            return int(real(fd, data, *rest))

        setattr(os, name, wrapped)

    def _open_calls(self) -> None:
        real_os, real_io = os.open, io.open

        def os_open(path: Any, flags: int, *args: Any, **kwargs: Any) -> int:
            fd = real_os(path, flags, *args, **kwargs)
            if flags & (os.O_CREAT | os.O_TRUNC):
                self.point("opened", fd)
            return fd

        def io_open(file: Any, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
            writes = not isinstance(file, int) and any(c in mode for c in "wax+")
            if writes:
                self.point("open", file)
            handle = real_io(file, mode, *args, **kwargs)
            if writes:
                self.point("opened", file)
            return handle

        os.open = os_open
        io.open = builtins.open = io_open

    def _launches(self) -> None:
        from deft_aoi.loop import launch

        real_start, real_wait, root = subprocess.Popen.__init__, launch._wait, self.roots[0]

        def start(process: Any, *args: Any, **kwargs: Any) -> None:
            self.point("launch", root)
            real_start(process, *args, **kwargs)
            self.point("launched", root)

        def wait(*args: Any) -> Any:
            self.point("waiting", root)
            status = real_wait(*args)
            if self.look is not None:
                roots, self.roots = self.roots, ("nothing",)
                self.look()
                self.roots = roots
            self.point(JOB_ENDED, root)
            return status

        subprocess.Popen.__init__ = start
        launch._wait = wait


def _name(path: object) -> str:
    if isinstance(path, int):
        try:
            return os.readlink(f"/proc/self/fd/{path}")
        except OSError:
            return ""
    return os.path.abspath(os.fsdecode(path))  # type: ignore[arg-type]
