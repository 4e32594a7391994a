"""Ctrl-C in front of a driver: the first leaves its job running, the second cancels it; live progress on a terminal."""

from __future__ import annotations

import signal
import sys
import time
from pathlib import Path
from typing import Any

from deft_aoi.contract.paths import RunPaths
from deft_aoi.loop import gate
from deft_aoi.loop.run_text import continue_command
from deft_aoi.record.driver_exit import DriverOptions

SECOND_CTRL_C_SEC = 5.0


def progress(line: str) -> None:
    """Live progress on standard error: one line that is overwritten on a terminal, else nothing."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{line[:110]}", end="", file=sys.stderr, flush=True)


def clear_progress() -> None:
    """Remove the live line."""
    if sys.stderr.isatty():
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def cancel_running(results_dir: str) -> list[str]:
    """Cancel every job of this run that its platform still runs."""
    from deft_aoi.platforms.base import JobState, get_platform

    run = RunPaths(Path(results_dir).expanduser().resolve())
    _plan, config = gate.load_plan(run)
    platform = get_platform(config.platform, dict(config.platform_options))
    cancelled = []
    for record in sorted(run.jobs.glob("*.job.json")):
        name = record.name.removesuffix(".job.json")
        if platform.status(name, run.jobs).state in (JobState.PENDING, JobState.RUNNING):
            platform.cancel(name, run.jobs)
            cancelled.append(name)
    return cancelled


class CancelOnSecondInterrupt:
    """First Ctrl-C: the job goes on, and how to come back. A second one within five seconds cancels it."""

    def __init__(self, root: Path, options: DriverOptions) -> None:
        self.root, self.options = root, options

    def __enter__(self) -> None:
        self.before: Any = signal.signal(signal.SIGTERM, lambda *_: (_ for _ in ()).throw(KeyboardInterrupt()))

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        signal.signal(signal.SIGTERM, self.before or signal.SIG_DFL)
        clear_progress()
        if kind is None or not issubclass(kind, KeyboardInterrupt):
            return
        print(
            f"\nThe running job continues. Resume with: {continue_command(self.root, self.options)}\n"
            f"Ctrl-C again within {SECOND_CTRL_C_SEC:.0f} seconds cancels it.",
            file=sys.stderr,
            flush=True,
        )
        if not sys.stdin.isatty():
            return
        try:
            time.sleep(SECOND_CTRL_C_SEC)
        except KeyboardInterrupt:
            print("cancelled: " + (", ".join(cancel_running(str(self.root))) or "nothing was running"), file=sys.stderr)
