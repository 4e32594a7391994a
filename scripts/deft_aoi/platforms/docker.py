"""The Docker platform: one container a job, through the ``docker`` SDK.

What a container gets and does not get: the caller's user (HOME, USER and LOGNAME set), the workspace at its own path and
read-only, the job's folder writable, 8 GiB of shared memory, GPUs by id, no capabilities, no new privileges, no network
unless the job asks for it, secrets only by name. The image must be the one that the plan pinned. The container carries
the job's deterministic name and stays until its exit code and its whole log are on disk: a driver that comes back finds
it, running or ended, and never starts a second one.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deft_aoi.contract import files
from deft_aoi.contract.errors import Blocked, HardStop, JobFailed
from deft_aoi.contract.text import printable, quoted
from deft_aoi.platforms import base
from deft_aoi.platforms.base import JobRequest, JobState, JobStatus
from deft_aoi.platforms.docker_engine import CLIENT_TIMEOUT_SEC, connect, probe, translated
from deft_aoi.platforms.docker_log import Follower
from deft_aoi.platforms.docker_settings import LABEL, container_settings
from deft_aoi.platforms.job_files import ended_status, job_file, read_job_file, write_end

__all__ = ["OPTIONS", "PLATFORM", "DockerPlatform", "probe"]

OPTIONS = ("host", "user", "image", "embedding_image", "read_only_root", "tao_python")
_STOP_GRACE_SEC = 10


class DockerPlatform:
    """Runs jobs as containers of a Docker Engine that sees the workspace at the same path.

    Options: ``host`` (as ``DOCKER_HOST``), ``user`` (``UID:GID``), ``read_only_root`` (``yes``/``no``; by default only for
    images that are labelled for it). ``image`` and ``embedding_image`` are read where the plan is made.
    """

    name = "docker"
    uses_this_machines_gpus = True

    def __init__(self, options: Mapping[str, str]) -> None:
        """Keep the options; the engine is reached on first use."""
        self._options = dict(options)
        self._client: Any = None
        self._followers: dict[str, Follower] = {}

    def submit(self, request: JobRequest, record_dir: Path) -> None:
        """Start the job unless a container of that name exists or the job has finished already.

        Raises:
            HardStop: the image is not the pinned one, or the name belongs to something else.
            Blocked: no engine, no image, no such GPU, or a secret is absent.
        """
        if request.nodes != 1:
            raise Blocked("the docker platform has one host", expected="nodes = 1", found=str(request.nodes))
        if not request.image:
            raise HardStop("a docker job needs an image", found=request.name)
        secrets = base.secret_values(request.secret_names)
        with base.name_lock(request.name, record_dir), translated():
            record = base.read_record(request.name, record_dir)
            if record is not None:
                base.check_same_request(record, request, self.name)
            if read_job_file(request.name, record_dir, "exit") is not None:
                return
            container = self._find(request.name)
            if container is None:
                image = self._pinned_image(request)
                base.write_record(request, record_dir, self.name, image_id=image.id)
                container = self._create(request, image, secrets)
            elif record is None:
                raise HardStop(
                    f"a container named {request.name} exists that no record of this run knows",
                    hint="remove that container by hand if it is not needed",
                )
            if container.status == "created":
                self._start(container, request, record_dir)

    def status(self, name: str, record_dir: Path) -> JobStatus:
        """Translate the container's state; keep its log and, at its end, its exit code."""
        started = base.launched_ns(name, record_dir)
        record = base.read_record(name, record_dir)
        if record is None:
            return JobStatus(JobState.UNKNOWN, detail="no such job")
        outcome = read_job_file(name, record_dir, "exit")
        if outcome is None:
            try:
                with translated():
                    container = self._find(name)
            except Blocked as error:
                return JobStatus(JobState.UNKNOWN, detail=error.message, started_ns=started)
            if container is None:
                return JobStatus(JobState.UNKNOWN, detail="recorded, but there is no such container", started_ns=started)
            if container.status == "created":
                return JobStatus(JobState.PENDING, detail="container created", started_ns=started)
            follower = self._follow(container, record["request"], record_dir)
            if container.status in ("running", "paused", "restarting"):
                if _is_over(container, record["request"].get("time_limit_sec")):
                    self._stop(container, name, record_dir, "time limit")
                return JobStatus(JobState.RUNNING, None, f"container {container.short_id}", started)
            outcome = self._settle(container, name, record_dir, follower)
            if outcome is None:
                return JobStatus(JobState.RUNNING, None, "ended; its log is still being read", started)
        return ended_status(outcome, started)

    def cancel(self, name: str, record_dir: Path) -> None:
        """Stop the container and keep its log.

        Raises:
            JobFailed: it did not stop.
        """
        if self.status(name, record_dir).state.finished:
            return
        with translated():
            container = self._find(name)
            if container is None:
                return
            if container.status == "created":
                write_end(name, record_dir, None, "canceled")
                container.remove(force=True)
                return
            self._stop(container, name, record_dir, "canceled")
        last = base.wait(self, name, record_dir, timeout_sec=60, poll_sec=0.2)
        if not last.state.finished:
            raise JobFailed(f"the container {name} did not stop", found=last.detail, hint=f"run: docker stop {name}")

    def client(self) -> Any:
        """The SDK's client of this engine.

        Raises:
            Blocked: the package is missing.
        """
        if self._client is None:
            self._client = connect(self._options)
        return self._client

    def _find(self, name: str) -> Any:
        import docker.errors

        try:
            container = self.client().containers.get(name)
        except docker.errors.NotFound:
            return None
        if container.labels.get(LABEL) != name:
            raise HardStop(f"a container named {name} exists that another program made", hint="rename or remove it")
        return container

    def _pinned_image(self, request: JobRequest) -> Any:
        import docker.errors

        try:
            image = self.client().images.get(request.image)
        except docker.errors.ImageNotFound as error:
            raise Blocked(
                f"container image {request.image} not found", hint="the assets stage pulls it after approval"
            ) from error
        known = {image.id, *(d.rpartition("@")[2] for d in image.attrs.get("RepoDigests") or ())}
        if request.image_digest is not None and request.image_digest not in known:
            raise HardStop(
                f"the image {request.image} is not the approved one",
                expected=request.image_digest,
                found=quoted(image.id),
                hint="run the pre-flight again and approve the new plan, or bring back the approved image",
            )
        return image

    def _create(self, request: JobRequest, image: Any, secrets: Mapping[str, str]) -> Any:
        # By id, not by tag: between the check and this call the tag may move.
        return self.client().containers.create(image.id, **container_settings(request, image, self._options, secrets))

    @staticmethod
    def _start(container: Any, request: JobRequest, record_dir: Path) -> None:
        try:
            container.start()
        except Exception:
            # Nothing ran: leave neither a container nor a record, so that the cause can be removed and the job started.
            container.remove(force=True)
            base.record_path(request.name, record_dir).unlink()
            raise

    def _stop(self, container: Any, name: str, record_dir: Path, reason: str) -> None:
        files.atomic_write_json(job_file(name, record_dir, "stop"), {"version": 1, "reason": reason})
        container.stop(timeout=_STOP_GRACE_SEC)

    def _follow(self, container: Any, request: Mapping[str, Any], record_dir: Path) -> Follower | None:
        """Copy the container's output to the log until it ends; one process of one host does this at a time."""
        name = request["name"]
        known = self._followers.get(name)
        if known is not None and (known.is_alive() or known.is_complete):
            return known
        lock = os.open(Path(record_dir) / f".{name}.log.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            return None
        if read_job_file(name, record_dir, "exit") is not None:  # settled by another driver since this one looked
            os.close(lock)
            return None
        secrets = [os.environ.get(n, "") for n in request["secret_names"]]
        follower = self._followers[name] = Follower(container, Path(request["log_path"]), secrets, lock)
        follower.start()
        return follower

    def _settle(self, container: Any, name: str, record_dir: Path, follower: Follower | None) -> dict[str, Any] | None:
        """The container has ended: wait for the rest of its log, write down its exit code, remove it."""
        if follower is None:
            return None  # another process copies the log and will settle the job
        follower.join(timeout=CLIENT_TIMEOUT_SEC)
        if not follower.is_complete:
            return None
        state = container.attrs["State"]
        reason = (read_job_file(name, record_dir, "stop") or {}).get("reason", "")
        if state.get("OOMKilled"):
            reason = "the host's memory ran out"
        elif state.get("Error"):
            reason = printable(state["Error"], 200)
        outcome = write_end(name, record_dir, state.get("ExitCode"), reason)
        self._followers.pop(name, None)
        follower.settled()
        with contextlib.suppress(Exception):  # what matters is on disk; a container left behind is harmless
            container.remove()
        return outcome


PLATFORM = DockerPlatform


def _is_over(container: Any, limit_sec: int | None) -> bool:
    if not limit_sec:
        return False
    import calendar

    started = calendar.timegm(time.strptime(container.attrs["State"]["StartedAt"][:19], "%Y-%m-%dT%H:%M:%S"))
    return time.time() - started > limit_sec
