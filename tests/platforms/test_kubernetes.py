"""Kubernetes objects, checked against the API's own models; no cluster was at hand where this was written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from deft_aoi.contract.errors import Blocked, HardStop
from deft_aoi.platforms import base
from deft_aoi.platforms.base import JobRequest
from deft_aoi.platforms.kubernetes_manifest import render

k8s = pytest.importorskip("kubernetes.client")

OPTIONS = {"claim": "pcb-data", "claim_root": "/mnt/pcb", "secret": "deft", "pull_secret": "ngc", "user": "1000:1000"}
IMAGE = "nvcr.io/nvidia/tao/tao-toolkit:7.1.0-pyt"
DIGEST = "sha256:" + "0" * 64


def job(**more) -> JobRequest:
    values = {
        "name": "deft-r1-iter1-train",
        "argv": ("visual_changenet", "train", "-e", "/mnt/pcb/ws/spec.yaml"),
        "cwd": "/mnt/pcb/ws/out",
        "log_path": "/mnt/pcb/ws/out/train.log",
        "image": IMAGE,
        "read_only": (Path("/mnt/pcb/ws"),),
        "writable": (Path("/mnt/pcb/ws/out"),),
        "gpus": 2,
    }
    return JobRequest(**{**values, **more})


class _Response:
    def __init__(self, value) -> None:
        self.data = json.dumps(value)


def through_the_api(manifest: dict, kind: str) -> dict:
    """Read the manifest as the API's model and write it back: a key that the API does not know would be lost."""
    api = k8s.ApiClient()
    try:
        model = api.deserialize(_Response(manifest).data, kind, "application/json")
    except TypeError:  # clients before 32 take the response itself
        model = api.deserialize(_Response(manifest), kind)
    return api.sanitize_for_serialization(model)


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"gpus": 0},
        {"time_limit_sec": 3600},
        {"secret_names": ("HF_TOKEN",)},
        {"image_digest": DIGEST},
        {"nodes": 3},
        {"env": {"OMP_NUM_THREADS": "1"}},
    ],
)
def test_every_manifest_is_one_that_the_api_knows_to_the_last_key(more):
    *services, manifest = render(job(**more), OPTIONS)
    assert through_the_api(manifest, "V1Job") == manifest
    for service in services:
        assert through_the_api(service, "V1Service") == service


def test_the_check_notices_a_key_that_the_api_does_not_know():
    (manifest,) = render(job(), OPTIONS)
    manifest["spec"]["template"]["spec"]["containers"][0]["imagePullPolice"] = "Never"
    assert through_the_api(manifest, "V1Job") != manifest


def test_a_workspace_at_the_top_of_the_claim_needs_no_sub_path():
    (manifest,) = render(job(read_only=(Path("/mnt/pcb"),)), OPTIONS)
    assert "subPath" not in manifest["spec"]["template"]["spec"]["containers"][0]["volumeMounts"][0]


def test_a_single_node_job_has_no_privilege_no_token_and_no_retry():
    (manifest,) = render(job(), OPTIONS)
    pod = manifest["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert manifest["spec"]["backoffLimit"] == 0
    assert manifest["spec"]["ttlSecondsAfterFinished"] > 24 * 3600
    assert (pod["restartPolicy"], pod["automountServiceAccountToken"]) == ("Never", False)
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "privileged": False,
        "capabilities": {"drop": ["ALL"]},
    }
    assert pod["securityContext"]["runAsUser"] == 1000
    text = json.dumps(manifest)
    for word in ("hostPath", "hostNetwork", "hostPID", "hostIPC"):
        assert word not in text


def test_inputs_are_read_only_and_the_job_s_folder_lies_on_top():
    (manifest,) = render(job(), OPTIONS)
    mounts = manifest["spec"]["template"]["spec"]["containers"][0]["volumeMounts"]
    assert mounts[:2] == [
        {"name": "workspace", "mountPath": "/mnt/pcb/ws", "subPath": "ws", "readOnly": True},
        {"name": "workspace", "mountPath": "/mnt/pcb/ws/out", "subPath": "ws/out", "readOnly": False},
    ]


def test_several_nodes_are_an_indexed_job_with_tao_s_variables():
    service, manifest = render(job(nodes=3), OPTIONS)
    spec = manifest["spec"]
    assert (spec["completionMode"], spec["completions"], spec["parallelism"]) == ("Indexed", 3, 3)
    assert service["spec"]["clusterIP"] == "None"
    env = {e["name"]: e.get("value") for e in manifest["spec"]["template"]["spec"]["containers"][0]["env"]}
    assert (env["WORLD_SIZE"], env["NUM_GPU_PER_NODE"]) == ("3", "2")
    assert env["MASTER_ADDR"] == "deft-r1-iter1-train-0.deft-r1-iter1-train"
    assert 1024 <= int(env["MASTER_PORT"]) <= 65535


def test_a_secret_is_a_reference_and_its_value_is_nowhere(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_canary0123456789abcdef")
    (manifest,) = render(job(secret_names=("HF_TOKEN",)), OPTIONS)
    env = manifest["spec"]["template"]["spec"]["containers"][0]["env"]
    assert {"name": "HF_TOKEN", "valueFrom": {"secretKeyRef": {"name": "deft", "key": "HF_TOKEN"}}} in env
    assert "canary" not in json.dumps(manifest)


def test_the_approved_digest_is_what_the_node_pulls():
    (manifest,) = render(job(image_digest=DIGEST), OPTIONS)
    assert manifest["spec"]["template"]["spec"]["containers"][0]["image"].endswith(f":7.1.0-pyt@{DIGEST}")


def test_what_is_missing_is_named_with_its_option():
    with pytest.raises(Blocked, match="volume claim"):
        render(job(), {})
    with pytest.raises(Blocked, match="HF_TOKEN"):
        render(job(secret_names=("HF_TOKEN",)), {"claim": "c", "claim_root": "/mnt/pcb"})
    with pytest.raises(HardStop, match="outside the volume claim"):
        render(job(read_only=(Path("/home/x"),)), OPTIONS)
    with pytest.raises(Blocked, match="image"):
        render(job(image=None), OPTIONS)


def test_without_a_cluster_the_probe_says_so(tmp_path):
    (finding,) = base.probe("kubernetes", {"kubeconfig": str(tmp_path / "none")})
    assert finding.level == "missing"
    assert finding.fix


def status_of(kind: str, reason: str | None):
    condition = k8s.V1JobCondition(type=kind, status="True", reason=reason)
    return k8s.V1Job(status=k8s.V1JobStatus(conditions=[condition] if kind else None))


def test_conditions_and_exit_codes_are_translated():
    from deft_aoi.platforms.kubernetes import finished_reason, how_it_ended

    assert finished_reason(status_of("", None)) is None
    assert finished_reason(status_of("Complete", None)) == ""
    assert finished_reason(status_of("Failed", "DeadlineExceeded")) == "time limit"
    assert finished_reason(status_of("Failed", "BackoffLimitExceeded")) == "BackoffLimitExceeded"
    ended = k8s.V1ContainerState(terminated=k8s.V1ContainerStateTerminated(exit_code=7))
    pod = k8s.V1Pod(
        status=k8s.V1PodStatus(
            container_statuses=[
                k8s.V1ContainerStatus(name="job", image="x", image_id="x", ready=False, restart_count=0, state=ended)
            ]
        )
    )
    assert how_it_ended([pod], "BackoffLimitExceeded") == (7, "BackoffLimitExceeded")
    assert how_it_ended([], "") == (0, "")
    assert how_it_ended([], "failed") == (None, "failed")
