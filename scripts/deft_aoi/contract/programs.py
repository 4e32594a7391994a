"""The one way to run another program and read what it printed.

What another program writes is bytes of any kind: a progress bar cut in two, a Latin-1 path, a banner. They are decoded as
UTF-8 with replacement, so that no byte of it can end a run.
"""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence


def run_program(
    argv: Sequence[str],
    *,
    timeout_sec: float | None = None,
    env: Mapping[str, str] | None = None,
    cwd: str | None = None,
    stdin: str | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end and return its exit code, output and errors as text.

    Args:
        argv: the command, never a shell line.
        timeout_sec: after this it is killed.
        env: its whole environment; this process's without it.
        cwd: its working folder.
        stdin: what it reads; nothing without it.

    Raises:
        OSError: it cannot be started.
        subprocess.TimeoutExpired: it did not end in time.
    """
    return subprocess.run(
        list(argv),
        capture_output=True,
        timeout=timeout_sec,
        env=None if env is None else dict(env),
        cwd=cwd,
        check=False,
        encoding="utf-8",
        errors="replace",
        **({"stdin": subprocess.DEVNULL} if stdin is None else {"input": stdin}),
    )


def as_text(raw: bytes) -> str:
    """Bytes that another program wrote, as text."""
    return raw.decode("utf-8", "replace")
