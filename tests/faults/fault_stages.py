"""SIGKILL at the fault points of every stage of a real loop, and of whole loops: afterwards the run of the undisturbed one.

A run on the small rendered workspace is driven stage by stage; before each stage, and where a stage has jobs also when its
last job has ended, the run is kept. A case puts one of these states back, drives the stage in a process that dies at one
point (see ``crash.py``), drives again, and compares (see ``normaliser.py``).
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path

import normaliser
from crash import JOB_ENDED
from loops import Ended, Loop
from rig import Budget, Row

from deft_aoi.contract.errors import DeftError

CASES = 210
LAUNCH_CASES = 3
"""Deaths before the end of a stage's last job: each of them runs the job, which takes seconds."""
LOOPS = 4
JOB_KILLS = 8
PATIENCE_SHARE, PATIENCE_GROWS = 1 / 40, 1.15
"""A driver of a whole loop is killed after at most this share of the time that the undisturbed loop took here, a little
later each time: a loop takes some twenty kills, on a busy machine as on an idle one."""
SHORT_CASES = 12
SHORT_END = "iter1 train"
"""The short version ends before this stage."""


@dataclass
class Step:
    """One stage of the undisturbed run.

    Attributes:
        name: ``label stage``.
        before: the state kept before it.
        after_job: the state kept when its last job had ended; empty where it has none.
        points: what it passes from ``before``, by kind.
        later: what it passes from ``after_job``.
        tree: the run afterwards, normalised.
        events: its finished stages afterwards.
        trainings: how often each training began.
    """

    name: str
    before: str
    after_job: str
    points: list[str]
    later: list[str] = field(default_factory=list)
    tree: dict[str, str] = field(default_factory=dict)
    events: list[str] = field(default_factory=list)
    trainings: dict[str, int] = field(default_factory=dict)

    @property
    def launch_points(self) -> int:
        """How many points lie before the end of the last job."""
        return max((n for n, kind in enumerate(self.points, 1) if kind == JOB_ENDED), default=0)


class Reference:
    """The undisturbed run: its states and its results."""

    def __init__(self, base: Path, *, short: bool) -> None:
        self.loop = Loop(base, "--max-iterations", "1", *(("--encoder", "pixels") if short else ()))
        self.loop.open()
        self.steps: list[Step] = []
        self.duration_sec = 0.0
        while (name := self.loop.next()) and not (short and name == SHORT_END):
            self.steps.append(self._step(name))
        self.complete = not name

    def _step(self, name: str) -> Step:
        number, loop = f"{len(self.steps):02}", self.loop
        loop.keep(number)
        begin = time.monotonic()
        _must(loop.traced(after_job=f"{number}-job"), name)
        self.duration_sec += time.monotonic() - begin
        after_job = f"{number}-job" if (loop.kept / f"{number}-job").exists() else ""
        step = Step(name, number, after_job, loop.points())
        step.tree, step.events = _tree(loop, step), normaliser.events(loop.log())
        step.trainings = loop.trainings_started()
        assert set(step.trainings.values()) <= {1}, step.trainings
        if after_job:
            loop.keep("after")
            loop.put_back(after_job)
            _must(loop.traced(), name)
            step.later = loop.points()
            found = compare(loop, step)
            assert not found, f"{name} adopted: {found}"
            loop.put_back("after")
        return step


_REFERENCES: dict[bool, Reference] = {}


def reference(folder: Path, *, short: bool) -> Reference:
    """The undisturbed run, made once in a process."""
    if short not in _REFERENCES:
        _REFERENCES[short] = Reference(folder, short=short)
    return _REFERENCES[short]


def _must(ended: Ended, name: str) -> None:
    assert ended.code == 0, f"{name} without a fault: exit {ended.code}, {ended.said}"


def _tree(loop: Loop, step: Step) -> dict[str, str]:
    store = normaliser.tree(loop.cache / "embeddings", prefix=".deft/embeddings/")
    return normaliser.tree(loop.run, views=step.name == "run report") | store


def compare(loop: Loop, step: Step, *, retried: bool = False) -> list[str]:
    """What the run has that the undisturbed one has not, or the other way round.

    Args:
        loop: the run as it is.
        step: the undisturbed run after this step.
        retried: a job was killed, so that it was launched once more under another name.
    """
    problems = loop.judged()
    problems += normaliser.difference(_tree(loop, step), step.tree)
    found = normaliser.events(loop.log())
    if found != step.events:
        odd = [(a, b) for a, b in zip(found, step.events, strict=False) if a != b]
        problems.append(f"{len(found)} finished stages for {len(step.events)}; {odd[:1]}")
    starts = loop.trainings_started()
    if starts.keys() != step.trainings.keys() or max(starts.values(), default=0) > 1 + retried:
        problems.append(f"trainings began {starts} times")
    return problems


def killed_stage(loop: Loop, step: Step, state: str, at: int) -> tuple[list[str], bool]:
    """One case: ``(what does not hold, whether the point was reached)``."""
    loop.put_back(state)
    ended = loop.drive(at=at)
    if not ended.killed:
        return ([f"exit {ended.code}: {ended.said[-300:]}"] if ended.code else []), False
    try:
        if loop.next() == step.name:
            again = loop.drive()
            if again.code:
                return [f"continued with exit {again.code}: {again.said[-500:]}"], True
        return compare(loop, step), True
    except DeftError as error:
        return [f"{type(error).__name__}: {error.message} {error.found}"], True


