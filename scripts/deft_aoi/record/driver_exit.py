"""How the last driver of a run was started and how it ended: ``run/driver.start`` and ``run/driver.exit``.

The driver itself writes both while it holds the run. A start without an exit, and nobody holding the run, means that the
driver was killed or its host restarted.
"""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import asdict, dataclass
from typing import Any

from deft_aoi.contract.errors import DeftError
from deft_aoi.contract.files import atomic_write_json
from deft_aoi.record import lock
from deft_aoi.record.log_file import StrPath

MAX_BYTES = 64 * 1024


@dataclass(frozen=True)
class DriverOptions:
    """What a driver was asked for; the command that continues the run repeats it.

    Attributes:
        until_agent: return when a review is needed.
        fail_on_not_met: exit 8 when the run ends without meeting the KPI.
        detached: it runs in the background.
    """

    until_agent: bool = False
    fail_on_not_met: bool = False
    detached: bool = False

    def flags(self) -> list[str]:
        """The options of ``run_loop.py`` that a driver of its own needs to do the same."""
        return (["--until-agent"] if self.until_agent else []) + (["--fail-on-not-met"] if self.fail_on_not_met else [])


@dataclass(frozen=True)
class LastDriver:
    """The last driver of a run.

    Attributes:
        pid: its process.
        options: what it was asked for.
        gate_open: it got past the gate (approval and inputs checked).
        exit_code: ``None`` while it runs, or when it ended without saying how.
        error: ``message``, ``expected``, ``found``, ``try`` and ``label`` of its error, or nothing.
    """

    pid: int
    options: DriverOptions
    gate_open: bool
    exit_code: int | None
    error: dict[str, Any] | None


def write_start(root: StrPath, options: DriverOptions, *, gate_open: bool) -> None:
    """Say that this process drives the run from now on; the exit of an earlier driver is removed first."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(_path(root, "exit"))
    with contextlib.suppress(OSError, DeftError):  # a full disk is the stage's to report; without a start there is no end
        atomic_write_json(_path(root, "start"), {"pid": os.getpid(), "gate_open": gate_open, **asdict(options)})


def write_exit(root: StrPath, exit_code: int, error: dict[str, Any] | None) -> None:
    """Say how this driver ended."""
    with contextlib.suppress(OSError, DeftError):
        atomic_write_json(_path(root, "exit"), {"exit_code": exit_code, "error": error, "pid": os.getpid()})


def last_driver(root: StrPath) -> LastDriver | None:
    """The last driver, or ``None`` where none was ever started."""
    start, end = _read(root, "start"), _read(root, "exit")
    if start is None and end is None:
        return None
    start = start or {}
    known = {name: bool(start.get(name)) for name in DriverOptions.__dataclass_fields__}
    pid = start.get("pid", (end or {}).get("pid", 0))
    code = (end or {}).get("exit_code")
    error = (end or {}).get("error")
    return LastDriver(
        pid if isinstance(pid, int) else 0,
        DriverOptions(**known),
        bool(start.get("gate_open")),
        code if isinstance(code, int) else None,
        error if isinstance(error, dict) else None,
    )


def killed(root: StrPath, last: LastDriver | None) -> bool:
    """Whether the last driver ended without saying how."""
    return last is not None and last.exit_code is None and lock.holder(root) is None


def _path(root: StrPath, kind: str) -> str:
    return os.path.join(os.fspath(root), "run", f"driver.{kind}")


def _read(root: StrPath, kind: str) -> dict[str, Any] | None:
    """The file, or ``None`` where it is missing or damaged: then the end counts as unknown."""
    try:
        fd = os.open(_path(root, kind), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        with os.fdopen(fd, "rb") as handle:
            body = json.loads(handle.read(MAX_BYTES))
    except (OSError, ValueError, RecursionError):
        return None
    return body if isinstance(body, dict) else None
