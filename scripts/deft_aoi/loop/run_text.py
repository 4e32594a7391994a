"""What is said about a run on a command line: what comes next, which review is needed, how it ended."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

from deft_aoi.contract.commands import CommandResult, command
from deft_aoi.contract.errors import DeftError
from deft_aoi.contract.paths import RunPaths
from deft_aoi.contract.text import printable
from deft_aoi.loop import gate
from deft_aoi.loop.driver import require_run
from deft_aoi.loop.next_step import Step, next_step
from deft_aoi.loop.review import CAUSES, Review, review_due
from deft_aoi.record import driver_exit, lock
from deft_aoi.record.driver_exit import DriverOptions
from deft_aoi.record.log import load_state
from deft_aoi.record.state import shown_verdict

WAIT_SEC = 500.0


def continue_command(root: Path, options: DriverOptions) -> str:
    """The command that goes on with a run as it was started."""
    background = ["--detach", f"--wait {WAIT_SEC:g}"] if options.detached else []
    return " ".join([command("run_loop"), f"--results-dir {root}", *options.flags(), *background])


def wait_command(root: Path, options: DriverOptions, seconds: float = WAIT_SEC) -> str:
    """The command that waits for a driver in the background."""
    return " ".join([command("run_loop"), f"--results-dir {root}", *options.flags(), f"--wait {seconds:g}"])


def next_lines(root: Path, step: Step, review: Review | None, options: DriverOptions) -> list[str]:
    """What comes next, the review that is needed before it, and the command."""
    lines = [] if step.done else [f"next: {step.label} {step.stage}: {step.why}"]
    if review is not None and review.kind == "report":
        lines.append(f"review needed: let the reporter (agents/reporter.md) read {root} and write its findings")
    elif review is not None:
        numbers = " ".join(f"--picture {s.number}=CAUSE" for s in review.samples[:2])
        lines += [
            f"review needed: open {review.folder}/weak_overview.png (numbered: part, golden, difference) and record a cause "
            f"for each, one of {CAUSES}:",
            *(f"  {s.text}" for s in review.samples),
            f"  {command('record_spot_check')} --results-dir {root} --iteration {review.label} {numbers}",
        ]
        if review.label != "baseline":
            number = review.label.removeprefix("iter")
            lines += [
                "and say in one sentence what it means:",
                f'  {command("render_report")} --results-dir {root} --iteration {number} --note "SENTENCE"',
            ]
    if not step.done:
        lines.append(f"then: {continue_command(root, options)}")
    return lines


def final_lines(root: Path, state: dict[str, Any]) -> list[str]:
    """How the run ended and why, the verdict, what it still gets wrong, what to collect, the files."""
    from deft_aoi.analysis.metric import best_iteration
    from deft_aoi.report.verdict import limits

    run, best = RunPaths(root), best_iteration(state)
    lines = [f"run {root.name}: {state['status']}"]
    why = state["run"]["stages"].get("loop_stop", {}).get("summary", "").partition("; ")[2]
    lines += [f"why:     {why}"] if why else []
    if best is not None:
        lines.append(f"verdict: {state['run'].get('verdict_sentence') or shown_verdict(state, best['label'])}")
        lines += best.get("beside_the_verdict", [])
        lines.append(f"model of {best['label']}, threshold {best['threshold']!r}")
        if state["run"].get("champion"):
            lines.append(f"champion: {state['run']['champion']}")
        if best.get("primary_metric"):
            lines.append(f"primary metric: {best['primary_metric']}")
        with contextlib.suppress(DeftError):  # the report names a file that cannot be read
            lines += [printable(line, 400) for line in limits(root)]
    lines += [f"report:  {run.report}"] if run.report.exists() else []
    return lines + ([f"model:   {run.best_model}"] if run.best_model.exists() else [])


def describe_next(results_dir: str) -> CommandResult:
    """What comes next, for an agent that has forgotten everything."""
    root = Path(results_dir).expanduser().resolve()
    require_run(root)
    run = RunPaths(root)
    _plan, config = gate.load_plan(run)
    state, holder, last = load_state(root), lock.holder(root), driver_exit.last_driver(root)
    step, options = next_step(state, config), last.options if last else DriverOptions()
    review = review_due(run, state, config) if options.until_agent and holder is None else None
    lines = final_lines(root, state) if step.done else [f"run {root.name}: {state['status']}"]
    for label, it in state.get("iterations", {}).items():
        if it.get("far_fraction") is not None:
            lines.append(
                f"  {label}: FAR {100 * it['far_fraction']:.3g}% at recall {100 * it['recall_fraction']:.4g}%: "
                f"{shown_verdict(state, label)}"
            )
    if holder is not None:
        lines.append(f"a driver is running ({holder}); wait with: {wait_command(root, options)}")
    else:
        lines += last_driver_lines(last)
        lines += next_lines(root, step, review, options)
    data = {
        "label": step.label,
        "stage": step.stage,
        "why": step.why,
        "status": state["status"],
        "held": holder is not None,
        "review": review.kind if review else "",
        "last_driver": {"exit_code": last.exit_code, "error": last.error} if last and holder is None else None,
    }
    return CommandResult("\n".join(lines), data)


def last_driver_lines(last: driver_exit.LastDriver | None) -> list[str]:
    """How the last driver ended, where that is worth a word."""
    if last is None or last.exit_code == 0:
        return []
    if last.exit_code is None:
        return ["last driver: no exit code: it was killed or its host restarted"]
    error = last.error or {}
    lines = [f"last driver: exit {last.exit_code}" + (f": {printable(error.get('message', ''), 300)}" if error else "")]
    return lines + [f"  {part}: {printable(error[part], 300)}" for part in ("expected", "found", "try") if error.get(part)]
