"""One job, one vocabulary of states, three verbs: submit, status, cancel.

A job's record ``<record_dir>/<name>.job.json`` is written before anything starts (record-then-launch), so that whoever
comes back after a crash finds the job by its name: a running one is waited for, a finished one adopted, never a second
one started.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path
from typing import Any, Protocol

from deft_aoi.contract import files
from deft_aoi.contract.errors import Blocked, HardStop, UsageError
from deft_aoi.contract.text import quoted

PLATFORMS = ("local", "docker", "slurm", "kubernetes")

# DNS-1123 label: the strictest of the four (a Kubernetes Job's name becomes a Pod label).
_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_GPU_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:/-]{0,127}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


class JobState(str, Enum):
    """What every platform's own words are translated to."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    COMPLETE = "COMPLETE"
    ERROR = "ERROR"
    CANCELED = "CANCELED"
    UNKNOWN = "UNKNOWN"

    @property
    def finished(self) -> bool:
        """Whether the job will not change its state any more."""
        return self in (JobState.COMPLETE, JobState.ERROR, JobState.CANCELED)


@dataclass(frozen=True)
class JobStatus:
    """What a platform knows of a job.

    Attributes:
        state: the common word.
        exit_code: the command's own exit code, where it has ended and the platform knows it.
        detail: one line for a person; untrusted, show it through ``quoted``.
        started_ns: the launch in nanoseconds since the epoch on the clock of the record's file system: outputs with an
            older ``mtime`` are not this job's.
    """

    state: JobState
    exit_code: int | None = None
    detail: str = ""
    started_ns: int | None = None


@dataclass(frozen=True)
class JobRequest:
    """What is to run, in words that every platform understands.

    Attributes:
        name: DNS-1123 label, deterministic: ``deft-<run>-<phase>-<stage>-<job>``.
        argv: the command, never a shell line.
        cwd: working folder (absolute).
        log_path: where the job's output goes (absolute).
        env: environment of the job beside the platform's own few variables; no secrets.
        secret_names: names of variables whose values the job gets from the driver's environment; values are never
            written to a record, an argument or a log.
        gpus: ids of GPUs, or how many; 0 means that the job sees none.
        read_only: files and folders that the job reads (absolute).
        writable: folders that the job may write (absolute).
        image: image reference (containers).
        image_digest: ``sha256:…`` that the plan pinned: an image's id or its repository digest.
        shm_gib: size of ``/dev/shm`` in GiB (containers).
        nodes: number of hosts.
        time_limit_sec: after this the job is ended and counts as an error.
        network: whether the job may reach the network (containers).
        python: interpreter whose folder comes first in ``PATH`` (TAO's launcher calls plain ``python``).
    """

    name: str
    argv: tuple[str, ...]
    cwd: str
    log_path: str
    env: Mapping[str, str] = field(default_factory=dict)
    secret_names: tuple[str, ...] = ()
    gpus: tuple[str, ...] | int = 0
    read_only: tuple[Path, ...] = ()
    writable: tuple[Path, ...] = ()
    image: str | None = None
    image_digest: str | None = None
    shm_gib: int = 8
    nodes: int = 1
    time_limit_sec: int | None = None
    network: bool = False
    python: str | None = None

    def __post_init__(self) -> None:
        """Refuse what no platform could run safely.

        Raises:
            HardStop: a name that is not a DNS-1123 label, an empty command, NUL, a relative path, a malformed GPU id,
                variable name or digest.
        """
        check_job_name(self.name)
        if not self.argv or not self.argv[0] or any("\0" in a for a in self.argv):
            raise HardStop("a job's command is empty or holds a NUL", found=quoted(self.argv))
        for what, path in (
            ("cwd", self.cwd),
            ("log_path", self.log_path),
            *(("read_only", p) for p in self.read_only),
            *(("writable", p) for p in self.writable),
        ):
            if not Path(path).is_absolute() or any(c in str(path) for c in "\0\n\r"):
                raise HardStop(f"a job's {what} must be an absolute path", found=quoted(path, 200))
        for variable in (*self.env, *self.secret_names):
            if not _VARIABLE.fullmatch(variable):
                raise HardStop("not the name of an environment variable", found=quoted(variable))
        if isinstance(self.gpus, tuple) and not all(_GPU_ID.fullmatch(g) for g in self.gpus):
            raise HardStop("a GPU id is malformed", expected="an index or a GPU-/MIG- id", found=quoted(self.gpus))
        if self.image_digest is not None and not _DIGEST.fullmatch(self.image_digest):
            raise HardStop("an image digest is malformed", expected="sha256: and 64 hex digits", found=quoted(self.image_digest))
        if self.nodes < 1 or self.shm_gib < 1 or (self.time_limit_sec is not None and self.time_limit_sec < 1):
            raise HardStop(
                "nodes, shm_gib and time_limit_sec must be positive", found=f"{self.nodes}, {self.shm_gib}, {self.time_limit_sec}"
            )

    @property
    def gpu_count(self) -> int:
        """How many GPUs a host gives to the job."""
        return self.gpus if isinstance(self.gpus, int) else len(self.gpus)

    def as_record(self) -> dict[str, Any]:
        """The request as JSON (names of secrets only)."""
        return {
            "name": self.name,
            "argv": list(self.argv),
            "cwd": str(self.cwd),
            "log_path": str(self.log_path),
            "env": dict(self.env),
            "secret_names": list(self.secret_names),
            "gpus": self.gpus if isinstance(self.gpus, int) else list(self.gpus),
            "read_only": [str(p) for p in self.read_only],
            "writable": [str(p) for p in self.writable],
            "image": self.image,
            "image_digest": self.image_digest,
            "shm_gib": self.shm_gib,
            "nodes": self.nodes,
            "time_limit_sec": self.time_limit_sec,
            "network": self.network,
            "python": self.python,
        }


