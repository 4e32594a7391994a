"""How a run is driven from a command line: foreground, background, waiting, and the exit code of each."""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from deft_aoi.contract.commands import CommandResult
from deft_aoi.contract.errors import DeftError, HardStop, JobLost, RunLocked
from deft_aoi.contract.paths import RunPaths, Workspace
from deft_aoi.loop import approval, gate
from deft_aoi.loop.driver import drive, exit_code, require_run
from deft_aoi.loop.interrupts import CancelOnSecondInterrupt, cancel_run, clear_progress, progress
from deft_aoi.loop.next_step import next_step
from deft_aoi.loop.open_run import open_run, require_no_driver, require_no_unfinished
from deft_aoi.loop.planning import DEFAULT_WORKSPACE, plan_run
from deft_aoi.loop.review import review_due
from deft_aoi.loop.run_text import WAIT_SEC, continue_command, final_lines, next_lines, wait_command
from deft_aoi.record import driver_exit, lock
from deft_aoi.record.driver_exit import DriverOptions
from deft_aoi.record.log import load_state

WAIT_POLL_SEC = 0.3
START_LIMIT_SEC = 30.0
"""How long ``--detach`` waits for the driver to pass the gate; it goes on in the background all the same."""
STILL_RUNNING = 10
MAX_TAIL = 2000


def print_line(line: str) -> None:
    """One line a stage, at once; of a text with many lines (the Summary) each line is cut by itself."""
    clear_progress()
    print("\n".join(part[:399] for part in line.split("\n")), flush=True)


def run_loop(args: argparse.Namespace, *, script: str) -> CommandResult:
    """The whole job: plan, approve, open, drive; or continue."""
    if args.results_dir:
        root = Path(args.results_dir).expanduser().resolve()
    else:
        require_no_driver(Workspace.at(Path(args.workspace or DEFAULT_WORKSPACE).expanduser()))
        planned = plan_run(args)
        if planned.plan is None:
            return CommandResult(planned.text, planned.data, planned.exit_code)
        digest = planned.plan["digest"]
        require_no_unfinished(Workspace.at(planned.plan["workspace"]), digest)
        approved = gate.is_approved(digest)
        # Whoever approved the plan has read its Summary; an agent does not pay for it a second time.
        print_line(f"plan {digest[:12]} is approved" if approved and args.until_agent else planned.text + "\n")
        if not approved:
            if args.yes:
                gate.approve(planned.plan, typed="--yes", how="yes-flag")
            else:
                gate.approve(planned.plan, typed=approval.ask(planned.plan), how="terminal")
        root = open_run(planned.plan).root
        print_line(f"run {root}")
    options = DriverOptions(args.until_agent, args.fail_on_not_met, bool(args.detach or args.in_background))
    return run_driver(str(root), script=script, options=options, detach=args.detach, wait=args.wait)


def end_run(results_dir: str, *, script: str) -> CommandResult:
    """End the loop for the user: cancel what runs, then hand over the best model so far and draw the report."""
    canceled = cancel_run(results_dir, end=True)
    if canceled.exit_code:
        return canceled
    print_line(canceled.text)
    last = driver_exit.last_driver(Path(results_dir).expanduser().resolve())
    options = last.options if last is not None else DriverOptions()
    wait = WAIT_SEC if options.detached else None
    return run_driver(results_dir, script=script, options=options, detach=options.detached, wait=wait)


def run_driver(
    results_dir: str,
    *,
    script: str,
    options: DriverOptions,
    extra: tuple[str, ...] = (),
    detach: bool = False,
    wait: float | None = None,
    limit: int | None = None,
    named: str | None = None,
) -> CommandResult:
    """Drive a run here, in the background, or wait for a driver in the background.

    Args:
        results_dir: the run's folder.
        script: the script that is running; the background driver runs it as well.
        options: what the caller asked for.
        extra: arguments of the background driver beside the options.
        detach: start it in the background.
        wait: seconds to wait for the driver in the background.
        limit: run at most so many stages.
        named: the stage that the caller believes is next.
    """
    root = Path(results_dir).expanduser().resolve()
    require_run(root)
    if detach:
        ended = _start_in_background(root, script, options, extra)
        if ended is not None:
            return ended
        if wait is None:
            lines = ["driver started in the background", f"next: {wait_command(root, options)}"]
            return CommandResult("\n".join(lines), {"results_dir": str(root), "detached": True})
    if wait is not None:
        return _wait(root, wait, options)
    with CancelOnSecondInterrupt(root, options):
        try:
            result = drive(root, say=print_line, progress=progress, options=options, limit=limit, named=named)
        except DeftError as error:
            clear_progress()
            _say_how_to_go_on(root, options, error)
            raise
    data: dict[str, Any] = {"next": result.step.stage, "review": result.review.kind if result.review else ""}
    return _ending(root, options, data, result.exit_code)


def _say_how_to_go_on(root: Path, options: DriverOptions, error: DeftError) -> None:
    if isinstance(error, RunLocked):
        print_line(f"next: {wait_command(root, options)}")
    elif not isinstance(error, HardStop):
        print_line(f"then: {continue_command(root, options)}")
    elif RunPaths(root).best_model.exists():
        print_line("\n".join(final_lines(root, load_state(root))))


