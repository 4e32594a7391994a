"""The SLURM platform on a real one-node cluster, with a real training."""

from __future__ import annotations

import os
import signal
import sys
import time

import pytest

from deft_aoi import engines
from deft_aoi.contract.errors import Blocked
from deft_aoi.engines import success
from deft_aoi.platforms import base
from deft_aoi.platforms.base import JobState
from deft_aoi.platforms.job_files import log_tail

pytestmark = pytest.mark.integration


@pytest.fixture
def place(deeppcb_tiny):
    from training_job import Place

    made = Place(deeppcb_tiny, uid=os.getuid())
    yield made
    made.remove()


@pytest.fixture
def slurm(slurm_cluster, monkeypatch):
    for key, value in slurm_cluster.environment.items():
        monkeypatch.setenv(key, value)
    return base.get_platform("slurm", {})


def training(place) -> tuple[str, ...]:
    return engines.command(
        "embedded", "visual_changenet", "train", place.spec, (f"results_dir={place.out}", f"train.results_dir={place.out}")
    )


def python(code: str) -> tuple[str, ...]:
    return (sys.executable, "-c", code)


def submit(slurm, place, name, argv, **more):
    from training_job import as_request

    request = as_request(place.request(name, argv, **more))
    slurm.submit(request, place.jobs)
    return request


def until(slurm, place, name, state, seconds=60):
    end = time.monotonic() + seconds
    while (status := slurm.status(name, place.jobs)).state is not state:
        assert time.monotonic() < end, status
        time.sleep(0.3)
    return status


def test_a_driver_is_killed_mid_training_and_the_next_one_finds_the_job(slurm, slurm_cluster, place):
    from training_job import driver, last_status

    request = place.request("deft-s1-baseline-train", training(place))
    first = driver("slurm", {}, request, place.jobs, uid=None, environment=slurm_cluster.environment)
    assert first.stdout.readline() == "submitted\n", first.stdout.read()
    until(slurm, place, request["name"], JobState.RUNNING)
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    second = driver("slurm", {}, request, place.jobs, uid=None, environment=slurm_cluster.environment)
    state, exit_code, detail, started = last_status(second)
    assert (state, exit_code) == ("COMPLETE", 0), (detail, log_tail(request["log_path"]))
    evidence = success.check("train", place.out, exit_code=exit_code, log_path=place.out / "train.log", launched_ns=started)
    assert len(evidence.outputs) == 2
    messages = [line["message"] for line in success.read_status(place.out / "status.json")]
    assert messages.count("Starting Visual ChangeNet train.") == 1


def test_the_scheduler_s_own_command_is_used_once_even_when_the_driver_died_before_it_knew_the_id(slurm, place):
    code = "import time; open('starts', 'a').write('x'); time.sleep(3)"
    request = submit(slurm, place, "deft-s1-lost-id", python(code))
    known = base.read_record(request.name, place.jobs)["handle"]["job_id"]
    base.write_record(request, place.jobs, "slurm", job_id=None)  # as if killed between sbatch and the record
    slurm.submit(request, place.jobs)
    assert base.read_record(request.name, place.jobs)["handle"]["job_id"] == known
    assert until(slurm, place, request.name, JobState.COMPLETE).exit_code == 0
    assert (place.out / "starts").read_text() == "x"


def test_two_submissions_of_one_name_run_one_command(slurm, slurm_cluster, place):
    code = "import time; open('starts', 'a').write('x'); time.sleep(1)"
    request = submit(slurm, place, "deft-s1-twice", python(code))
    slurm_cluster.run("sbatch", str(place.jobs / "deft-s1-twice.sbatch"))  # a second one that nobody recorded
    assert until(slurm, place, request.name, JobState.COMPLETE).exit_code == 0
    end = time.monotonic() + 30
    while slurm_cluster.run("squeue", "-h").strip() and time.monotonic() < end:
        time.sleep(0.3)
    assert (place.out / "starts").read_text() == "x"


