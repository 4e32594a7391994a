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


GONE = "echo slurm_load_jobs error: Invalid job id specified >&2; exit 1"
DOWN = "echo Unable to contact slurm controller >&2; exit 1"


def status_of(job: JobRequest, tmp_path: Path, written: str | None = None):
    platform = submitted(job, tmp_path)
    if written is not None:
        (tmp_path / "jobs" / f"{NAME}.exit").write_text(f"{written}\n")
    status = platform.status(NAME, tmp_path / "jobs")
    return status.state, status.exit_code, status.detail


@pytest.mark.parametrize(
    ("said", "state", "code", "detail"),
    [
        ("PENDING Reason=Resources", JobState.PENDING, None, "job 42 pending (Resources)"),
        ("PENDING Reason=BeginTime Restarts=1", JobState.PENDING, None, "job 42 pending (BeginTime), run again by SLURM (1)"),
        ("RUNNING Reason=None", JobState.RUNNING, None, "job 42 running"),
        ("REQUEUED", JobState.PENDING, None, "job 42 requeued"),
        (
            "REQUEUE_HOLD Reason=launch_failed_requeued_held",
            JobState.PENDING,
            None,
            "job 42 requeue_hold (launch_failed_requeued_held)",
        ),
        ("SUSPENDED", JobState.PENDING, None, "job 42 suspended"),
        ("COMPLETED ExitCode=0:0", JobState.COMPLETE, 0, ""),
        ("CANCELLED ExitCode=0:15", JobState.CANCELED, 143, "canceled"),
        ("FAILED ExitCode=3:0", JobState.ERROR, 3, "exit code 3"),
        ("TIMEOUT ExitCode=0:0", JobState.ERROR, None, "time limit"),
        ("OUT_OF_MEMORY ExitCode=0:125", JobState.ERROR, 253, "the host's memory ran out"),
        ("NODE_FAIL ExitCode=1:0", JobState.ERROR, None, "a node failed"),
        ("PREEMPTED ExitCode=0:0", JobState.ERROR, None, "preempted"),
        ("SOMETHING_NEW ExitCode=0:0", JobState.UNKNOWN, None, "job 42: the scheduler says SOMETHING_NEW"),
    ],
)
def test_the_controllers_words_are_translated_and_accounting_is_not_asked(commands, job, tmp_path, said, state, code, detail):
    commands("scontrol", f"echo 'JobId=42 JobName=x JobState={said}'")
    assert status_of(job, tmp_path) == (state, code, detail)
    assert calls(tmp_path, "sacct") == []


@pytest.mark.parametrize(
    ("controller", "accounting", "written", "state", "code"),
    [
        # Accounting knows how a job ended that the controller has forgotten.
        (GONE, "COMPLETED|0:0", None, JobState.COMPLETE, 0),
        (GONE, "FAILED|7:0", None, JobState.ERROR, 7),
        (GONE, "CANCELLED by 1000|0:15", None, JobState.CANCELED, 143),
        # ... or was never told of its end.
        (GONE, "RUNNING|0:0", "0", JobState.COMPLETE, 0),
        (GONE, "RUNNING|0:0", "5", JobState.ERROR, 5),
        (GONE, "RUNNING|0:0", None, JobState.ERROR, None),
        (GONE, "PENDING|0:0", None, JobState.ERROR, None),
        (GONE, "NODE_FAIL|1:0", None, JobState.ERROR, None),
        (GONE, "", "3", JobState.ERROR, 3),
        (GONE, "", None, JobState.ERROR, None),
        # Without the controller an end after which SLURM may run the job again is no end.
        (DOWN, "PREEMPTED|0:0", None, JobState.UNKNOWN, None),
        (DOWN, "NODE_FAIL|1:0", "1", JobState.UNKNOWN, None),
        (DOWN, "BOOT_FAIL|1:0", None, JobState.UNKNOWN, None),
        (DOWN, "FAILED|2:0", None, JobState.ERROR, 2),
        (DOWN, "RUNNING|0:0", None, JobState.RUNNING, None),
        (DOWN, "", None, JobState.UNKNOWN, None),
        (DOWN, "", "0", JobState.COMPLETE, 0),
        # The queue has it again, whatever accounting remembers.
        ("echo JobId=42 JobState=PENDING Reason=BeginTime Restarts=1", "PREEMPTED|0:0", None, JobState.PENDING, None),
        ("echo JobId=42 JobState=RUNNING Restarts=1", "NODE_FAIL|1:0", "1", JobState.RUNNING, None),
        ("echo JobId=42 JobState=COMPLETING ExitCode=0:15", "PREEMPTED|0:0", "143", JobState.RUNNING, None),
        ("echo JobId=42 JobState=COMPLETING ExitCode=0:0", "", "0", JobState.COMPLETE, 0),
    ],
)
def test_exit_file_controller_and_accounting_are_weighed_in_this_order(
    commands, job, tmp_path, controller, accounting, written, state, code
):
    commands("scontrol", controller)
    commands("sacct", f"echo '{accounting}'" if accounting else "")
    assert status_of(job, tmp_path, written)[:2] == (state, code)


def test_bytes_that_are_no_utf8_and_banners_are_read_over(commands, job, tmp_path):
    commands(
        "scontrol", "printf 'Willkommen \\377\\n'; printf 'JobId=42 JobName=L\\366t JobState=RUNNING Comment=JobState=FAILED\\n'"
    )
    assert status_of(job, tmp_path)[0] is JobState.RUNNING


def test_a_federations_cluster_is_asked_by_its_name(commands, job, tmp_path):
    commands("sbatch", "echo Welcome; echo '42;alpha'")
    commands("scontrol", "echo JobId=42 JobState=RUNNING")
    assert status_of(job, tmp_path)[0] is JobState.RUNNING
    assert calls(tmp_path, "scontrol") == ["scontrol --clusters=alpha --oneliner show job 42"]


def test_cancel_ends_what_slurm_would_run_again_and_asks_until_it_is_gone(commands, job, tmp_path):
    commands("scontrol", f"test -e {tmp_path}/ended && {{ {GONE}; }}; echo JobId=42 JobState=PENDING Restarts=1")
    commands("scancel", f"touch {tmp_path}/ended")
    commands("sacct", "echo 'PREEMPTED|0:0'")
    platform = submitted(job, tmp_path)
    platform.cancel(NAME, tmp_path / "jobs")
    assert calls(tmp_path, "scancel") == ["scancel 42"]
    platform.cancel(NAME, tmp_path / "jobs")
    assert len(calls(tmp_path, "scancel")) == 1


def test_cancel_says_so_when_nobody_knows_whether_the_job_runs(commands, job, tmp_path):
    commands("scontrol", DOWN)
    with pytest.raises(Blocked, match="controller does not answer"):
        submitted(job, tmp_path).cancel(NAME, tmp_path / "jobs")


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
