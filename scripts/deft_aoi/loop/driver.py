"""The driver: runs stage after stage from disk, one driver a run, until the loop ends or a review is needed."""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deft_aoi.analysis.metric import best_iteration
from deft_aoi.analysis.verdict import fails
from deft_aoi.contract.errors import Blocked, Canceled, DeftError, HardStop, JobFailed, JobLost, KpiNotMet, UsageError
from deft_aoi.contract.paths import RunPaths, iteration_label
from deft_aoi.contract.text import printable
from deft_aoi.loop import gate, stages
from deft_aoi.loop.context import RunContext, StageResult
from deft_aoi.loop.launch import cancel_request, canceled
from deft_aoi.loop.next_step import Step, next_step
from deft_aoi.loop.published import require_published, sweep_published
from deft_aoi.loop.review import Review, review_due
from deft_aoi.loop.stages.dataset import training_set
from deft_aoi.platforms import credentials
from deft_aoi.platforms.redact import known_secrets, redact
from deft_aoi.record import driver_exit, file_system, lock, log, provenance
from deft_aoi.record.driver_exit import DriverOptions
from deft_aoi.record.log_event import MAX_LINE, spell
from deft_aoi.record.log_file import error_from_os
from deft_aoi.record.state import ended, shown_verdict

Say = Callable[[str], None]
MAX_SUMMARY = 400
NEVER_TRIMMED = ("state", "files", "image_ids", "image_files")
"""What an event is for: the change of the view, and what it vouches for or pins."""
FRAME_BYTES = 600
"""The rest of a line: names, numbers, time, key (128), two digests."""
INTERRUPTED = 130
FOREGROUND = DriverOptions()
MAX_LOST = 2
"""A lost job is launched again so often (its training resumes); then a person should look at the host."""


@dataclass(frozen=True)
class DriverResult:
    """How far a call to :func:`drive` came.

    Attributes:
        step: what is next (``step.done`` when the run is complete).
        review: what is due from whoever reviews, or nothing.
        stages_run: stages that this call finished.
        exit_code: 8 where the run ended without meeting the KPI and the caller asked for that code.
    """

    step: Step
    review: Review | None
    stages_run: int
    exit_code: int = 0


def require_run(root: Path) -> None:
    """Refuse a folder that is no run.

    Raises:
        UsageError: it has no log.
    """
    if not RunPaths(root).log.exists():
        raise UsageError(
            f"{printable(root.name)} is not a run",
            expected="a folder results/run_<time> with loop_log.jsonl",
            found=printable(root, 200),
            hint="open one: preflight.py, then the user's approval, then run_loop.py --workspace W",
        )


def open_context(results_dir: Path, say: Say, progress: Say) -> RunContext:
    """Open a run for driving: its plan must be approved and what it reads unchanged.

    Raises:
        UsageError: not a run's folder.
        ApprovalNeeded: see :func:`deft_aoi.loop.gate.require_open`.
    """
    root = Path(results_dir).expanduser().resolve()
    run = RunPaths(root)
    require_run(root)
    credentials.load(run.workspace.env_file)
    plan, config, warnings = gate.require_open(run, run.workspace)
    ctx = RunContext(run, run.workspace, plan, config, say, progress)
    if not ctx.events()[0]["data"].get("file_system", {}).get("flock", True):
        warnings.append(file_system.NO_FLOCK)
    for warning in warnings:
        say(f"warning: {warning}")
    return ctx