def _start_in_background(root: Path, script: str, options: DriverOptions, extra: tuple[str, ...]) -> CommandResult | None:
    """Start the driver in a session of its own; its output goes to ``run/logs/driver.log``.

    Returns:
        ``None`` once it has passed the gate; the end of a driver that ended before that.

    Raises:
        DeftError: that of a driver that ended with one.
    """
    log = RunPaths(root).logs / "driver.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as out:
        begin = out.tell()
        flags = options.flags() if Path(script).stem == "run_loop" else []
        process = subprocess.Popen(
            [sys.executable, script, "--results-dir", str(root), "--in-background", *flags, *extra],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
            cwd="/",
        )
    end = time.monotonic() + START_LIMIT_SEC
    while (code := process.poll()) is None and time.monotonic() < end:
        last = driver_exit.last_driver(root)
        if last is not None and last.pid == process.pid and last.gate_open:
            return None
        time.sleep(0.05)
    if code is None:
        return None
    last = driver_exit.last_driver(root)
    if last is not None and last.pid == process.pid:
        return _last_end(root, options)
    if code == RunLocked.exit_code:
        raise RunLocked(
            f"a driver is running ({lock.holder(root) or 'it has just ended'})",
            expected="one driver a run",
            hint=f"wait with: {wait_command(root, options)}",
        )
    with log.open("rb") as handle:
        handle.seek(begin)
        said = handle.read()[-MAX_TAIL:].decode(errors="replace").strip()
    text = f"the driver ended before it held the run, exit {code}\n{said}"
    return CommandResult(text, {"results_dir": str(root), "exit_code": code}, code if code > 0 else JobLost.exit_code)


def _wait(root: Path, seconds: float, options: DriverOptions) -> CommandResult:
    """Wait for the driver in the background and return what it returned; 10 when the time ran out and it goes on."""
    end = time.monotonic() + seconds
    while lock.holder(root) is not None and time.monotonic() < end:
        time.sleep(WAIT_POLL_SEC)
    if lock.holder(root) is None:
        return _last_end(root, options)
    state = load_state(root)
    done = sum(len(it.get("stages", {})) for it in state.get("iterations", {}).values())
    text = f"still running: {state.get('current_iteration')}; {done} stages done\nnext: {wait_command(root, options, seconds)}"
    return CommandResult(text, {"running": True}, STILL_RUNNING)


def _last_end(root: Path, options: DriverOptions) -> CommandResult:
    """How the last driver ended, as that driver would have said it itself.

    Raises:
        DeftError: the one that ended it.
        JobLost: it was killed.
    """
    last = driver_exit.last_driver(root)
    if last is None:
        return _ending(root, options, {}, 0)
    options = merged(options, last.options)
    if last.error is not None or last.exit_code is None:
        error = killed_error(root, options) if last.exit_code is None else restored(last.exit_code, last.error or {})
        _say_how_to_go_on(root, options, error)
        raise error
    return _ending(root, options, {}, last.exit_code)


def merged(options: DriverOptions, earlier: DriverOptions) -> DriverOptions:
    """The options of the command that goes on: what either the caller or the last driver was asked for."""
    return replace(
        options,
        until_agent=options.until_agent or earlier.until_agent,
        fail_on_not_met=options.fail_on_not_met or earlier.fail_on_not_met,
        detached=options.detached or earlier.detached,
    )


def killed_error(root: Path, options: DriverOptions) -> DeftError:
    """The error of a driver that left no exit code."""
    return JobLost(
        "the driver ended without an exit code: it was killed or its host restarted",
        expected=f"{root.name}/run/driver.exit",
        found="no such file",
        hint=f"continue the run, a job that still runs is adopted: {continue_command(root, options)}",
    )


def restored(code: int, error: dict[str, Any]) -> DeftError:
    """The error that a driver left on disk."""
    kinds = [DeftError]
    for kind in kinds:
        kinds += kind.__subclasses__()
    # Those of contract/errors alone: others take more than the four parts.
    of_code = [kind for kind in kinds if kind.exit_code == code and kind.__module__ == DeftError.__module__]
    named = [kind for kind in of_code if kind.__name__ == error.get("error")]
    kind = (named or of_code or [DeftError])[0]
    parts = {name: str(error.get(key, "")) for name, key in (("expected", "expected"), ("found", "found"), ("hint", "try"))}
    found = kind(str(error.get("message", "unknown error")), **parts)
    found.exit_code, found.label = code, str(error.get("label") or found.label)
    return found


def _ending(root: Path, options: DriverOptions, data: dict[str, Any], code: int) -> CommandResult:
    """What is said when the driver has returned: the verdict and the files, or the next command."""
    run, state = RunPaths(root), load_state(root)
    _plan, config = gate.load_plan(run)
    step, review = next_step(state, config), review_due(run, state, config)
    out: dict[str, Any] = {"results_dir": str(root), "next": step.stage, "review": review.kind if review else "", **data}
    if not step.done:
        return CommandResult("\n".join(next_lines(root, step, review if options.until_agent else None, options)), out, code)
    lines = final_lines(root, state)
    if options.until_agent and review is not None:
        lines += next_lines(root, step, review, options)
    return CommandResult("\n".join(lines), out | {"status": state["status"]}, code or exit_code(state, options))
