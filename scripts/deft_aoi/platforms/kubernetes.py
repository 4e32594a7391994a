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
                if _outcome(request.name, record_dir) is not None or self._job(request.name) is not None:
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

    def status(self, name: str, record_dir: Path) -> JobStatus:
        """Translate the Job's conditions; at its end keep the exit code and the log."""
        started, record = base.launched_ns(name, record_dir), base.read_record(name, record_dir)
        if record is None:
            return JobStatus(JobState.UNKNOWN, detail="no such job")
        outcome = _outcome(name, record_dir)
        if outcome is None:
            try:
                with self._translate():
                    job = self._job(name)
                    if job is None:
                        return JobStatus(JobState.UNKNOWN, detail="recorded, but there is no such Job", started_ns=started)
                    pods = self._pods(name)
            except Blocked as error:
                return JobStatus(JobState.UNKNOWN, detail=error.message, started_ns=started)
            reason = finished_reason(job)
            if reason is None:
                running = any(p.status.phase == "Running" for p in pods)
                detail = "; ".join(filter(None, (waiting_reason(p) for p in pods)))
                return JobStatus(JobState.RUNNING if running else JobState.PENDING, None, detail, started)
            outcome = {"version": 1, "exit_code": exit_code(pods, reason), "reason": reason}
            self._keep_log(record["request"], pods)
            files.atomic_write_json(_exit_file(name, record_dir), outcome)
        code, reason = outcome["exit_code"], outcome["reason"]
        if reason == "canceled":
            return JobStatus(JobState.CANCELED, code, reason, started)
        if code == 0 and not reason:
            return JobStatus(JobState.COMPLETE, 0, "", started)
        return JobStatus(JobState.ERROR, code, reason or f"exit code {code}", started)

    def logs(self, name: str, record_dir: Path, tail: int = 200) -> str:
        """Return the last ``tail`` lines of the first pod's output: untrusted text."""
        record = base.read_record(name, record_dir)
        if record is None:
            return ""
        if _outcome(name, record_dir) is None:
            with self._translate():
                self._keep_log(record["request"], self._pods(name))
        return base.tail_lines(record["request"]["log_path"], tail)

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
        files.atomic_write_json(_exit_file(name, record_dir), {"version": 1, "exit_code": None, "reason": "canceled"})

    def retire(self, name: str, record_dir: Path) -> None:
        """Delete the finished Job and set its record aside.

        Raises:
            HardStop: the job still runs.
        """
        import kubernetes.client as k8s

        record = base.read_record(name, record_dir)
        if record is None:
            return
        if self.status(name, record_dir).state in (JobState.PENDING, JobState.RUNNING):
            raise HardStop(f"the job {name} still runs", hint="cancel it first")
        with base.name_lock(name, record_dir), self._translate():
            with contextlib.suppress(k8s.ApiException):
                self._delete(record["request"], "Background")
            base.set_aside(name, record_dir)

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
            raise HardStop(f"a Job named {name} exists that is not ours", hint="rename or remove it")
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
            text = k8s.CoreV1Api(self._client()).read_namespaced_pod_log(
                pods[0].metadata.name, self._space, _request_timeout=_TIMEOUT_SEC
            )
        except k8s.ApiException:
            return  # the container has not started yet, or the kubelet has dropped its log
        secrets = [os.environ.get(n, "") for n in request["secret_names"]]
        files.atomic_write_bytes(request["log_path"], redact(str(text).encode(), secrets))

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


def exit_code(pods: list[Any], reason: str) -> int | None:
    """The first exit code that is not 0, else 0 where the Job succeeded, else unknown."""
    codes = [s.state.terminated.exit_code for p in pods for s in (p.status.container_statuses or ()) if s.state.terminated]
    bad = [c for c in codes if c]
    return bad[0] if bad else (0 if not reason else None)


def waiting_reason(pod: Any) -> str:
    """Why a pod does not run yet (``ImagePullBackOff``, ``Unschedulable`` …)."""
    for status in pod.status.container_statuses or ():
        if status.state.waiting and status.state.waiting.reason:
            return printable(status.state.waiting.reason)
    for condition in pod.status.conditions or ():
        if condition.status == "False" and condition.reason:
            return printable(condition.reason)
    return ""


def _exit_file(name: str, record_dir: Path) -> Path:
    return Path(record_dir) / f"{name}.exit.json"


def _outcome(name: str, record_dir: Path) -> dict[str, Any] | None:
    path = _exit_file(name, record_dir)
    return files.read_json(path, what=f"the exit file of job {name}") if path.exists() else None
