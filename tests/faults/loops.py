"""A real run on a small rendered workspace: driven stage by stage in child processes, kept and put back at one path."""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import normaliser
from crash import Crash
from rig import SCRIPTS, drain, judge

KPI = "FAR < 0.0001% at recall=100%"
"""No model of three epochs meets it, so that the loop runs its iteration."""
EPOCHS = "3"
"""Enough for a training whose best checkpoint is not its last: two scorings, and a checkpoint to prune."""


@dataclass(frozen=True)
class Ended:
    """How a child process ended: its exit code (-9: killed) and what it said."""

    code: int
    said: str

    @property
    def killed(self) -> bool:
        """Whether SIGKILL ended it."""
        return self.code == -signal.SIGKILL


def warm() -> None:
    """Import here what every stage imports, so that a forked driver starts at once."""
    import matplotlib.pyplot as plt
    import pandas as pd
    import PIL.Image
    import pyarrow.parquet
    import scipy.stats

    from deft_aoi.loop import driver, stages
    from deft_aoi.report import render

    assert all((plt, pd, PIL.Image, pyarrow.parquet, scipy.stats, driver, render))
    stages.stage_functions()


class Loop:
    """One workspace at one path, its run, and copies of both.

    Paths are on record, so a copy is always put back where it came from. The customer's own files are not copied: no stage
    may change them, and :meth:`inputs_unchanged` says whether that held.
    """

    def __init__(self, base: Path, *options: str) -> None:
        self.base, self.workspace, self.kept = base, base / "ws", base / "kept"
        self.run, self.cache = self.workspace / "results" / "run_faults", self.workspace / ".deft"
        self.options, self.trace, self.env = options, base / "trace.txt", {}
        for name in ("state", "cache", "data"):
            self.env[f"XDG_{name.upper()}_HOME"] = str(base / name)
        warm()
        self.kept.mkdir(parents=True)
        self._script("make_demo_workspace", "--output", str(self.workspace), "--scale", "small", "--seed", "3", "--workers", "1")
        self.inputs = self._inputs()

    def _script(self, name: str, *args: str) -> None:
        argv = [sys.executable, str(SCRIPTS / f"{name}.py"), *args]
        done = subprocess.run(argv, capture_output=True, text=True, check=False, env={**os.environ, **self.env})
        if done.returncode:
            raise AssertionError(f"{name}: {done.stdout}{done.stderr}")

    def _inputs(self) -> dict[str, str]:
        tops = [p for p in sorted(self.workspace.iterdir()) if p.name not in ("results", ".deft")]
        return {f"{top.name}/{k}": v for top in tops if top.is_dir() for k, v in normaliser.tree(top).items()}

    def inputs_unchanged(self) -> bool:
        """Whether the customer's files are what they were."""
        return self._inputs() == self.inputs

    def open(self) -> None:
        """Plan, approve and open the run, from nothing."""
        for folder in (self.run, self.cache):
            shutil.rmtree(folder, ignore_errors=True)
        ended = self.finish(self.start(lambda _say: self._open()))
        assert ended.code == 0, ended.said

    def _open(self) -> None:
        from deft_aoi.loop import gate, options
        from deft_aoi.loop.open_run import open_run
        from deft_aoi.loop.planning import plan_run

        parser = argparse.ArgumentParser()
        options.add_plan_arguments(parser)
        wanted = ["--workspace", str(self.workspace), "--kpi-target", KPI, "--training-epochs", EPOCHS, *self.options]
        planned = plan_run(parser.parse_args(wanted))
        assert planned.plan is not None, planned.text
        gate.approve(planned.plan, typed="--yes", how="yes-flag")
        open_run(planned.plan, results_dir=self.run)

    def start(self, work: Callable[[Callable[[str], None]], None], crash: Crash | None = None) -> tuple[int, int]:
        """Run ``work(say)`` in a child process that may die at a point; ``(pid, read end of its pipe)``."""
        from rig import forked

        def inside(pipe: int) -> None:
            os.environ.update(self.env)
            os.setpgid(0, 0)

            def say(line: str) -> None:
                os.write(pipe, f"{line}\n".encode())

            if crash is not None:
                crash.install()
            try:
                work(say)
            except Exception as error:
                say(f"{type(error).__name__}: {error} {getattr(error, 'found', '')}")
                raise

        return forked(inside)

    @staticmethod
    def finish(child: tuple[int, int]) -> Ended:
        """Wait for a child."""
        pid, pipe = child
        # Its jobs may outlive it and hold nothing of ours, so the pipe ends when the child does.
        said = drain(pipe)
        return Ended(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), said)

    def drive(self, *, limit: int | None = 1, at: int = 0) -> Ended:
        """Drive the run in a child, which dies at point ``at``."""
        return self.finish(self.start_driver(limit=limit, crash=Crash((self.base,), at) if at else None))

    def traced(self, *, after_job: str = "") -> Ended:
        """Run one stage and note its points; keep the run as it is when a job has ended, under the name ``after_job``."""
        look = (lambda: self.keep(after_job)) if after_job else None
        return self.finish(self.start_driver(crash=Crash((self.base,), trace=self.trace, look=look)))

    def start_driver(self, *, limit: int | None = 1, crash: Crash | None = None) -> tuple[int, int]:
        """Drive, without waiting."""

        def work(say: Callable[[str], None]) -> None:
            from deft_aoi.loop.driver import drive

            drive(self.run, say=say, progress=lambda _line: None, limit=limit)

        return self.start(work, crash)

    def points(self) -> list[str]:
        """The points that the last traced driver passed."""
        return [line.partition(" ")[0] for line in self.trace.read_text().splitlines()]

    def keep(self, name: str) -> None:
        """Copy the run and the workspace's cache as they are."""
        target = self.kept / name
        if target.exists():
            shutil.rmtree(target)
        target.mkdir()
        for folder in (self.run, self.cache):
            if folder.exists():
                _copy(folder, target / folder.name)

    def put_back(self, name: str) -> None:
        """Make the run and the cache what they were."""
        for folder in (self.run, self.cache):
            shutil.rmtree(folder, ignore_errors=True)
            if (self.kept / name / folder.name).exists():
                _copy(self.kept / name / folder.name, folder)

    def log(self) -> list[dict[str, Any]]:
        """The record."""
        from deft_aoi.record import log

        return log.read(self.run)

    def next(self) -> str:
        """``label stage`` that comes next; empty when the run is complete."""
        from deft_aoi.contract.paths import RunPaths
        from deft_aoi.loop import gate
        from deft_aoi.loop.next_step import next_step
        from deft_aoi.record.log import load_state

        _plan, config = gate.load_plan(RunPaths(self.run))
        step = next_step(load_state(self.run), config)
        return f"{step.label} {step.stage}".strip()

    def trainings_started(self) -> dict[str, int]:
        """How often each published training began, as its engine tells."""
        starts = {}
        for path in sorted(self.run.glob("*/train/status.json")):
            starts[path.parts[-3]] = path.read_text().count("Starting Visual ChangeNet train")
        return starts

    def judged(self) -> list[str]:
        """What does not hold of the record, and jobs that were asked for twice."""
        problems = judge(self.run, {})
        asked = [e["data"]["job"] for e in self.log() if e["status"] == "started"]
        problems += [f"{name} was launched {asked.count(name)} times" for name in sorted(set(asked)) if asked.count(name) > 1]
        return problems


def _copy(source: Path, target: Path) -> None:
    # Times stay: a job's outputs must be no older than its record.
    subprocess.run(["cp", "-a", "--reflink=auto", str(source), str(target)], check=True)