def _cases(steps: list[Step], rng: random.Random, launches: int) -> list[tuple[Step, str, int, str]]:
    """Every stage in turn, each with its points in random order; few of those that have to run a job."""
    queues = []
    for step in steps:
        state, kinds = (step.after_job, step.later) if step.after_job else (step.before, step.points)
        queue = [(step, state, n, kind) for n, kind in enumerate(kinds, 1)]
        rng.shuffle(queue)
        early = [(step, step.before, n, step.points[n - 1]) for n in range(1, step.launch_points + 1)]
        queues.append(rng.sample(early, min(launches, len(early))) + queue)
    longest = max(len(queue) for queue in queues)
    return [queue[turn] for turn in range(longest) for queue in queues if turn < len(queue)]


def stages(folder: Path, budget: Budget, *, short: bool = False, cases: int = 0, launches: int = -1, seed: int = 1) -> Row:
    """Kill every stage at its points, a part of them chosen at random, until the target is reached."""
    ref = reference(folder, short=short)
    cases = cases or (SHORT_CASES if short else CASES)
    row = Row("SIGKILL at the fault points of every stage", {"cases": 0, "points known": 0, "stages": 0, "kinds": 0})
    row.target = {"cases": cases, "stages": len(ref.steps)}
    row.counts["points known"] = sum(s.launch_points + len(s.later or s.points) for s in ref.steps)
    seen, kinds = set(), set()
    early = launches if launches >= 0 else (0 if short else LAUNCH_CASES)
    for step, state, at, kind in _cases(ref.steps, random.Random(seed), early):
        if row.counts["cases"] >= cases or not budget.left():
            break
        problems, reached = killed_stage(ref.loop, step, state, at)
        row.problems += [f"{step.name}, point {at} ({kind}) of {state}: {p}" for p in problems]
        row.counts["cases"] += reached
        seen.add(step.name)
        kinds.add(kind)
    row.counts |= {"stages": len(seen), "kinds": len(kinds)}
    if not ref.loop.inputs_unchanged():
        row.problems.append("a file of the workspace itself was changed")
    return row


def loops(folder: Path, budget: Budget, *, short: bool = False, seed: int = 1) -> Row:
    """Kill the driver of a whole loop again and again, at random moments, until the loop is complete."""
    ref = reference(folder, short=False)
    loop, wanted = ref.loop, 1 if short else LOOPS
    row = Row("SIGKILL of the driver of whole loops", {"loops": 0, "kills": 0}, {"loops": wanted, "kills": 3 * wanted})
    rng = random.Random(seed)
    while row.counts["loops"] < wanted and budget.left() and not row.problems:
        loop.put_back(ref.steps[0].before)
        patience = PATIENCE_SHARE * ref.duration_sec
        while budget.left():
            child = loop.start_driver(limit=None)
            _until(child[0], patience * rng.random())
            patience *= PATIENCE_GROWS
            with contextlib.suppress(ProcessLookupError):
                os.kill(child[0], signal.SIGKILL)
            ended = loop.finish(child)
            row.counts["kills"] += ended.killed
            if ended.code == 0:
                row.problems += compare(loop, ref.steps[-1])
                row.counts["loops"] += 1
                break
            if not ended.killed:
                row.problems.append(f"exit {ended.code}: {ended.said[-500:]}")
                break
    return row


def _until(pid: int, seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end and os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        time.sleep(0.01)


VICTIMS = ("child", "supervisor", "child and driver", "supervisor and driver")


def jobs(folder: Path, budget: Budget, *, short: bool = False, seed: int = 1) -> Row:
    """Kill a job, or who watches it, alone or with the driver: the stage is done once more and the run is the same."""
    ref = reference(folder, short=False)
    wanted = 2 if short else JOB_KILLS
    row = Row("SIGKILL of jobs and their supervisors", {"kills": 0, "stages": 0}, {"kills": wanted})
    rng, todo, seen = random.Random(seed), [s for s in ref.steps if s.after_job], set()
    turn = 0
    while row.counts["kills"] < wanted and budget.left():
        step, victim = todo[turn % len(todo)], VICTIMS[turn % len(VICTIMS)]
        turn += 1
        problems, reached = _killed_job(ref.loop, step, victim, rng.uniform(0.0, 3.0))
        row.problems += [f"{step.name}, {victim}: {p}" for p in problems]
        row.counts["kills"] += reached
        seen.add(step.name)
    row.counts["stages"] = len(seen)
    return row


def _killed_job(loop: Loop, step: Step, victim: str, delay: float) -> tuple[list[str], bool]:
    loop.put_back(step.before)
    known = set(loop.run.glob("run/jobs/*.run.json"))
    child = loop.start_driver()
    identity = None
    while identity is None and os.waitid(os.P_PID, child[0], os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        time.sleep(0.02)
        fresh = set(loop.run.glob("run/jobs/*.run.json")) - known
        bodies = [json.loads(path.read_text()) for path in fresh]
        identity = next((b for b in bodies if b["child"] is not None), None)
    _until(child[0], delay)
    reached = identity is not None and _kill(identity[victim.split(" ")[0]])
    if victim.endswith("driver"):
        with contextlib.suppress(ProcessLookupError):
            os.kill(child[0], signal.SIGKILL)
    ended = loop.finish(child)
    for _retry in range(2):
        if loop.next() != step.name:
            break
        ended = loop.drive()
    if loop.next() == step.name:
        return [f"not finished: exit {ended.code}: {ended.said[-500:]}"], reached
    return compare(loop, step, retried=True), reached


def _kill(identity: dict[str, int]) -> bool:
    from deft_aoi.platforms import supervise

    if not supervise.is_alive(identity):
        return False
    with contextlib.suppress(ProcessLookupError):
        os.kill(identity["pid"], signal.SIGKILL)
        return True
    return False


FAULTS = [("loops", 10, loops), ("jobs", 4, jobs), ("stages", 10, stages)]
"""The longest last: what the others leave of the budget is its own."""
