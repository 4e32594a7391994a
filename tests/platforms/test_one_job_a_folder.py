"""Whatever SLURM does with a job and whenever the driver is killed: never two jobs at work on one output folder."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from deft_aoi.contract.errors import Blocked, JobFailed, JobLost
from deft_aoi.loop import launch
from deft_aoi.platforms import base, slurm
from deft_aoi.platforms.base import JobRequest, JobState

ACTIVE = ("PENDING", "RUNNING")
# What may happen between two looks: SLURM's own doing, its daemons coming and going, and the driver's death.
HAPPENINGS = (
    "start",
    "ends_well",
    "fails",
    "node_fails",
    "preempted_requeued",
    "preempted_for_good",
    "forget",
    "accounting_lags",
    "controller_down",
    "controller_up",
    "kill_after_sbatch",
    "kill",
    "look",
)


class Killed(BaseException):
    """SIGKILL of the driver."""


class Scheduler:
    """SLURM as it is seen through its four commands."""

    def __init__(self, record_dir: Path) -> None:
        self.record_dir = record_dir
        self.jobs: dict[str, dict] = {}
        self.up, self.kill_after_sbatch = True, False

    def run(
        self, _options: Mapping[str, str], command: str, *words: str, environment: object = None, timeout_sec: int = 0
    ) -> str:
        if command == "sacct":
            job = self.jobs.get(words[words.index("-j") + 1])
            return "" if job is None else f"{job['accounting']}|{job['code']}:0\n"
        if not self.up:
            raise Blocked(f"{command} failed", found="Unable to contact slurm controller")
        if command == "sbatch":
            number = str(41 + len(self.jobs) + 1)
            name = Path(words[-1]).name.removesuffix(".sbatch")
            self.jobs[number] = {
                "name": name,
                "state": "PENDING",
                "accounting": "PENDING",
                "code": 0,
                "restarts": 0,
                "known": True,
            }
            assert sum(j["state"] in ACTIVE for j in self.jobs.values()) <= 1, "two jobs at work on one folder"
            if self.kill_after_sbatch:
                self.kill_after_sbatch = False
                raise Killed
            return f"{number}\n"
        if command == "squeue":
            name = words[words.index("--name") + 1]
            return "".join(f"{n}\n" for n, j in self.jobs.items() if j["name"] == name and j["state"] in ACTIVE)
        job = self.jobs.get(words[-1])
        if job is None or not job["known"]:
            raise Blocked(f"{command} failed", found="slurm_load_jobs error: Invalid job id specified")
        if command == "scancel":
            if job["state"] in ACTIVE:
                job["state"] = job["accounting"] = "CANCELLED"
            return ""
        return f"JobId={words[-1]} JobState={job['state']} ExitCode={job['code']}:0 Restarts={job['restarts']}\n"

    def happen(self, what: str) -> None:
        """Something happens to the newest job or to the daemons."""
        if what in ("controller_down", "controller_up"):
            self.up = what == "controller_up"
        if what == "kill_after_sbatch":
            self.kill_after_sbatch = True
        if not self.jobs:
            return
        number, job = list(self.jobs.items())[-1]
        if what == "forget" and job["state"] not in ACTIVE:
            job["known"] = False
        if job["state"] not in ACTIVE:
            return
        lags = job.pop("lags", False)
        if what == "accounting_lags":
            job["lags"] = True
        elif what == "start":
            job["state"] = "RUNNING"
            (self.record_dir / f"{job['name']}.claim").write_text(f"{number}\n")  # the script's first act
        elif what in ("ends_well", "fails") and job["state"] == "RUNNING":
            job["code"] = 0 if what == "ends_well" else 3
            (self.record_dir / f"{job['name']}.exit").write_text(f"{job['code']}\n")
            job["state"] = "COMPLETED" if what == "ends_well" else "FAILED"
        elif what == "node_fails":
            job["state"], job["accounting"] = "NODE_FAIL", "NODE_FAIL"
        elif what == "preempted_requeued":
            job["state"], job["restarts"], job["accounting"] = "PENDING", job["restarts"] + 1, "PREEMPTED"
            return
        elif what == "preempted_for_good":
            job["state"] = "PREEMPTED"
        if not lags and what != "accounting_lags":
            job["accounting"] = job["state"]


def look(folder: Path, attempt: int) -> tuple[str, int]:
    """What the driver does with one look: submit what is unknown, repeat what was lost, else take the state as it is."""
    jobs = folder / "jobs"
    jobs.mkdir(exist_ok=True)
    platform = base.get_platform("slurm", {})
    job = launch.Job("iter1", "train", "", attempt, "train", folder / "s", (), folder / "out", folder, folder / "log")
    ctx = SimpleNamespace(
        platform=platform,
        config=SimpleNamespace(platform="slurm", engine="embedded"),
        run=SimpleNamespace(jobs=jobs, root=Path("run_20260101_120000")),
        say=lambda _line: None,
        progress=lambda _line: None,
    )
    name = launch.job_name(ctx, job)
    if platform.status(name, jobs).state is JobState.UNKNOWN:
        platform.submit(JobRequest(name, ("true",), str(folder), str(folder / "log")), jobs)
    status = platform.status(name, jobs)
    if not status.state.finished:
        return status.state.value, attempt
    try:
        launch.require_not_lost(ctx, name, status)
    except JobLost:
        return "LOST", attempt + 1
    return status.state.value, attempt + (status.state is not JobState.COMPLETE)


@example(["kill_after_sbatch", "start", "ends_well"])
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(what=st.lists(st.sampled_from(HAPPENINGS), max_size=30))
def test_no_interleaving_puts_two_jobs_on_one_folder(monkeypatch: pytest.MonkeyPatch, what: list[str]) -> None:
    folder = Path(tempfile.mkdtemp())
    (folder / "jobs").mkdir()
    scheduler = Scheduler(folder / "jobs")
    monkeypatch.setattr(slurm, "run_command", scheduler.run)
    attempt, done = 1, False
    try:
        for happening in [*what, "controller_up", "look", "start", "ends_well", "look", "look"]:
            scheduler.happen(happening)
            if done or happening not in ("look", "kill", "kill_after_sbatch"):
                continue
            try:
                state, attempt = look(folder, attempt)
            except (Killed, Blocked, JobFailed):  # the next look is another driver's, or a person's next try
                continue
            done = state == "COMPLETE"
        finished_well = [j for j in scheduler.jobs.values() if j["state"] == "COMPLETED"]
        assert len(finished_well) <= 1
        assert not done or finished_well
    finally:
        shutil.rmtree(folder)


def test_the_model_itself_notices_a_second_job(tmp_path: Path) -> None:
    scheduler = Scheduler(tmp_path)
    scheduler.run({}, "sbatch", "a.sbatch")
    with pytest.raises(AssertionError, match="two jobs"):
        scheduler.run({}, "sbatch", "b.sbatch")
