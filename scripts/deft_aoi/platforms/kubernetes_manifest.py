"""The Kubernetes objects of one job, as plain data: a Job, and a headless Service where several pods must find each other."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from deft_aoi.contract.errors import Blocked, HardStop
from deft_aoi.contract.text import quoted
from deft_aoi.platforms.base import JobRequest

# claim: PersistentVolumeClaim that holds the workspace. claim_root: the folder that the claim's top is here, and in the pod.
# secret: Secret with the named credentials as keys. pull_secret: for the registry. gpu_resource: as the device plugin calls it.
OPTIONS_IN_MANIFEST = (
    "namespace",
    "claim",
    "claim_root",
    "secret",
    "pull_secret",
    "service_account",
    "gpu_resource",
    "user",
    "node_selector",
    "cpus",
    "mem_gib",
)

NAME_LABEL = "deft-aoi/job"
_KEEP_SEC = 7 * 24 * 3600  # a finished Job stays this long for a driver that comes back; then the cluster removes it
_MASTER_PORT = 29500
_INDEX = "batch.kubernetes.io/job-completion-index"


def render(request: JobRequest, options: Mapping[str, str]) -> list[dict[str, Any]]:
    """The manifests, the Job last.

    Raises:
        Blocked: no image, no claim, or secrets without the name of a Secret.
        HardStop: a path of the job lies outside the claim.
    """
    if not request.image:
        raise Blocked("a Kubernetes job needs an image", hint="--platform-option image=…")
    if not options.get("claim") or not options.get("claim_root"):
        raise Blocked(
            "a Kubernetes job needs the volume claim that holds the workspace",
            hint="--platform-option claim=NAME --platform-option claim_root=/folder/where/it/is/mounted/here",
        )
    if request.secret_names and not options.get("secret"):
        raise Blocked(f"the job needs {', '.join(request.secret_names)} from a Secret", hint="--platform-option secret=NAME")
    labels = {NAME_LABEL: request.name}
    job_spec: dict[str, Any] = {
        "backoffLimit": 0,
        "ttlSecondsAfterFinished": _KEEP_SEC,
        "template": {"metadata": {"labels": labels}, "spec": _pod(request, options)},
    }
    if request.time_limit_sec:
        job_spec["activeDeadlineSeconds"] = request.time_limit_sec
    manifests: list[dict[str, Any]] = []
    if request.nodes > 1:
        job_spec |= {"completions": request.nodes, "parallelism": request.nodes, "completionMode": "Indexed"}
        manifests.append(
            {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": {"name": request.name, "labels": labels},
                "spec": {"clusterIP": "None", "selector": labels, "publishNotReadyAddresses": True},
            }
        )
    manifests.append(
        {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": request.name, "labels": labels}, "spec": job_spec}
    )
    return manifests


def _pod(request: JobRequest, options: Mapping[str, str]) -> dict[str, Any]:
    uid, gid = _user(options)
    pod: dict[str, Any] = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": {"runAsUser": uid, "runAsGroup": gid, "fsGroup": gid, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [_container(request, options)],
        "volumes": [
            {"name": "workspace", "persistentVolumeClaim": {"claimName": options["claim"]}},
            {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": f"{request.shm_gib}Gi"}},
            {"name": "tmp", "emptyDir": {}},
        ],
    }
    if request.nodes > 1:
        pod["subdomain"] = request.name
    if options.get("pull_secret"):
        pod["imagePullSecrets"] = [{"name": options["pull_secret"]}]
    if options.get("service_account"):
        pod["serviceAccountName"] = options["service_account"]
    if options.get("node_selector"):
        key, _, value = options["node_selector"].partition("=")
        pod["nodeSelector"] = {key: value}
    return pod


def _container(request: JobRequest, options: Mapping[str, str]) -> dict[str, Any]:
    image = request.image or ""
    if request.image_digest and "@" not in image:
        image = f"{image}@{request.image_digest}"  # the node pulls exactly the approved content
    home = {"HOME": "/tmp", "USER": "deft", "LOGNAME": "deft"}  # nosec B108 - the container's own /tmp
    env: list[dict[str, Any]] = [{"name": k, "value": v} for k, v in (home | dict(request.env)).items()]
    env += [{"name": n, "valueFrom": {"secretKeyRef": {"name": options["secret"], "key": n}}} for n in request.secret_names]
    if request.nodes > 1:
        env += [
            {"name": "WORLD_SIZE", "value": str(request.nodes)},
            {"name": "NUM_GPU_PER_NODE", "value": str(request.gpu_count)},
            {"name": "NODE_RANK", "valueFrom": {"fieldRef": {"fieldPath": f"metadata.annotations['{_INDEX}']"}}},
            {"name": "MASTER_ADDR", "value": f"{request.name}-0.{request.name}"},
            {"name": "MASTER_PORT", "value": str(_MASTER_PORT)},
        ]
    scratch = [{"name": "shm", "mountPath": "/dev/shm"}, {"name": "tmp", "mountPath": "/tmp"}]  # nosec B108 - the container's own /tmp
    limits: dict[str, str] = {}
    if request.gpu_count:
        limits[options.get("gpu_resource", "nvidia.com/gpu")] = str(request.gpu_count)
    if options.get("cpus"):
        limits["cpu"] = options["cpus"]
    if options.get("mem_gib"):
        limits["memory"] = f"{options['mem_gib']}Gi"
    return {
        "name": "job",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": list(request.argv),
        "workingDir": str(request.cwd),
        "env": env,
        "resources": {"limits": limits} if limits else {},
        "securityContext": {"allowPrivilegeEscalation": False, "privileged": False, "capabilities": {"drop": ["ALL"]}},
        "volumeMounts": [*_mounts(request, options), *scratch],
    }


def _mounts(request: JobRequest, options: Mapping[str, str]) -> list[dict[str, Any]]:
    wanted = {str(p): True for p in request.read_only} | {str(p): False for p in request.writable}
    mounts = []
    for path, read_only in sorted(wanted.items(), key=lambda item: len(item[0])):
        inside = _sub_path(path, options["claim_root"])
        sub_path = {"subPath": inside} if inside != "." else {}
        mounts.append({"name": "workspace", "mountPath": path, "readOnly": read_only, **sub_path})
    return mounts


def _sub_path(path: str, root: str) -> str:
    try:
        return PurePosixPath(path).relative_to(root).as_posix()
    except ValueError as error:
        raise HardStop(
            "a folder of the job lies outside the volume claim",
            expected=f"below {root}",
            found=quoted(path, 200),
            hint="put the workspace on the claim's file system",
        ) from error


def _user(options: Mapping[str, str]) -> tuple[int, int]:
    if "user" not in options:
        return os.getuid(), os.getgid()
    uid, _, gid = options["user"].partition(":")
    if not (uid.isdigit() and gid.isdigit()):
        raise HardStop("the kubernetes option user is malformed", expected="UID:GID", found=quoted(options["user"]))
    return int(uid), int(gid)


def claim_is_here(options: Mapping[str, str]) -> bool:
    """Whether the claim's file system is mounted on this machine too (the driver reads the outputs there)."""
    return Path(options.get("claim_root", "/nonexistent")).is_dir()
