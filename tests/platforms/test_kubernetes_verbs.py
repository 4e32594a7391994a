"""The four verbs through the real `kubernetes` client, against an API server on the loopback that speaks real HTTP."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from deft_aoi.contract.errors import Blocked, HardStop
from deft_aoi.platforms import base
from deft_aoi.platforms.base import JobRequest, JobState
from deft_aoi.platforms.job_files import log_tail

from .fake_cluster import FakeCluster

pytest.importorskip("kubernetes.client")
NAME = "deft-r1-iter1-train"


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    for variable in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(variable, raising=False)
    server = FakeCluster(tmp_path)
    yield server
    server.stop()


@pytest.fixture
def options(cluster, tmp_path) -> dict[str, str]:
    (tmp_path / "claim/ws/out").mkdir(parents=True)
    return {
        "kubeconfig": str(cluster.kubeconfig),
        "claim": "pcb",
        "claim_root": str(tmp_path / "claim"),
        "user": "1000:1000",
        "secret": "deft",
    }


@pytest.fixture
def job(tmp_path, options) -> JobRequest:
    ws = tmp_path / "claim/ws"
    return JobRequest(
        NAME,
        ("visual_changenet", "train", "-e", f"{ws}/spec.yaml"),
        str(ws / "out"),
        str(ws / "out/train.log"),
        image="nvcr.io/nvidia/tao/tao-toolkit:7.1.0-pyt",
        gpus=1,
        read_only=(ws,),
        writable=(ws / "out",),
    )


@pytest.fixture
def jobs(tmp_path) -> Path:
    return tmp_path / "jobs"


def driver(options):
    """A platform as a new driver opens it: nothing is remembered."""
    return base.get_platform("kubernetes", options)


def test_a_job_from_submission_to_its_end(cluster, options, job, jobs):
    k8s = driver(options)
    assert k8s.status(NAME, jobs).state is JobState.UNKNOWN
    k8s.submit(job, jobs)
    assert cluster.objects["jobs"][NAME]["spec"]["template"]["spec"]["containers"][0]["command"] == list(job.argv)
    assert k8s.status(NAME, jobs).state is JobState.PENDING
    cluster.pod(NAME, waiting="ImagePullBackOff")
    assert (k8s.status(NAME, jobs).state, k8s.status(NAME, jobs).detail) == (JobState.PENDING, "ImagePullBackOff")
    pod = cluster.pod(NAME, phase="Running")
    cluster.logs[pod] = "epoch 1\n"
    assert k8s.status(NAME, jobs).state is JobState.RUNNING
    cluster.logs[pod] = "epoch 1\nepoch 2\n"
    cluster.end(NAME)
    status = k8s.status(NAME, jobs)
    assert (status.state, status.exit_code) == (JobState.COMPLETE, 0)
    assert Path(job.log_path).read_text() == "epoch 1\nepoch 2\n"


@pytest.mark.parametrize(
    ("reason", "code", "exit_code", "detail"),
    [("BackoffLimitExceeded", 1, 1, "BackoffLimitExceeded"), ("DeadlineExceeded", 137, 137, "time limit")],
)
def test_a_failed_job_tells_its_exit_code_and_why(cluster, options, job, jobs, reason, code, exit_code, detail):
    k8s = driver(options)
    k8s.submit(job, jobs)
    cluster.end(NAME, "Failed", reason, code)
    cluster.logs[f"{NAME}-0-abcde"] = "RuntimeError: CUDA out of memory\n"
    status = k8s.status(NAME, jobs)
    assert (status.state, status.exit_code, status.detail) == (JobState.ERROR, exit_code, detail)
    assert "out of memory" in log_tail(job.log_path)


def test_a_new_driver_finds_the_job_running_or_gone_and_never_starts_a_second(cluster, options, job, jobs):
    driver(options).submit(job, jobs)
    cluster.pod(NAME, phase="Running")
    again = driver(options)
    assert again.status(NAME, jobs).state is JobState.RUNNING
    again.submit(job, jobs)
    assert len(cluster.creations()) == 1
    cluster.end(NAME)
    assert driver(options).status(NAME, jobs).state is JobState.COMPLETE
    del cluster.objects["jobs"][NAME]  # its time to live is over; what it came to is on disk
    last = driver(options)
    assert last.status(NAME, jobs).state is JobState.COMPLETE
    last.submit(job, jobs)
    assert len(cluster.creations()) == 1


def test_a_driver_that_died_between_record_and_creation_starts_it_and_one_that_died_after_adopts_it(cluster, options, job, jobs):
    jobs.mkdir()
    base.write_record(job, jobs, "kubernetes", namespace="default")
    assert driver(options).status(NAME, jobs).state is JobState.UNKNOWN
    driver(options).submit(job, jobs)
    assert len(cluster.objects["jobs"]) == 1
    base.record_path(NAME, jobs).unlink()  # as if it had died with nothing on disk: the cluster itself refuses the name
    driver(options).submit(job, jobs)
    assert len(cluster.creations()) == 2
    assert len(cluster.objects["jobs"]) == 1


def test_two_drivers_at_once_make_one_job(cluster, options, job, jobs):
    threads = [threading.Thread(target=lambda: driver(options).submit(job, jobs)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(cluster.creations()) == 1


def test_cancel_deletes_the_job_and_keeps_its_log(cluster, options, job, jobs):
    k8s = driver(options)
    k8s.submit(job, jobs)
    cluster.logs[cluster.pod(NAME, phase="Running")] = "epoch 1\n"
    k8s.cancel(NAME, jobs)
    assert cluster.objects["jobs"] == {}
    assert k8s.status(NAME, jobs).state is JobState.CANCELED
    assert log_tail(job.log_path) == "epoch 1"
    k8s.cancel(NAME, jobs)  # no effect on a finished one
    assert len([r for r in cluster.requests if r.startswith("DELETE")]) == 1


@pytest.mark.parametrize(
    ("pod", "detail"),
    [
        (
            {"reason": "Evicted", "message": "The node was low on resource: memory."},
            "Evicted: The node was low on resource: memory.",
        ),
        ({"reason": "NodeLost"}, "NodeLost"),
        (
            {"conditions": [{"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler"}]},
            "PreemptionByScheduler",
        ),
    ],
)
def test_a_pod_that_the_cluster_took_away_is_lost_and_says_why(cluster, options, job, jobs, pod, detail):
    driver(options).submit(job, jobs)
    cluster.end(NAME, "Failed", "BackoffLimitExceeded", 137, pod)
    status = driver(options).status(NAME, jobs)
    assert (status.state, status.exit_code, status.detail) == (JobState.ERROR, None, detail)


def test_a_container_that_ran_out_of_memory_says_so(cluster, options, job, jobs):
    driver(options).submit(job, jobs)
    cluster.end(NAME, "Failed", "BackoffLimitExceeded", 137)
    cluster.objects["pods"][f"{NAME}-0-abcde"]["status"]["containerStatuses"][0]["state"]["terminated"]["reason"] = "OOMKilled"
    status = driver(options).status(NAME, jobs)
    assert (status.exit_code, status.detail) == (137, "the container's memory ran out")


@pytest.mark.parametrize("ended", [True, False])
def test_a_job_that_somebody_removed_is_lost_and_never_started_again_unasked(cluster, options, job, jobs, ended):
    driver(options).submit(job, jobs)
    if ended:
        cluster.end(NAME)
    for kind in ("jobs", "pods"):
        cluster.objects[kind].clear()
    again = driver(options)
    status = again.status(NAME, jobs)
    assert (status.state, status.exit_code) == (JobState.ERROR, None)
    assert "removed from the cluster" in status.detail
    again.submit(job, jobs)
    assert len(cluster.creations()) == 1


def test_why_a_pod_waits_is_said_in_the_clusters_words(cluster, options, job, jobs):
    k8s = driver(options)
    k8s.submit(job, jobs)
    assert k8s.status(NAME, jobs).detail == "no pod yet"
    unschedulable = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes have a GPU free"}
    cluster.pod(NAME, conditions=[unschedulable])
    assert k8s.status(NAME, jobs).detail == "Unschedulable: 0/3 nodes have a GPU free"


def test_a_log_of_any_bytes_does_not_end_a_finished_job(cluster, options, job, jobs):
    driver(options).submit(job, jobs)
    cluster.end(NAME)
    cluster.logs[f"{NAME}-0-abcde"] = b"epoch 1 \xe2\x96\n\xff done\n"
    assert driver(options).status(NAME, jobs).state is JobState.COMPLETE
    assert log_tail(job.log_path).endswith("\ufffd done")


def test_a_job_of_that_name_that_is_not_ours_is_left_alone(cluster, options, job, jobs):
    jobs.mkdir()
    base.write_record(job, jobs, "kubernetes", namespace="default")
    template = {"spec": {"containers": [{"name": "theirs"}]}}
    cluster.objects["jobs"][NAME] = {"metadata": {"name": NAME, "labels": {}}, "spec": {"template": template}, "status": {}}
    with pytest.raises(HardStop, match="another program made"):
        driver(options).status(NAME, jobs)


def test_what_the_cluster_refuses_is_said_with_its_words(cluster, options, job, jobs):
    cluster.refuse = 403
    with pytest.raises(Blocked, match="refused") as caught:
        driver(options).submit(job, jobs)
    assert "exceeded quota" in caught.value.found
    cluster.refuse = None
    driver(options).submit(job, jobs)
    assert list(cluster.objects["jobs"]) == [NAME]


def test_a_cluster_that_does_not_answer_is_unknown_not_an_end(cluster, options, job, jobs):
    k8s = driver(options)
    k8s.submit(job, jobs)
    cluster.stop()
    assert driver(options).status(NAME, jobs).state is JobState.UNKNOWN


def test_several_nodes_get_a_service_and_are_all_deleted(cluster, options, job, jobs):
    k8s = driver(options)
    k8s.submit(JobRequest(**{**job.__dict__, "nodes": 2}), jobs)
    assert list(cluster.objects["services"]) == [NAME]
    cluster.pod(NAME, phase="Running")
    cluster.pod(NAME, phase="Running", index=1)
    k8s.cancel(NAME, jobs)
    assert cluster.objects["services"] == {}


def test_the_secret_s_value_is_sent_to_nobody_and_masked_in_the_log(cluster, options, job, jobs, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_canary0123456789abcdef")
    k8s = driver(options)
    k8s.submit(JobRequest(**{**job.__dict__, "secret_names": ("HF_TOKEN",)}), jobs)
    assert "canary" not in str(cluster.objects)
    cluster.logs[cluster.pod(NAME, phase="Running")] = "token hf_canary0123456789abcdef\n"
    assert "canary" not in log_tail(job.log_path)


def test_the_probe_asks_for_version_and_claim(cluster, options):
    found = base.probe("kubernetes", options)
    assert [f.level for f in found] == ["ok", "missing"]  # the claim does not exist
    assert "pcb" in found[-1].text
    cluster.objects["persistentvolumeclaims"]["pcb"] = {"metadata": {"name": "pcb"}, "spec": {}, "status": {}}
    found = base.probe("kubernetes", options)
    assert [f.level for f in found] == ["ok", "ok"]
    assert "v1.31.0" in found[0].text