def drive(
    results_dir: Path,
    *,
    say: Say,
    progress: Say,
    options: DriverOptions = FOREGROUND,
    limit: int | None = None,
    named: str | None = None,
) -> DriverResult:
    """Run stages until the run is complete; how this ended is left in ``run/driver.exit``.

    Args:
        results_dir: the run's folder.
        say: called with one line for each stage.
        progress: called with live progress.
        options: ``until_agent`` returns where a review is needed.
        limit: run at most so many stages.
        named: the stage that the caller believes is next.

    Returns:
        How far it came.

    Raises:
        RunLocked: another driver holds the run.
        HardStop: a gate fired; the best checkpoint so far has been handed over and the report written.
        JobFailed: a job failed; the run can be continued.
        Blocked: something is absent that can be supplied, such as space; the run can be continued.
        Canceled: the user canceled it; the run can be continued.
        UsageError: ``named`` is not what comes next.
    """
    root = Path(results_dir).expanduser().resolve()
    require_run(root)
    with lock.DriverLock(root), _recorded_end(root, options) as codes:
        ctx = open_context(root, say, progress)
        cancel_request(ctx.run).unlink(missing_ok=True)
        driver_exit.write_start(root, options, gate_open=True)
        sweep_published(ctx.run, ctx.state())
        result = _drive_stages(ctx, options, limit, named)
        codes.append(result.exit_code)
    return result


def _drive_stages(ctx: RunContext, options: DriverOptions, limit: int | None, named: str | None) -> DriverResult:
    done = 0
    while True:
        step = next_step(ctx.state(), ctx.config)
        if step.done or (limit is not None and done >= limit):
            code = exit_code(ctx.state(), options) if step.done else 0
            return DriverResult(step, review_due(ctx.run, ctx.state(), ctx.config), done, code)
        if named is not None and step.stage != named:
            raise UsageError(f"{named} is not next", expected=f"{step.label} {step.stage}: {step.why}", found=named)
        run_step(ctx, step)
        done += 1
        if options.until_agent and step.stage == "rca":
            review = review_due(ctx.run, ctx.state(), ctx.config)
            if review is not None:
                return DriverResult(next_step(ctx.state(), ctx.config), review, done)


def exit_code(state: dict[str, Any], options: DriverOptions) -> int:
    """8 when a complete run did not meet its KPI, or its hold-out contradicts it, and the caller asked for that code."""
    if not options.fail_on_not_met:
        return 0
    best = best_iteration(state)
    return 0 if best is not None and not fails(shown_verdict(state, best["label"])) else KpiNotMet.exit_code


@contextlib.contextmanager
def _recorded_end(root: Path, options: DriverOptions) -> Iterator[list[int]]:
    """Leave on disk how this driver ends, while it still holds the run; the exit code of a success is put into the list."""
    driver_exit.write_start(root, options, gate_open=False)
    codes: list[int] = []
    try:
        yield codes
    except DeftError as error:
        _write_exit(root, error.exit_code, {**error.as_dict(), "label": error.label})
        raise
    except KeyboardInterrupt:
        _write_exit(root, INTERRUPTED, {"label": "interrupted", "message": "the driver was interrupted; its job goes on"})
        raise
    except BaseException as error:
        _write_exit(root, 1, {"label": "bug", "message": f"{type(error).__name__}: {printable(str(error), 200)}"})
        raise
    driver_exit.write_exit(root, codes[-1] if codes else 0, None)


def _write_exit(root: Path, code: int, error: dict[str, Any]) -> None:
    secrets = known_secrets(os.environ)
    masked = {
        key: redact(value.encode(errors="replace"), secrets).decode(errors="replace") if isinstance(value, str) else value
        for key, value in error.items()
    }
    driver_exit.write_exit(root, code, masked)


