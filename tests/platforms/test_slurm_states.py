"""What the scheduler says, in all its words: by stand-in commands, since a one-node cluster does not say most of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from deft_aoi.contract.errors import Blocked
from deft_aoi.platforms import base, slurm
from deft_aoi.platforms.base import JobRequest, JobState

NAME = "deft-r1-iter1-train"


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Puts a command into the folder of SLURM's commands; every call is kept in ``calls``."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")

    def put(name: str, body: str) -> None:
        (folder / name).write_text(f'#!/bin/sh\necho "{name} $*" >> {folder}/calls\n{body}\n')
        (folder / name).chmod(0o755)

    put("sbatch", "echo 42")
    put("squeue", "")
    return put


def calls(tmp_path: Path, name: str) -> list[str]:
    return [c for c in (tmp_path / "bin/calls").read_text().splitlines() if c.startswith(f"{name} ")]


@pytest.fixture
def job(tmp_path: Path) -> JobRequest:
    return JobRequest(NAME, ("true",), str(tmp_path), str(tmp_path / "log"))


def submitted(job: JobRequest, tmp_path: Path, options: dict[str, str] | None = None):
    platform = base.get_platform("slurm", options or {})
    platform.submit(job, tmp_path / "jobs")
    return platform


@pytest.mark.parametrize(
    ("said", "state", "code", "detail"),
    [
        ("PENDING|0:0", JobState.PENDING, None, "job 42 pending"),
        ("RUNNING|0:0", JobState.RUNNING, None, "job 42 running"),
        ("REQUEUED|0:0", JobState.PENDING, None, "job 42 requeued"),
        ("COMPLETED|0:0", JobState.COMPLETE, 0, ""),
        ("CANCELLED by 1000|0:15", JobState.CANCELED, 143, "canceled"),
        ("FAILED|3:0", JobState.ERROR, 3, "exit code 3"),
        ("TIMEOUT|0:0", JobState.ERROR, None, "time limit"),
        ("OUT_OF_MEMORY|0:125", JobState.ERROR, 253, "the host's memory ran out"),
        ("NODE_FAIL|1:0", JobState.ERROR, 1, "a node failed"),
        ("PREEMPTED|0:0", JobState.ERROR, None, "preempted"),
        ("EXPEDITING|0:0", JobState.PENDING, None, "job 42 expediting"),
        ("SOMETHING_NEW|0:0", JobState.UNKNOWN, None, "job 42: the scheduler says SOMETHING_NEW"),
    ],
)
def test_accounting_is_asked_first_and_its_words_are_translated(commands, job, tmp_path, said, state, code, detail):
    commands("sacct", f"echo '{said}'")
    status = submitted(job, tmp_path).status(NAME, tmp_path / "jobs")
    assert (status.state, status.exit_code, status.detail) == (state, code, detail)
    assert calls(tmp_path, "sacct") == ["sacct -X -n -P -j 42 --format=State,ExitCode"]


@pytest.mark.parametrize(
    ("scheduler", "written", "state"),
    [
        ("0:0", None, JobState.RUNNING),
        ("0:15", None, JobState.RUNNING),
        ("0:15", 143, JobState.RUNNING),
        ("1:0", 1, JobState.RUNNING),
        ("0:0", 0, JobState.COMPLETE),
    ],
)
def test_a_job_that_is_ending_has_no_reason_yet_unless_it_ended_well(commands, job, tmp_path, scheduler, written, state):
    commands("sacct", f"echo 'COMPLETING|{scheduler}'")
    platform = submitted(job, tmp_path)
    if written is not None:
        (tmp_path / "jobs" / f"{NAME}.exit").write_text(f"{written}\n")
    assert platform.status(NAME, tmp_path / "jobs").state is state


@pytest.mark.parametrize("sacct", ["exit 1", ""], ids=["no accounting", "nothing yet"])
def test_without_accounting_the_controller_is_asked(commands, job, tmp_path, sacct):
    commands("sacct", sacct)
    commands("scontrol", "echo JobId=42 JobName=x JobState=FAILED Reason=NonZeroExitCode ExitCode=7:0")
    status = submitted(job, tmp_path).status(NAME, tmp_path / "jobs")
    assert (status.state, status.exit_code) == (JobState.ERROR, 7)


def test_a_job_that_the_controller_forgot_is_judged_by_the_code_that_the_script_wrote(commands, job, tmp_path):
    commands("sacct", "exit 1")
    commands("scontrol", "echo slurm_load_jobs error: Invalid job id specified >&2; exit 1")
    platform = submitted(job, tmp_path)
    assert platform.status(NAME, tmp_path / "jobs").state is JobState.UNKNOWN
    (tmp_path / f"jobs/{NAME}.exit").write_text("0\n")
    assert platform.status(NAME, tmp_path / "jobs").state is JobState.COMPLETE


def test_a_scheduler_that_is_down_is_unknown_not_an_end(commands, job, tmp_path):
    for name in ("sacct", "scontrol"):
        commands(name, "echo Unable to contact slurm controller >&2; exit 1")
    assert submitted(job, tmp_path).status(NAME, tmp_path / "jobs").state is JobState.UNKNOWN


def test_a_connection_that_broke_while_submitting_never_makes_a_second_job(commands, job, tmp_path):
    queue = tmp_path / "queue"
    # The job is queued, and the connection breaks before its id comes back.
    commands("ssh", f'case "$*" in *sbatch*) echo 42 >> {queue}; exit 255;; *squeue*) cat {queue};; esac')
    platform = base.get_platform("slurm", {"host": "login"})
    with pytest.raises(slurm.NoAnswer, match="connection to login failed"):
        platform.submit(job, tmp_path / "jobs")
    assert platform.status(NAME, tmp_path / "jobs").state is JobState.UNKNOWN
    base.get_platform("slurm", {"host": "login"}).submit(job, tmp_path / "jobs")
    assert queue.read_text() == "42\n"
    assert base.read_record(NAME, tmp_path / "jobs")["handle"]["job_id"] == "42"


def test_a_refusal_leaves_the_name_free(commands, job, tmp_path):
    commands("sbatch", "echo sbatch: error: invalid partition >&2; exit 1")
    with pytest.raises(Blocked, match="sbatch failed") as caught:
        submitted(job, tmp_path)
    assert "invalid partition" in caught.value.found
    assert base.read_record(NAME, tmp_path / "jobs") is None
    commands("sbatch", "echo 43")
    submitted(job, tmp_path)
    assert base.read_record(NAME, tmp_path / "jobs")["handle"]["job_id"] == "43"


def test_over_ssh_every_word_is_quoted_for_the_other_shell(commands, tmp_path):
    commands("ssh", 'shift 6; eval "$*"')
    commands("squeue", 'for word in "$@"; do echo "[$word]"; done')
    said = slurm.run_command({"host": "login"}, "squeue", "--name", "a b; touch pwned", "$(id)")
    assert said == "[--name]\n[a b; touch pwned]\n[$(id)]\n"
    assert not Path("pwned").exists()
