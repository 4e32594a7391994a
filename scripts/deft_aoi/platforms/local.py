"""The local platform: a child process with a supervisor of its own (see :mod:`deft_aoi.platforms.supervise`)."""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from deft_aoi.contract import files
from deft_aoi.contract.errors import Blocked, JobFailed
from deft_aoi.contract.programs import as_text
from deft_aoi.contract.text import printable
from deft_aoi.platforms import base, supervise
from deft_aoi.platforms.base import Finding, JobRequest, JobState, JobStatus
from deft_aoi.platforms.job_files import ended_status, read_job_file

_SCRIPTS = Path(__file__).resolve().parents[2]  # the folder that holds the package `deft_aoi`
# All that a job inherits. Whatever else it needs is in its request, so that a run does not depend on a shell's history.
_INHERITED = (
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "LANG",
    "LC_ALL",
    "TMPDIR",
    "TZ",
    "LD_LIBRARY_PATH",
    "SSL_CERT_FILE",
    "HF_HOME",
    "XDG_CACHE_HOME",
    "NVIDIA_VISIBLE_DEVICES",
    "NVIDIA_DRIVER_CAPABILITIES",
    "TORCH_HOME",
    "TORCH_SYMM_MEM_DISABLE_MULTICAST",
)
# How this host reaches its GPUs and their links is the host's own setting: an MPI without ssh, multicast that must stay
# off. The prefixes leave out what may hold a secret (NVIDIA_API_KEY) and what only one shell wants (PYTORCH_…, TORCH_…).
_INHERITED_PREFIXES = ("CUDA_", "CUBLAS_", "NCCL_", "NVSHMEM_", "OMPI_MCA_", "UCX_")
_START_SEC = 30.0


# Options of `--platform-option`: tao_python is read where the command is made.
OPTIONS = ("tao_python",)


class LocalPlatform:
    """Runs jobs as processes of this machine."""

    name = "local"
    uses_this_machines_gpus = True

    def __init__(self, _options: Mapping[str, str]) -> None:
        """Open the platform; it has nothing to set."""

    def submit(self, request: JobRequest, record_dir: Path) -> None:
        """Start the job unless one of that name runs or has finished already.

        Raises:
            HardStop: a job of that name exists with another command.
            Blocked: more than one host was asked for, a secret is absent, or the supervisor did not start.
        """
        if request.nodes != 1:
            raise Blocked("the local platform has one host", expected="nodes = 1", found=str(request.nodes))
        environment = job_environment(request)
        with base.name_lock(request.name, record_dir):
            record = base.read_record(request.name, record_dir)
            if record is not None:
                base.check_same_request(record, request, self.name)
                if self.status(request.name, record_dir).state is not JobState.UNKNOWN:
                    return
            path = base.write_record(request, record_dir, self.name)
            _start_supervisor(path, environment)

    def status(self, name: str, record_dir: Path) -> JobStatus:
        """Read what the supervisor wrote, and whether it lives."""
        started = base.launched_ns(name, record_dir)
        if started is None:
            return JobStatus(JobState.UNKNOWN, detail="no such job")
        identity, outcome = read_job_file(name, record_dir, "run"), read_job_file(name, record_dir, "exit")
        if outcome is None and identity is not None and not supervise.is_alive(identity["supervisor"]):
            outcome = read_job_file(name, record_dir, "exit")  # it may have ended between the two reads
            if outcome is None:
                return JobStatus(JobState.ERROR, None, "the job's supervisor was killed or the machine restarted", started)
        if outcome is not None:
            return ended_status(outcome, started, canceled=(Path(record_dir) / f"{name}.cancel").exists())
        if identity is None:
            return JobStatus(JobState.UNKNOWN, detail="recorded, never started", started_ns=started)
        beat = (time.time_ns() - _beat_ns(record_dir, name)) / 1e9
        state = JobState.RUNNING if identity.get("child") else JobState.PENDING
        return JobStatus(
            state,
            None,
            f"pid {(identity.get('child') or identity['supervisor'])['pid']}, heartbeat {max(beat, 0):.0f} s ago",
            started,
        )

    def cancel(self, name: str, record_dir: Path) -> None:
        """End the job's process group; the supervisor writes the last word.

        Raises:
            JobFailed: the job did not end within the grace period.
        """
        if base.read_record(name, record_dir) is None or self.status(name, record_dir).state.finished:
            return
        files.atomic_write_text(Path(record_dir) / f"{name}.cancel", "")
        last = base.wait(self, name, record_dir, timeout_sec=supervise.GRACE_SEC + 10, poll_sec=0.1)
        if not last.state.finished:
            raise JobFailed(f"the job {name} did not end", found=last.detail, hint="kill its process yourself")


