"""The Kubernetes platform: one Job (Indexed for several nodes), through the ``kubernetes`` client.

The workspace lies on a volume claim that is mounted on the driver's machine as well, under the same path: nothing is
copied. Secrets are named, never sent. The Job carries the deterministic name, so a second submission of it is refused by
the cluster itself; it is kept for a week after its end for a driver that comes back.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from deft_aoi.contract import files
from deft_aoi.contract.errors import Blocked, HardStop, JobFailed
from deft_aoi.contract.text import printable
from deft_aoi.platforms import base
from deft_aoi.platforms.base import JobRequest, JobState, JobStatus
from deft_aoi.platforms.job_files import ended_status, read_job_file, write_end
from deft_aoi.platforms.kubernetes_cluster import connect, probe
from deft_aoi.platforms.kubernetes_manifest import NAME_LABEL, OPTIONS_IN_MANIFEST, render
from deft_aoi.platforms.redact import redact

__all__ = ["OPTIONS", "PLATFORM", "KubernetesPlatform", "probe"]

OPTIONS = ("context", "kubeconfig", "image", "embedding_image", "tao_python", *OPTIONS_IN_MANIFEST)
_TIMEOUT_SEC = 60


class KubernetesPlatform:
    """Runs jobs as Kubernetes Jobs.

    Options: ``context`` and ``kubeconfig`` (as `kubectl` takes them), and those of the manifest (see
    :mod:`deft_aoi.platforms.kubernetes_manifest`).
    """

    name = "kubernetes"
    uses_this_machines_gpus = False

    def __init__(self, options: Mapping[str, str]) -> None:
        """Keep the options; the cluster is reached on first use."""
        self._options = dict(options)
        self._space = options.get("namespace", "default")
        self._api: Any = None

    def submit(self, request: JobRequest, record_dir: Path) -> None:
        """Create the Job unless one of that name exists.

        Raises:
            HardStop: the name belongs to another command, or a folder lies outside the claim.
            Blocked: the cluster cannot be reached or refuses the Job.
        """
        import kubernetes.client as k8s

        manifests = render(request, self._options)
        with base.name_lock(request.name, record_dir), self._translate():
            record = base.read_record(request.name, record_dir)
            if record is not None:
                base.check_same_request(record, request, self.name)
                if _created(request.name, record_dir).exists() or self._job(request.name) is not None:
                    return
            base.write_record(request, record_dir, self.name, namespace=self._space)
            api = self._client()
            for manifest in manifests:
                try:
                    if manifest["kind"] == "Service":
                        k8s.CoreV1Api(api).create_namespaced_service(self._space, manifest, _request_timeout=_TIMEOUT_SEC)
                    else:
                        k8s.BatchV1Api(api).create_namespaced_job(self._space, manifest, _request_timeout=_TIMEOUT_SEC)
                except k8s.ApiException as error:
                    if error.status != 409:  # 409: it exists, from a driver that died right after creating it
                        raise
            files.atomic_write_text(_created(request.name, record_dir), "")

    def status(self, name: str, record_dir: Path) -> JobStatus:
        """Translate the Job's conditions; at its end keep the exit code and the log."""
        started, record = base.launched_ns(name, record_dir), base.read_record(name, record_dir)
        if record is None:
            return JobStatus(JobState.UNKNOWN, detail="no such job")
        outcome = read_job_file(name, record_dir, "exit")
        if outcome is None:
            try:
                with self._translate():
                    job = self._job(name)
                    if job is None:
                        return _without_job(name, record_dir, started)
                    pods = self._pods(name)
            except Blocked as error:
                return JobStatus(JobState.UNKNOWN, detail=error.message, started_ns=started)
            reason = finished_reason(job)
            if reason is None:
                running = any(p.status.phase == "Running" for p in pods)
                detail = "; ".join(dict.fromkeys(filter(None, (waiting_reason(p) for p in pods)))) or (
                    "" if pods else "no pod yet"
                )
                return JobStatus(JobState.RUNNING if running else JobState.PENDING, None, detail, started)
            self._keep_log(record["request"], pods)
            outcome = write_end(name, record_dir, *how_it_ended(pods, reason))
        return ended_status(outcome, started)

    def cancel(self, name: str, record_dir: Path) -> None:
        """Delete the Job with its pods, keeping the log so far.

        Raises:
            JobFailed: the cluster did not delete it.
        """
        import kubernetes.client as k8s

        record = base.read_record(name, record_dir)
        if record is None or self.status(name, record_dir).state.finished:
            return
        with self._translate():
            with contextlib.suppress(Blocked, k8s.ApiException):
                self._keep_log(record["request"], self._pods(name))
            try:
                self._delete(record["request"], "Foreground")
            except k8s.ApiException as error:
                raise JobFailed(f"the Job {name} could not be deleted", found=printable(error.reason)) from error
        write_end(name, record_dir, None, "canceled")

    def _delete(self, request: Mapping[str, Any], propagation: str) -> None:
        """Delete the Job and, of several nodes, the Service; what is gone already is fine."""
        import kubernetes.client as k8s

        api, name = self._client(), request["name"]
        calls = [
            lambda: k8s.BatchV1Api(api).delete_namespaced_job(
                name, self._space, propagation_policy=propagation, _request_timeout=_TIMEOUT_SEC
            )
        ]
        if request["nodes"] > 1:
            calls.append(lambda: k8s.CoreV1Api(api).delete_namespaced_service(name, self._space, _request_timeout=_TIMEOUT_SEC))
        for call in calls:
            try:
                call()
            except k8s.ApiException as error:
                if error.status != 404:
                    raise

    def _client(self) -> Any:
        if self._api is None:
            self._api = connect(self._options)
        return self._api

    def _job(self, name: str) -> Any:
        import kubernetes.client as k8s

        try:
            job = k8s.BatchV1Api(self._client()).read_namespaced_job(name, self._space, _request_timeout=_TIMEOUT_SEC)
        except k8s.ApiException as error:
            if error.status == 404:
                return None
            raise
        if (job.metadata.labels or {}).get(NAME_LABEL) != name:
            raise HardStop(f"a Job named {name} exists that another program made", hint="rename or remove it")
        return job

    def _pods(self, name: str) -> list[Any]:
        import kubernetes.client as k8s

        found = k8s.CoreV1Api(self._client()).list_namespaced_pod(
            self._space, label_selector=f"{NAME_LABEL}={name}", _request_timeout=_TIMEOUT_SEC
        )
        return sorted(found.items, key=lambda pod: str(pod.metadata.name))

    def _keep_log(self, request: Mapping[str, Any], pods: list[Any]) -> None:
        import kubernetes.client as k8s

        if not pods:
            return
        try:
            answer = k8s.CoreV1Api(self._client()).read_namespaced_pod_log(
                pods[0].metadata.name,
                self._space,
                _request_timeout=_TIMEOUT_SEC,
                _preload_content=False,  # the client itself decodes strictly
            )
        except k8s.ApiException:
            return  # the container has not started yet, or the kubelet has dropped its log
        secrets = [os.environ.get(n, "") for n in request["secret_names"]]
        files.atomic_write_bytes(request["log_path"], redact(answer.data, secrets))

    @contextlib.contextmanager
    def _translate(self) -> Iterator[None]:
        """Turn the client's errors into ours."""
        import kubernetes.client as k8s
        import urllib3.exceptions

        try:
            yield
        except k8s.ApiException as error:
            found = printable(f"{error.status} {error.body or error.reason}", 240)
            raise Blocked(
                "the cluster refused the request", found=found, hint="check the namespace, the claim, quotas and your rights"
            ) from error
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise Blocked("the cluster does not answer", found=printable(error, 160), hint="check kubeconfig") from error