@dataclass(frozen=True)
class Finding:
    """One line of a read-only probe.

    Attributes:
        level: ``ok``; ``warn``: a job may still run; ``missing``: something absent that can be supplied; ``stop``: no job
            can run here.
        text: what was looked at and found; may hold untrusted words.
        fix: what to do where it is not ok.
        blocks_gpus: no job that asks for a GPU can run here until this is fixed.
    """

    level: str
    text: str
    fix: str = ""
    blocks_gpus: bool = False


class Platform(Protocol):
    """The verbs. ``record_dir`` is the run's folder of job records; it is created where it is missing.

    Attributes:
        name: how the user names it.
        uses_this_machines_gpus: its jobs run on this host, so that this host's GPUs are theirs.
    """

    name: str
    uses_this_machines_gpus: bool

    def submit(self, request: JobRequest, record_dir: Path) -> None:
        """Start the job unless one of that name runs or has finished already."""

    def status(self, name: str, record_dir: Path) -> JobStatus:
        """Translate what the platform knows."""

    def cancel(self, name: str, record_dir: Path) -> None:
        """End the job with everything that it started; no effect on a finished one."""


def check_job_name(name: str) -> str:
    """Return ``name`` if every platform can use it.

    Raises:
        HardStop: not a DNS-1123 label of at most 63 characters.
    """
    if not _NAME.fullmatch(name):
        raise HardStop(
            f"the job name {quoted(name)} is not allowed",
            expected="at most 63 lower-case letters, digits and -, as in deft-20260101-120000-iter1-train",
        )
    return name


def get_platform(name: str, options: Mapping[str, Any] | None = None) -> Platform:
    """Open a platform.

    Args:
        name: one of :data:`PLATFORMS`.
        options: that platform's own settings (see its module); unknown ones are refused.

    Raises:
        UsageError: no such platform or option.
    """
    if name not in PLATFORMS:
        raise UsageError(f"there is no platform {quoted(name)}", expected=" | ".join(PLATFORMS))
    module = _module(name)
    given = {k: v for k, v in (options or {}).items() if v is not None}
    unknown = sorted(set(given) - set(module.OPTIONS))
    if unknown:
        known = " | ".join(sorted(module.OPTIONS))
        raise UsageError(f"the platform {name} has no option {quoted(unknown[0])}", expected=known)
    opened: Platform = module.PLATFORM({k: str(v) for k, v in given.items()})
    return opened