def job_environment(request: JobRequest) -> dict[str, str]:
    """The whole environment of a local job.

    Raises:
        Blocked: a named secret is absent.
    """
    environment = {k: v for k, v in os.environ.items() if k in _INHERITED or k.startswith(_INHERITED_PREFIXES)}
    environment["PYTHONPATH"] = str(_SCRIPTS)
    environment.update({"PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1"})
    if isinstance(request.gpus, tuple):
        environment["CUDA_VISIBLE_DEVICES"] = ",".join(request.gpus)
        environment["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"  # ids as nvidia-smi counts them, not by speed
    elif request.gpus == 0:
        environment["CUDA_VISIBLE_DEVICES"] = ""
    elif "CUDA_VISIBLE_DEVICES" in os.environ:
        ids = os.environ["CUDA_VISIBLE_DEVICES"].split(",")
        environment["CUDA_VISIBLE_DEVICES"] = ",".join(ids[: request.gpus])
    if request.python:
        environment["PATH"] = f"{Path(request.python).parent}{os.pathsep}{environment.get('PATH', os.defpath)}"
    extra = dict(request.env)
    if "PYTHONPATH" in extra:
        # The job's own comes first; ours stays, for the supervisor and the embedded engine.
        extra["PYTHONPATH"] = f"{extra['PYTHONPATH']}{os.pathsep}{_SCRIPTS}"
    return environment | extra | base.secret_values(request.secret_names)


def probe(_options: Mapping[str, str]) -> list[Finding]:
    """Read-only look at this machine: processors, memory, GPUs."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    found = [Finding("ok", f"local: {len(os.sched_getaffinity(0))} processors, {memory:.0f} GiB memory")]
    python = _options.get("tao_python")
    if python and not os.access(python, os.X_OK):
        found.append(Finding("missing", f"--tao-python {python} cannot be executed", "give a Python 3.12 with the TAO wheels"))
    return found


def _start_supervisor(record: Path, environment: dict[str, str]) -> None:
    # The supervisor runs with our interpreter and our path, even where the job's are another engine's.
    child = subprocess.Popen(
        [sys.executable, "-m", "deft_aoi.platforms.supervise", str(record)],
        cwd="/",
        env={"PYTHONPATH": str(_SCRIPTS), "PATH": os.defpath, "PYTHONDONTWRITEBYTECODE": "1"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    assert child.stdin is not None
    assert child.stdout is not None
    assert child.stderr is not None
    with child.stdout, child.stderr:
        with contextlib.suppress(BrokenPipeError), child.stdin:
            child.stdin.write(json.dumps(environment).encode())
        ready = select.select([child.stdout], [], [], _START_SEC)[0]
        if not ready or os.read(child.stdout.fileno(), 1) != b"+":
            if child.poll() is None and not ready:
                child.kill()
            if child.wait() == 0:
                return  # another supervisor of this name was first
            raise Blocked("the job's supervisor did not start", found=printable(as_text(child.stderr.read()), 300))
    # Nobody waits for it here: a finished supervisor is a zombie until then, and is_alive() counts those as ended.
    _CHILDREN.append(child)
    for known in list(_CHILDREN):
        if known.poll() is not None:
            _CHILDREN.remove(known)


_CHILDREN: list[subprocess.Popen[bytes]] = []


def _beat_ns(record_dir: Path, name: str) -> int:
    try:
        return (Path(record_dir) / f"{name}.run.json").stat().st_mtime_ns
    except FileNotFoundError:
        return 0


PLATFORM = LocalPlatform
