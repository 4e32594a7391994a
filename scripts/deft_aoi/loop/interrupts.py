"""Ctrl-C in front of a driver: the first leaves its job running, the second cancels it; live progress on a terminal."""

from __future__ import annotations

import signal
import sys
import time
from pathlib import Path
from typing import Any

from deft_aoi.contract.commands import CommandResult
from deft_aoi.contract.files import atomic_write_text
from deft_aoi.contract.paths import RunPaths
from deft_aoi.loop import gate
from deft_aoi.loop.driver import record_cancel, require_run
from deft_aoi.loop.launch import cancel_request
from deft_aoi.loop.run_text import continue_command
from deft_aoi.record import driver_exit, lock
from deft_aoi.record.driver_exit import DriverOptions
from deft_aoi.record.log import load_state
from deft_aoi.record.state import ended

SECOND_CTRL_C_SEC = 5.0
CANCEL_WAIT_SEC = 60.0


def progress(line: str) -> None:
    """Live progress on standard error: one line that is overwritten on a terminal, else nothing."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{line[:110]}", end="", file=sys.stderr, flush=True)


def clear_progress() -> None:
    """Remove the live line."""
    if sys.stderr.isatty():
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def cancel_run(results_dir: str, *, end: bool = False, wait_sec: float = CANCEL_WAIT_SEC) -> CommandResult:
    """Cancel the job in flight, let the driver end, and record that the user did this.

    Args:
        results_dir: the run's folder.
        end: end the loop as well; the best model so far is handed over by the next driver.
        wait_sec: how long the driver may take to finish work that is no job.

    Returns:
        Exit code 10 while the driver still works on its stage.
    """
    root = Path(results_dir).expanduser().resolve()
    require_run(root)
    run, names, until = RunPaths(root), list[str](), time.monotonic() + wait_sec
    atomic_write_text(cancel_request(run), "")
    while True:
        held = lock.holder(root)
        names += _cancel_jobs(run)  # again: a driver may just have launched one
        if held is None or time.monotonic() >= until:
            break
        time.sleep(1.0)
    said = "canceled: " + (", ".join(names) or "no job was running")
    if held is not None:
        return CommandResult(
            f"{said}\nthe driver ends after the stage it works on: the same command again", {"canceled": names}, 10
        )
    record_cancel(root, end=end, say=print)
    state = load_state(root)
    if not ended(state):
        last = driver_exit.last_driver(root)
        said += f"\nto go on, any day: {continue_command(root, last.options if last else DriverOptions())}"
    return CommandResult(said, {"canceled": names, "status": state["status"]})


def _cancel_jobs(run: RunPaths) -> list[str]:
    """Cancel every job of this run that its platform still runs."""
    from deft_aoi.platforms.base import JobState, get_platform

    _plan, config = gate.load_plan(run)
    platform = get_platform(config.platform, dict(config.platform_options))
    canceled = []
    for record in sorted(run.jobs.glob("*.job.json")):
        name = record.name.removesuffix(".job.json")
        if platform.status(name, run.jobs).state in (JobState.PENDING, JobState.RUNNING):
            platform.cancel(name, run.jobs)
            canceled.append(name)
    return canceled


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
            print(cancel_run(str(self.root)).text, file=sys.stderr)