def probe(name: str, options: Mapping[str, Any] | None = None, *, gpus_needed: bool = False) -> list[Finding]:
    """Look at a platform without changing anything and without logging in.

    Args:
        name: one of :data:`PLATFORMS`.
        options: its options.
        gpus_needed: the jobs ask for GPUs, so what keeps GPUs from them is missing, not a warning.

    Raises:
        UsageError: no such platform or option.
    """
    get_platform(name, options)
    findings: list[Finding] = _module(name).probe({k: str(v) for k, v in (options or {}).items() if v is not None})
    return [replace(f, level="missing") if gpus_needed and f.blocks_gpus else f for f in findings]


def platform_options(name: str) -> tuple[str, ...]:
    """Names of the options that a platform takes."""
    return tuple(_module(name).OPTIONS)


def _module(name: str) -> Any:
    import importlib

    return importlib.import_module(f"deft_aoi.platforms.{name}")


def wait(
    platform: Platform, name: str, record_dir: Path, *, timeout_sec: float | None = None, poll_sec: float = 0.5
) -> JobStatus:
    """Wait until the job has finished, or return its last status when ``timeout_sec`` is over."""
    end = None if timeout_sec is None else time.monotonic() + timeout_sec
    while True:
        status = platform.status(name, record_dir)
        if status.state.finished or (end is not None and time.monotonic() >= end):
            return status
        time.sleep(poll_sec)


def record_path(name: str, record_dir: Path) -> Path:
    """Where the job's record lies."""
    return Path(record_dir) / f"{check_job_name(name)}.job.json"


def write_record(request: JobRequest, record_dir: Path, platform: str, **handle: Any) -> Path:
    """Write the job's record: the request, the platform and what is needed to find the job again."""
    path = record_path(request.name, record_dir)
    files.atomic_write_json(path, {"version": 1, "platform": platform, "request": request.as_record(), "handle": handle})
    return path


def read_record(name: str, record_dir: Path) -> dict[str, Any] | None:
    """Read the job's record; ``None`` where there is none.

    Raises:
        HardStop: the record is damaged.
    """
    path = record_path(name, record_dir)
    if not path.exists():
        return None
    record = files.read_json(path, what=f"the record of job {name}")
    if not isinstance(record, dict) or not isinstance(record.get("request"), dict):
        raise HardStop(f"the record of job {name} is damaged", found=str(path))
    return record


def launched_ns(name: str, record_dir: Path) -> int | None:
    """When the record was written, by the clock of its file system (comparable with the outputs' ``mtime``)."""
    try:
        return record_path(name, record_dir).stat().st_mtime_ns
    except FileNotFoundError:
        return None


def check_same_request(record: Mapping[str, Any], request: JobRequest, platform: str) -> None:
    """Refuse to adopt a job of the same name that runs something else.

    Raises:
        HardStop: the recorded job has another command, image or platform.
    """
    known, asked = record["request"], request.as_record()
    for key in ("argv", "image", "image_digest"):
        if known.get(key) != asked[key]:
            raise HardStop(
                f"a job named {request.name} exists with another {key}",
                expected=quoted(asked[key], 200),
                found=quoted(known.get(key), 200),
                hint="run the stage again: it gets a new job name",
            )
    if record.get("platform") != platform:
        raise HardStop(
            f"a job named {request.name} was started on another platform",
            expected=platform,
            found=quoted(record.get("platform")),
        )


@contextlib.contextmanager
def name_lock(name: str, record_dir: Path) -> Iterator[None]:
    """Hold the name while it is decided whether a job has to be started: two submits make one job."""
    Path(record_dir).mkdir(parents=True, exist_ok=True)
    fd = os.open(Path(record_dir) / f".{check_job_name(name)}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def secret_values(names: tuple[str, ...]) -> dict[str, str]:
    """Values of the named secrets from the driver's environment.

    Raises:
        Blocked: one of them is absent or empty.
    """
    values = {name: os.environ.get(name, "") for name in names}
    missing = sorted(name for name, value in values.items() if not value.strip())
    if missing:
        raise Blocked(
            f"the job needs {', '.join(missing)}",
            expected="set in the environment or the workspace's credentials file",
            hint="add it and run the same command again",
        )
    return values
