"""The local platform with real processes: names, death of the driver, cancel, time limit, secrets."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from tests.conftest import HANG_SEC, wait_until

from deft_aoi.contract.errors import Blocked, HardStop
from deft_aoi.platforms import base, supervise
from deft_aoi.platforms.base import JobRequest, JobState
from deft_aoi.platforms.job_files import log_tail

PY = sys.executable
UNTIL_GO = "import os, time; [time.sleep(0.01) for _ in iter(lambda: os.path.exists('go'), True)]"
"""A job that goes on until the test makes a file."""


def request(tmp_path: Path, code: str, name: str = "deft-r1-baseline-train", **more) -> JobRequest:
    return JobRequest(
        name=name,
        argv=(PY, "-c", textwrap.dedent(code)),
        cwd=str(tmp_path),
        log_path=str(tmp_path / "logs" / f"{name}.log"),
        **more,
    )


@pytest.fixture
def local():
    return base.get_platform("local")


def test_a_job_runs_to_its_end_and_its_output_is_in_the_log(local, tmp_path):
    local.submit(request(tmp_path, "import sys; print('out'); print('err', file=sys.stderr); sys.exit(0)"), tmp_path / "jobs")
    status = base.wait(local, "deft-r1-baseline-train", tmp_path / "jobs", timeout_sec=HANG_SEC)
    assert (status.state, status.exit_code) == (JobState.COMPLETE, 0)
    assert sorted(log_tail(tmp_path / "logs/deft-r1-baseline-train.log").split()) == ["err", "out"]


def test_outputs_of_the_job_are_never_older_than_its_start(local, tmp_path):
    local.submit(request(tmp_path, "open('new', 'w').close()"), tmp_path / "jobs")
    status = base.wait(local, "deft-r1-baseline-train", tmp_path / "jobs", timeout_sec=HANG_SEC)
    assert (tmp_path / "new").stat().st_mtime_ns >= status.started_ns


@pytest.mark.parametrize(("code", "exit_code"), [("raise SystemExit(7)", 7), ("import os; os.kill(os.getpid(), 9)", 137)])
def test_a_failed_job_keeps_its_exit_code(local, tmp_path, code, exit_code):
    local.submit(request(tmp_path, code), tmp_path / "jobs")
    status = base.wait(local, "deft-r1-baseline-train", tmp_path / "jobs", timeout_sec=HANG_SEC)
    assert (status.state, status.exit_code) == (JobState.ERROR, exit_code)


def test_a_command_that_does_not_exist_is_an_error_and_not_a_hang(local, tmp_path):
    job = JobRequest("deft-x", ("/no/such/command",), str(tmp_path), str(tmp_path / "x.log"))
    local.submit(job, tmp_path / "jobs")
    status = base.wait(local, "deft-x", tmp_path / "jobs", timeout_sec=HANG_SEC)
    assert (status.state, status.exit_code) == (JobState.ERROR, 127)
    assert "No such file" in status.detail


def test_submitting_a_running_or_finished_name_again_starts_nothing(local, tmp_path):
    code = f"open('starts', 'a').write('x'); {UNTIL_GO}"
    for _ in range(3):
        local.submit(request(tmp_path, code), tmp_path / "jobs")
    (tmp_path / "go").touch()
    base.wait(local, "deft-r1-baseline-train", tmp_path / "jobs", timeout_sec=HANG_SEC)
    before = {p: p.read_bytes() for p in (tmp_path / "jobs").iterdir()}
    local.submit(request(tmp_path, code), tmp_path / "jobs")
    assert {p: p.read_bytes() for p in (tmp_path / "jobs").iterdir()} == before
    assert (tmp_path / "starts").read_text() == "x"


def test_two_drivers_submitting_at_once_make_one_job(tmp_path):
    driver = f"""
        import sys; from pathlib import Path
        from deft_aoi.platforms.base import JobRequest, get_platform
        argv = ({PY!r}, "-c", "open('starts', 'a').write('x')")
        job = JobRequest("deft-race", argv, {str(tmp_path)!r}, {str(tmp_path / "l")!r})
        get_platform("local").submit(job, Path({str(tmp_path / "jobs")!r}))
    """
    environment = os.environ | {"PYTHONPATH": str(Path(base.__file__).parents[2])}
    drivers = [subprocess.Popen([PY, "-c", textwrap.dedent(driver)], env=environment) for _ in range(6)]
    assert [d.wait(60) for d in drivers] == [0] * 6
    base.wait(base.get_platform("local"), "deft-race", tmp_path / "jobs", timeout_sec=HANG_SEC)
    assert (tmp_path / "starts").read_text() == "x"


def test_another_command_under_a_known_name_is_refused(local, tmp_path):
    local.submit(request(tmp_path, "pass"), tmp_path / "jobs")
    with pytest.raises(HardStop, match="another argv"):
        local.submit(request(tmp_path, "print(1)"), tmp_path / "jobs")


def test_the_job_survives_a_killed_driver_and_is_found_again(local, tmp_path):
    code = f"{UNTIL_GO}; open('done', 'w').write('1')"
    driver = f"""
        import time; from pathlib import Path
        from deft_aoi.platforms.base import JobRequest, get_platform
        job = JobRequest("deft-kill", ({PY!r}, "-c", {code!r}), {str(tmp_path)!r}, {str(tmp_path / "k.log")!r})
        get_platform("local").submit(job, Path({str(tmp_path / "jobs")!r})); print("up", flush=True); time.sleep(60)
    """
    child = subprocess.Popen(
        [PY, "-c", textwrap.dedent(driver)],
        stdout=subprocess.PIPE,
        start_new_session=True,
        env=os.environ | {"PYTHONPATH": str(Path(base.__file__).parents[2])},
    )
    assert child.stdout.readline() == b"up\n"
    os.killpg(child.pid, signal.SIGKILL)
    child.wait()
    wait_until("the job's state", lambda: local.status("deft-kill", tmp_path / "jobs").state is JobState.RUNNING)
    (tmp_path / "go").touch()
    assert base.wait(local, "deft-kill", tmp_path / "jobs", timeout_sec=HANG_SEC).state is JobState.COMPLETE
    assert (tmp_path / "done").exists()


def test_cancel_ends_the_whole_process_group(local, tmp_path):
    code = """
        import subprocess, sys, time
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
        open("pids", "w").write(str(child.pid)); time.sleep(60)
    """
    local.submit(request(tmp_path, code), tmp_path / "jobs")
    wait_until("the job's state", lambda: (tmp_path / "pids").exists() and (tmp_path / "pids").read_text())
    local.cancel("deft-r1-baseline-train", tmp_path / "jobs")
    assert local.status("deft-r1-baseline-train", tmp_path / "jobs").state is JobState.CANCELED
    wait_until("the job's state", lambda: supervise.start_ticks(int((tmp_path / "pids").read_text())) is None)


def test_a_killed_supervisor_takes_its_job_along_and_is_reported(local, tmp_path):
    local.submit(request(tmp_path, "import time; time.sleep(60)"), tmp_path / "jobs")
    run = tmp_path / "jobs" / "deft-r1-baseline-train.run.json"
    wait_until("the job's state", lambda: json.loads(run.read_text())["child"])
    known = json.loads(run.read_text())
    os.kill(known["supervisor"]["pid"], signal.SIGKILL)
    wait_until("the job's state", lambda: not supervise.is_alive(known["child"]))
    status = local.status("deft-r1-baseline-train", tmp_path / "jobs")
    assert (status.state, status.exit_code) == (JobState.ERROR, None)


def test_a_pid_of_another_boot_is_not_the_job(tmp_path):
    me = supervise._identity(os.getpid())
    assert supervise.is_alive(me)
    assert not supervise.is_alive(me | {"boot_id": "another"})
    assert not supervise.is_alive(me | {"start_ticks": me["start_ticks"] - 1})


def test_the_time_limit_ends_the_job(local, tmp_path):
    local.submit(request(tmp_path, "import time; time.sleep(60)", time_limit_sec=1), tmp_path / "jobs")
    status = base.wait(local, "deft-r1-baseline-train", tmp_path / "jobs", timeout_sec=HANG_SEC)
    assert (status.state, status.detail) == (JobState.ERROR, "time limit")


def test_the_job_inherits_nothing_but_what_it_needs(local, tmp_path, monkeypatch):
    monkeypatch.setenv("NGC_API_KEY", "canary-0123456789")
    monkeypatch.setenv("NVIDIA_API_KEY", "canary-0123456789")
    monkeypatch.setenv("SOME_VARIABLE", "x")
    monkeypatch.setenv("OMPI_MCA_plm_rsh_agent", "/bin/true")
    monkeypatch.setenv("NCCL_NVLS_ENABLE", "0")
    job = request(tmp_path, "import os, json; json.dump(dict(os.environ), open('env', 'w'))", env={"OMP_NUM_THREADS": "1"})
    local.submit(job, tmp_path / "jobs")
    base.wait(local, job.name, tmp_path / "jobs", timeout_sec=HANG_SEC)
    seen = json.loads((tmp_path / "env").read_text())
    assert not {"NGC_API_KEY", "NVIDIA_API_KEY", "SOME_VARIABLE"} & set(seen)
    assert (seen["OMPI_MCA_plm_rsh_agent"], seen["NCCL_NVLS_ENABLE"]) == ("/bin/true", "0")  # how this host is set up
    assert (seen["OMP_NUM_THREADS"], seen["CUDA_VISIBLE_DEVICES"]) == ("1", "")
    assert seen["PYTHONPATH"].split(":")[-1] == str(Path(base.__file__).parents[2])


def test_a_secret_reaches_the_job_and_nothing_on_disk(local, tmp_path, monkeypatch):
    canary = "canary-5c1d9e77aa"
    monkeypatch.setenv("HF_TOKEN", canary)
    code = "import os; t = os.environ['HF_TOKEN']; print('token', t); print(len(t)); raise ValueError(t)"
    job = request(tmp_path, code, secret_names=("HF_TOKEN",))
    local.submit(job, tmp_path / "jobs")
    base.wait(local, job.name, tmp_path / "jobs", timeout_sec=HANG_SEC)
    assert str(len(canary)) in log_tail(job.log_path)
    found = [p for p in tmp_path.rglob("*") if p.is_file() and canary.encode() in p.read_bytes()]
    assert found == []
    assert "[redacted]" in log_tail(job.log_path)


def test_an_absent_secret_is_blocked_before_anything_is_recorded(local, tmp_path, monkeypatch):
    monkeypatch.delenv("HF_TOKEN", raising=False)
    with pytest.raises(Blocked, match="HF_TOKEN"):
        local.submit(request(tmp_path, "pass", secret_names=("HF_TOKEN",)), tmp_path / "jobs")
    assert not list((tmp_path / "jobs").glob("*.json")) if (tmp_path / "jobs").exists() else True


def test_a_record_without_a_start_is_started_on_resume(local, tmp_path):
    job = request(tmp_path, "open('starts', 'a').write('x')")
    (tmp_path / "jobs").mkdir()
    base.write_record(job, tmp_path / "jobs", "local")  # killed between the record and the launch
    assert local.status(job.name, tmp_path / "jobs").state is JobState.UNKNOWN
    local.submit(job, tmp_path / "jobs")
    base.wait(local, job.name, tmp_path / "jobs", timeout_sec=HANG_SEC)
    assert (tmp_path / "starts").read_text() == "x"
