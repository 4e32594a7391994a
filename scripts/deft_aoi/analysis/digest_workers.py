"""Digests of many images by child processes, one a processor: with small crops most of the time holds Python's lock.

A child is told once how much to do. It reads one JSON list of paths a line and answers one record a path. It ends when its
input ends, so none outlives a parent that was killed. What a child does not answer the parent does itself, which gives the
one error message.
"""

from __future__ import annotations

import contextlib
import enum
import json
import os
import struct
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import IO

from deft_aoi.analysis.constants import THUMB_BYTES
from deft_aoi.analysis.digest_cache import FileIdentity
from deft_aoi.contract.images import FileBytes

CHUNK = 256
"""Paths in one question: some 30 ms of work, so that the children end at nearly the same time."""

MIN_FILES_EACH = 1_000
"""Below this a child's start (some 0.1 s) costs more than it saves."""

MAX_WORKERS = 16
"""A machine may show more processors than a container is given; beyond this the parent's own part dominates anyway."""

_RECORD = struct.Struct(f"??4q32s32s{THUMB_BYTES}s")  # answered, flat, stamp, SHA-256, pixels, thumbnail


class Work(enum.Enum):
    """How much is done with a file: read it, decode it too, or take its thumbnail as well."""

    READ = "read"
    DECODE = "decode"
    THUMB = "thumb"


def worker_count(files: int) -> int:
    """Children for so many files; below 2 the caller does them itself."""
    affinity = getattr(os, "sched_getaffinity", None)  # not on macOS
    processors = len(affinity(0)) if affinity else os.cpu_count() or 1
    return min(processors, MAX_WORKERS, files // MIN_FILES_EACH)


def ask_children(paths: Sequence[str], workers: int, *, work: Work) -> Iterator[tuple[FileBytes, FileIdentity | None] | None]:
    """Digests in the order of ``paths``; ``None`` where a child could not tell.

    Args:
        paths: absolute paths.
        workers: children, at least 1.
        work: see :class:`Work`.
    """
    chunks = [paths[at : at + CHUNK] for at in range(0, len(paths), CHUNK)]
    with contextlib.ExitStack() as stack:
        idle: SimpleQueue[_Child] = SimpleQueue()
        threads = stack.enter_context(ThreadPoolExecutor(workers, thread_name_prefix="digest"))
        stack.callback(threads.shutdown, wait=False, cancel_futures=True)
        for _ in range(workers):
            idle.put(stack.enter_context(_Child(work)))

        def ask(chunk: Sequence[str]) -> bytes:
            child = idle.get()
            try:
                return child.ask(chunk)
            finally:
                idle.put(child)

        for chunk, answer in zip(chunks, threads.map(ask, chunks), strict=True):
            for i in range(len(chunk)):
                yield _read(answer[i * _RECORD.size : (i + 1) * _RECORD.size], work)


def _read(record: bytes, work: Work) -> tuple[FileBytes, FileIdentity | None] | None:
    if len(record) < _RECORD.size:
        return None
    answered, flat, size, mtime, ctime, inode, sha256, digest, thumb = _RECORD.unpack(record)
    if not answered:
        return None
    seen = FileBytes(sha256, (size, mtime, ctime, inode))
    if work is Work.READ:
        return seen, None
    return seen, FileIdentity(digest, flat, thumb if work is Work.THUMB else None)


class _Child:
    """One child process, killed at the end of its ``with`` block."""

    def __init__(self, work: Work) -> None:
        self._work = work

    def __enter__(self) -> _Child:
        library = str(Path(__file__).resolve().parents[2])
        search = os.pathsep.join(p for p in (library, os.environ.get("PYTHONPATH")) if p)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "deft_aoi.analysis.digest_workers", self._work.value],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": search},
            start_new_session=True,  # Ctrl-C is the parent's to handle
        )
        return self

    def ask(self, paths: Sequence[str]) -> bytes:
        """The records of ``paths``; fewer bytes when the child died."""
        process = self._process
        if process.stdin is None or process.stdout is None:
            return b""
        try:
            process.stdin.write(json.dumps(list(paths)).encode("ascii") + b"\n")
            process.stdin.flush()
            return process.stdout.read(len(paths) * _RECORD.size)
        except (OSError, ValueError):  # the pipe is broken, or closed
            return b""

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()


def serve(questions: IO[bytes], answers: IO[bytes], work: Work) -> None:
    """What a child does until its input ends."""
    from deft_aoi.analysis.digest_cache import identify
    from deft_aoi.contract.images import open_digested, read_image_file

    nothing = bytes(_RECORD.size)
    for line in questions:
        out = []
        for path in json.loads(line):
            try:
                if work is Work.READ:
                    seen, digest, flat, thumb = read_image_file(path), b"", False, None
                else:
                    seen, image = open_digested(path, lambda _sha256: None)
                    digest, flat, thumb = identify(image, thumb=work is Work.THUMB)
                out.append(_RECORD.pack(True, flat, *seen.stamp, seen.sha256, digest, thumb or b""))
            except Exception:  # whatever it is, the parent meets it again and says so
                out.append(nothing)
        answers.write(b"".join(out))
        answers.flush()


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError):
        serve(sys.stdin.buffer, sys.stdout.buffer, Work(sys.argv[1]))