def test_cancel_reaches_the_job(slurm, place):
    request = submit(slurm, place, "deft-s1-cancel", python("import time; time.sleep(300)"))
    until(slurm, place, request.name, JobState.RUNNING)
    slurm.cancel(request.name, place.jobs)
    assert slurm.status(request.name, place.jobs).state is JobState.CANCELED


def test_a_requeued_job_starts_again_under_its_own_claim_and_ends_well(slurm, slurm_cluster, place):
    code = (
        "import os, time; open('starts', 'a').write('x')\n"
        "if len(open('starts').read()) == 1: time.sleep(300)\n"
        "print('restart', os.environ['SLURM_RESTART_COUNT'])"
    )
    request = submit(slurm, place, "deft-s1-requeue", python(code))
    until(slurm, place, request.name, JobState.RUNNING)
    end = time.monotonic() + 30
    while not (place.out / "starts").exists() and time.monotonic() < end:
        time.sleep(0.1)
    job_id = base.read_record(request.name, place.jobs)["handle"]["job_id"]
    slurm_cluster.run("scontrol", "requeue", job_id)
    until(slurm, place, request.name, JobState.PENDING, 30)
    assert until(slurm, place, request.name, JobState.COMPLETE, 120).exit_code == 0
    assert "restart 1" in log_tail(request.log_path)
    assert (place.out / "starts").read_text() == "xx"


def test_a_failed_job_keeps_its_exit_code(slurm, place):
    request = submit(slurm, place, "deft-s1-seven", python("raise SystemExit(7)"))
    assert until(slurm, place, request.name, JobState.ERROR).exit_code == 7


def test_the_job_gets_the_gpus_that_it_asked_for(slurm, place):
    code = "import os; print('gpus', os.environ.get('CUDA_VISIBLE_DEVICES'))"
    two = submit(slurm, place, "deft-s1-two", python(code), gpus=2)
    until(slurm, place, two.name, JobState.COMPLETE)
    assert "gpus 0,1" in log_tail(two.log_path)
    (place.out / "train.log").unlink()
    none = submit(slurm, place, "deft-s1-none", python(code))
    until(slurm, place, none.name, JobState.COMPLETE)
    assert log_tail(none.log_path).split() == ["gpus"]


def test_more_gpus_than_the_cluster_has_are_refused_and_leave_the_name_free(slurm, place):
    with pytest.raises(Blocked, match="sbatch failed"):
        submit(slurm, place, "deft-s1-many", python("pass"), gpus=64)
    assert slurm.status("deft-s1-many", place.jobs).state is JobState.UNKNOWN
    submit(slurm, place, "deft-s1-many", python("pass"))
    until(slurm, place, "deft-s1-many", JobState.COMPLETE)


def test_a_secret_goes_by_name(slurm, slurm_cluster, place, monkeypatch):
    canary = "hf_canary0123456789abcdefXYZ"
    monkeypatch.setenv("HF_TOKEN", canary)
    monkeypatch.setenv("NGC_API_KEY", canary)
    code = "import os; print('token', len(os.environ['HF_TOKEN']), 'NGC_API_KEY' in os.environ)"
    request = submit(slurm, place, "deft-s1-secret", python(code), secret_names=("HF_TOKEN",))
    until(slurm, place, request.name, JobState.COMPLETE)
    assert log_tail(request.log_path).split() == ["token", str(len(canary)), "False"]
    job_id = base.read_record(request.name, place.jobs)["handle"]["job_id"]
    assert canary not in slurm_cluster.run("scontrol", "show", "job", job_id)
    assert not [p for p in place.root.rglob("*") if p.is_file() and canary.encode() in p.read_bytes()]


def test_the_probe_describes_the_cluster_and_names_a_missing_pyxis(slurm):
    found = base.probe("slurm", {"image": "x:1"})
    assert [f.level for f in found] == ["ok", "missing"]
    assert "gpu:2" in found[0].text
    assert "Pyxis" in found[1].text