def run_step(ctx: RunContext, step: Step) -> None:
    """Run one stage to its event; a hard stop ends the loop with hand-over and report."""
    start = time.monotonic()
    attempt = _attempt(ctx, step)
    try:
        if cancel_request(ctx.run).exists():
            raise canceled("canceled by the user")
        if step.stage == "loop_stop":
            outcome = StageResult(f"loop ended: {step.reason}; {step.why}", {}, {"reason": step.reason})
        else:
            require_gates(ctx, step)
            outcome = stages.stage_functions()[step.stage](ctx, step.label, attempt)
    except JobLost as error:
        _record_error(ctx, step, attempt, error, time.monotonic() - start)
        if attempt > MAX_LOST:
            raise
        run_step(ctx, step)
        return
    except (Blocked, OSError) as error:
        blocked = _as_blocked(error, step)
        with contextlib.suppress(DeftError):  # on a full disk the record gives up its reserve for this; once
            _record_error(ctx, step, attempt, blocked, time.monotonic() - start)
        raise blocked from error
    except (HardStop, JobFailed, Canceled) as error:
        _record_error(ctx, step, attempt, error, time.monotonic() - start)
        if isinstance(error, HardStop) and step.stage not in ("handoff", "report"):
            _end_after_hard_stop(ctx, step)
        raise
    seconds = time.monotonic() - start
    _record(ctx, step, attempt, outcome, seconds)
    ctx.say(f"{step.label:8} {step.stage:12} {seconds:6.1f} s  {outcome.summary}")
    for line in outcome.state.get("beside_the_verdict", ()):
        ctx.say(f"{'':10}{line}")
    if step.stage == "rca":
        _iteration_report(ctx)


def require_gates(ctx: RunContext, step: Step) -> None:
    """What must hold before a stage's own work: the approved inputs and what earlier stages published are unchanged.

    After a hard stop the report is drawn of what there is, and says which files are not the ones on record.

    Raises:
        ApprovalNeeded: see :func:`deft_aoi.loop.gate.require_open`.
        HardStop: see :func:`deft_aoi.loop.published.require_published`.
    """
    view = ctx.state()
    if step.stage == "report" and view["status"] == "hard_stop":
        return
    gate.require_open(ctx.run, ctx.workspace)
    labels = tuple(view.get("iterations", {})) if step.label == "run" else _with_previous(step.label)
    require_published(ctx.run, ctx.events(), labels)
    if step.stage == "report":
        assembled = [label for label in labels if "dataset" in view["iterations"][label]["stages"]]
        if assembled:
            training_set(ctx, assembled[-1])  # the page shows pictures of mined rows
        provenance.require(ctx.run, ctx.events(), *provenance.digests(ctx.run, ctx.events(), stage="handoff"))


def _with_previous(label: str) -> tuple[str, ...]:
    return (label,) if label == "baseline" else (iteration_label(int(label.removeprefix("iter")) - 1), label)


def _as_blocked(error: Blocked | OSError, step: Step) -> Blocked:
    """A full disk wherever a stage met it; any other refusal cannot be recorded and ends the command (see `cannot_write`).

    Raises:
        OSError: that.
    """
    if isinstance(error, Blocked):
        return error
    if error.errno not in (errno.ENOSPC, errno.EDQUOT):
        raise error
    refused = error_from_os(error, f"{step.label} {step.stage}")
    assert isinstance(refused, Blocked)
    return refused


def events_of(ctx: RunContext, step: Step, *statuses: str) -> list[dict[str, Any]]:
    return [e for e in ctx.events() if e["status"] in statuses and (e["iter"], e["stage"]) == (step.label, step.stage)]


def _attempt(ctx: RunContext, step: Step) -> int:
    """1 plus the ends of this stage so far: a deliberate retry gets names and keys of its own.

    A stage that was only blocked goes on with the same attempt: its job, which may have finished, is adopted.
    """
    return 1 + sum(e["data"].get("exit_code") != Blocked.exit_code for e in events_of(ctx, step, "ok", "error"))


def _record(ctx: RunContext, step: Step, attempt: int, outcome: StageResult, seconds: float) -> None:
    data: dict[str, Any] = {**outcome.evidence}
    if outcome.state:
        data["state"] = outcome.state
    log.append(
        ctx.run.root,
        iter_label=step.label,
        stage=step.stage,
        status="ok",
        summary=outcome.summary[:MAX_SUMMARY],
        data=trim_to_line_limit(outcome.summary[:MAX_SUMMARY], data),
        op_id=f"{step.label}/{step.stage}/{attempt}",
        duration_sec=round(seconds, 3),
    )