PLATFORM = KubernetesPlatform


def finished_reason(job: Any) -> str | None:
    """``None`` while the Job runs; else an empty text for success or the reason of its failure."""
    for condition in job.status.conditions or ():
        if condition.status == "True" and condition.type == "Complete":
            return ""
        if condition.status == "True" and condition.type == "Failed":
            return "time limit" if condition.reason == "DeadlineExceeded" else printable(condition.reason or "failed")
    return None


def how_it_ended(pods: list[Any], reason: str) -> tuple[int | None, str]:
    """Exit code and reason: the first code that is not 0, else 0 where the Job succeeded, else unknown.

    A pod that the cluster took away (evicted, preempted, its node lost) has no exit code of its own: the job may run again.
    """
    taken = next(filter(None, (_taken_away(p) for p in pods)), "")
    if reason and taken:
        return None, taken
    ends = [s.state.terminated for p in pods for s in (p.status.container_statuses or ()) if s.state.terminated]
    bad = [end for end in ends if end.exit_code]
    if bad and bad[0].reason == "OOMKilled":
        return bad[0].exit_code, "the container's memory ran out"
    return (bad[0].exit_code if bad else (0 if not reason else None)), reason


def _taken_away(pod: Any) -> str:
    for condition in pod.status.conditions or ():
        if condition.type == "DisruptionTarget" and condition.status == "True":
            return _with_message(condition.reason, condition.message)
    return _with_message(pod.status.reason, pod.status.message) if pod.status.reason else ""


def waiting_reason(pod: Any) -> str:
    """Why a pod does not run yet (``ImagePullBackOff``, ``Unschedulable`` …), with the cluster's own words."""
    for status in (*(pod.status.init_container_statuses or ()), *(pod.status.container_statuses or ())):
        if status.state.waiting and status.state.waiting.reason:
            return _with_message(status.state.waiting.reason, status.state.waiting.message)
    for condition in pod.status.conditions or ():
        if condition.status == "False" and condition.reason and condition.reason != "PodCompleted":
            return _with_message(condition.reason, condition.message)
    return ""


def _with_message(reason: str | None, message: str | None) -> str:
    return printable(": ".join(filter(None, (reason, message))), 160)


def _created(name: str, record_dir: Path) -> Path:
    """There once the cluster has taken the Job: from then on its absence means that it was removed."""
    return Path(record_dir) / f"{name}.created"


def _without_job(name: str, record_dir: Path, started: int | None) -> JobStatus:
    if _created(name, record_dir).exists():
        return JobStatus(JobState.ERROR, None, "the Job was removed from the cluster before its end was seen", started)
    return JobStatus(JobState.UNKNOWN, detail="recorded, but there is no such Job", started_ns=started)
