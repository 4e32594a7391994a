"""How a run is driven from a command line: foreground, background, waiting, Ctrl-C, and the words at the end."""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from deft_aoi.analysis.verdict import fails, shown_verdict
from deft_aoi.contract.commands import command
from deft_aoi.contract.errors import UsageError
from deft_aoi.contract.paths import RunPaths
from deft_aoi.contract.text import printable
from deft_aoi.loop import approval, gate
from deft_aoi.loop.driver import Driven, drive
from deft_aoi.loop.next_step import Step, next_step
from deft_aoi.loop.open_run import open_run
from deft_aoi.loop.planning import plan_run
from deft_aoi.record import lock
from deft_aoi.record.state import load_state

Spoken = tuple[str, dict[str, Any], int]
SECOND_CTRL_C_SEC = 5.0
WAIT_POLL_SEC = 0.3


def say(line: str) -> None:
    """One line a stage, at once; of a text with many lines (the Summary) each line is cut by itself."""
    print("\n".join(part[:399] for part in line.split("\n")), flush=True)


def progress(line: str) -> None:
    """Live progress on standard error: one line that is overwritten on a terminal, else nothing but epochs."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{line[:110]}", end="", file=sys.stderr, flush=True)


def _clear() -> None:
    if sys.stderr.isatty():
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def run_loop(args: argparse.Namespace, *, script: str) -> Spoken:
    """The whole job: plan, approve, open, drive; or continue.

    Returns:
        Text, data and exit code.
    """
    if args.results_dir:
        root = Path(args.results_dir).expanduser().resolve()
    else:
        planned = plan_run(args)
        if planned.plan is None:
            return planned.text, planned.data, planned.exit_code
        digest = planned.plan["digest"]
        approved = gate.plans.read_approval(digest) is not None
        # Whoever approved the plan has read its Summary; an agent does not pay for it a second time.
        say(f"plan {digest[:12]} is approved" if approved and args.until_agent else planned.text + "\n")
        if not approved:
            if args.yes:
                gate.approve(planned.plan, typed="--yes", how="yes-flag")
            else:
                gate.approve(planned.plan, typed=approval.ask(planned.plan), how="terminal")
        root = open_run(planned.plan).root
        say(f"run {root}")
    extra = (["--until-agent"] if args.until_agent else []) + (["--fail-on-not-met"] if args.fail_on_not_met else [])
    return run_in_front(
        str(root),
        script=script,
        extra=extra,
        detach=args.detach,
        wait=args.wait,
        until_agent=args.until_agent,
        fail_on_not_met=args.fail_on_not_met,
    )


def run_in_front(
    results_dir: str,
    *,
    script: str,
    extra: list[str],
    detach: bool = False,
    wait: float | None = None,
    until_agent: bool = False,
    fail_on_not_met: bool = False,
    limit: int | None = None,
    named: str | None = None,
) -> Spoken:
    """Drive a run here, in the background, or wait for a driver in the background."""
    root = Path(results_dir).expanduser().resolve()
    if detach:
        if lock.holder(root) is None:
            _spawn(root, script, extra)
        if wait is None:
            return (
                f"the driver goes on in the background\nnext: {command(Path(script).stem)} --results-dir {root} --wait 300",
                {"results_dir": str(root), "detached": True},
                0,
            )
    if wait is not None:
        return _wait(root, wait, script, fail_on_not_met)
    with _InterruptsExplained(root):
        driven = drive(root, say=_line, progress=progress, until_agent=until_agent, limit=limit, named=named)
    return _ending(root, driven, fail_on_not_met)


def _line(line: str) -> None:
    _clear()
    say(line)


def _spawn(root: Path, script: str, extra: list[str]) -> None:
    """Start the driver in a session of its own; its output goes to ``run/logs/driver.log``."""
    log = RunPaths(root).logs / "driver.log"
    with log.open("ab") as out:
        process = subprocess.Popen(
            [sys.executable, script, "--results-dir", str(root), *extra],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
            cwd="/",
        )
    # It has the lock, or has ended, before we return: a caller who asks at once must not find nothing.
    for _ in range(200):
        if lock.holder(root) is not None or process.poll() is not None:
            return
        time.sleep(0.05)


def _wait(root: Path, seconds: float, script: str, fail_on_not_met: bool) -> Spoken:
    end = time.monotonic() + seconds
    while lock.holder(root) is not None and time.monotonic() < end:
        time.sleep(WAIT_POLL_SEC)
    if lock.holder(root) is not None:
        state = load_state(root)
        text = f"still running: {state.get('current_iteration')}; {len(_done(state))} stages done"
        return f"{text}\nnext: {command(Path(script).stem)} --results-dir {root} --wait {seconds:g}", {"running": True}, 0
    _plan, config = gate.load_plan(RunPaths(root))
    state = load_state(root)
    return _ending(root, Driven(next_step(state, config), "", 0), fail_on_not_met)


def _done(state: dict[str, Any]) -> list[str]:
    return [s for it in state.get("iterations", {}).values() for s in it.get("stages", {})]


def _ending(root: Path, driven: Driven, fail_on_not_met: bool) -> Spoken:
    """What is said when the driver returns: the verdict and the files, or the next command."""
    run, state = RunPaths(root), load_state(root)
    data: dict[str, Any] = {"results_dir": str(root), "next": driven.step.stage, "judgement": driven.judgement}
    if not driven.step.done:
        return "\n".join(_next_lines(root, driven.step, driven.judgement)), data, 0
    lines = [f"run {root.name}: {state['status']}"]
    best = _best(state)
    code = 0
    if best is not None:
        told = shown_verdict(state, best["label"])
        lines.append(f"verdict: {state['run'].get('verdict_sentence') or told}")
        lines.append(f"model of {best['label']}, threshold {best['threshold']!r}")
        best = {**best, "verdict": told}
        if best.get("primary_metric"):
            lines.append(f"primary metric: {best['primary_metric']}")
        code = 8 if fail_on_not_met and fails(told) else 0
    elif fail_on_not_met:
        code = 8
    lines += [f"report:  {run.report}", f"model:   {run.best_model}"]
    if driven.judgement == "report":
        lines.append(f"next: let the reporter (agents/reporter.md) read {root} and write its findings")
    return "\n".join(lines), data | {"status": state["status"], "best": best}, code


def _best(state: dict[str, Any]) -> dict[str, Any] | None:
    from deft_aoi.loop.stages.train import best_iteration

    return best_iteration(state)


def _next_lines(root: Path, step: Step, judgement: str) -> list[str]:
    lines = [f"next: {step.label} {step.stage}: {step.why}"]
    if judgement == "spot_check":
        state = load_state(root)
        label = _last_rca(state)
        folder = root / str(state["iterations"][label]["rca_dir"])
        lines += [
            f"judgement due: look at {folder}/weak_overview.png (numbered: part, golden, difference) and name each cause, one of "
            "mislabeled, edge_case, data_quality, systematic:",
            f"  {command('record_spot_check')} --results-dir {root} --iteration {label} --picture 1=CAUSE --picture 2=CAUSE",
        ]
        if label != "baseline":
            number = label.removeprefix("iter")
            lines += [
                "and say in one sentence what it means:",
                f'  {command("render_report")} --results-dir {root} --iteration {number} --note "SENTENCE"',
            ]
    lines.append(f"then: {command('run_loop')} --results-dir {root}" + (" --until-agent" if judgement else ""))
    return lines


def _last_rca(state: dict[str, Any]) -> str:
    return [label for label, it in state["iterations"].items() if it.get("rca_dir")][-1]


def describe_next(results_dir: str) -> tuple[str, dict[str, Any]]:
    """What comes next, for an agent that has forgotten everything."""
    root = Path(results_dir).expanduser().resolve()
    run = RunPaths(root)
    if not run.log.exists():
        raise UsageError(f"{printable(root.name)} is not a run", expected="a folder with loop_log.jsonl", found=str(root))
    _plan, config = gate.load_plan(run)
    state = load_state(root)
    step = next_step(state, config)
    holder = lock.holder(root)
    lines = [f"run {root.name}: {state['status']}"]
    for label, it in state.get("iterations", {}).items():
        if it.get("far_fraction") is not None:
            lines.append(
                f"  {label}: FAR {100 * it['far_fraction']:.3g}% at recall {100 * it['recall_fraction']:.4g}%: "
                f"{shown_verdict(state, label)}"
            )
    if holder is not None:
        lines.append(f"a driver holds the run ({holder}); wait: {command('run_loop')} --results-dir {root} --wait 300")
    elif step.done:
        lines += [f"nothing is left to do; report {run.report}, model {run.best_model}"]
    else:
        lines += _next_lines(root, step, "")
    data = {"label": step.label, "stage": step.stage, "why": step.why, "status": state["status"], "held": holder is not None}
    return "\n".join(lines), data


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


class _InterruptsExplained:
    """First Ctrl-C: the job goes on, and how to come back. A second one within five seconds cancels it."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def __enter__(self) -> None:
        signal.signal(signal.SIGTERM, lambda *_: (_ for _ in ()).throw(KeyboardInterrupt()))

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        _clear()
        if kind is None or not issubclass(kind, KeyboardInterrupt):
            return
        print(
            f"\nThe job in flight goes on. To come back: {command('run_loop')} --results-dir {self.root}\n"
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