def trim_to_line_limit(summary: str, data: dict[str, Any]) -> dict[str, Any]:
    """The data, without its largest tables where the event would not fit into its line.

    A finished stage must be recordable, and labels of any script take six bytes a character in the log. What is left out
    lies in the stage's own files.
    """
    tables = [key for key, value in data.items() if isinstance(value, (dict, list)) and key not in NEVER_TRIMMED]
    out = dict(data)
    for key in sorted(tables, key=lambda key: -len(spell(data[key]))):
        if len(spell(out)) + len(spell(summary)) <= MAX_LINE - FRAME_BYTES:
            break
        out[key] = {"left_out": len(data[key])}
    return out


def _record_error(ctx: RunContext, step: Step, attempt: int, error: DeftError, seconds: float) -> None:
    blocked = f"-{len(events_of(ctx, step, 'error')) + 1}" if isinstance(error, Blocked) else ""
    log.append(
        ctx.run.root,
        iter_label=step.label,
        stage=step.stage,
        status="error",
        summary=printable(f"{step.label} {step.stage}: {error.message}", MAX_SUMMARY),
        data={"kind": error.label, "exit_code": error.exit_code, "try": printable(error.hint, 200)},
        op_id=f"{step.label}/{step.stage}/{attempt}/error{blocked}",
        duration_sec=round(seconds, 3),
    )
    ctx.say(f"{step.label:8} {step.stage:12} {seconds:6.1f} s  {error.label.upper()}: {printable(error.message, 200)}")


def record_cancel(root: Path, *, end: bool, say: Say) -> None:
    """Record, where no driver is left to do it, that the user canceled; the gate is not asked, for nothing is started.

    Args:
        root: the run's folder.
        end: end the loop as ``user_stop``, so that the next driver hands over the best model so far.
        say: takes one line for a person.

    Raises:
        RunLocked: a driver holds the run.
    """
    run, last = RunPaths(root), driver_exit.last_driver(root)
    plan, config = gate.load_plan(run)
    with lock.DriverLock(root):
        ctx = RunContext(run, run.workspace, plan, config, say, say)
        if ended(ctx.state()):
            return
        if ctx.events()[-1]["data"].get("kind") != Canceled.label:
            step, error = next_step(ctx.state(), config), canceled("canceled by the user")
            with contextlib.suppress(Canceled), _recorded_end(root, last.options if last else FOREGROUND):
                _record_error(ctx, step, _attempt(ctx, step), error, 0.0)
                raise error
        if end:
            stop = Step("run", "loop_stop", "ended by the user", "user_stop")
            _record(ctx, stop, 1, StageResult(f"loop ended: user_stop; {stop.why}", {}, {"reason": "user_stop"}), 0.0)


def _end_after_hard_stop(ctx: RunContext, step: Step) -> None:
    """Any end hands over the best valid checkpoint so far, marked as what it is."""
    stop = Step("run", "loop_stop", f"hard stop in {step.label} {step.stage}", "hard_stop")
    _record(ctx, stop, 1, StageResult(f"loop ended: hard_stop; {stop.why}", {}, {"reason": "hard_stop"}), 0.0)
    for _ in range(2):
        nxt = next_step(ctx.state(), ctx.config)
        if nxt.done:
            return
        try:
            outcome = stages.stage_functions()[nxt.stage](ctx, nxt.label, _attempt(ctx, nxt))
        except DeftError as error:
            ctx.say(f"{nxt.label:8} {nxt.stage:12} not possible: {printable(error.message, 200)}")
            return
        _record(ctx, nxt, _attempt(ctx, nxt), outcome, 0.0)
        ctx.say(f"{nxt.label:8} {nxt.stage:12}           {outcome.summary}")


def _iteration_report(ctx: RunContext) -> None:
    """Refresh the report; it is a view, so a failure to draw it is a warning."""
    from deft_aoi.loop.stages.handoff import render

    try:
        render(ctx)
    except DeftError as error:
        ctx.say(f"warning: the report was not refreshed: {printable(error.message, 160)}")
