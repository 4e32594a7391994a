"""The SLURM platform: one batch job a job, submitted on the login node or over SSH.

The workspace and the job records lie on a file system that the login node and the compute nodes share, under the same
path; nothing is copied. The batch script is written beside the record. It claims the job's name before it does anything
(two submissions of one name never run two trainings), survives a requeue (same job id, same claim), and writes the exit
code as its last act. With an image the command runs through Pyxis (``srun --container-image``); without one it runs as it
is. Images are imported before the allocation, never inside it: GPUs do not wait for a download.
"""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deft_aoi.contract import files
from deft_aoi.contract.errors import Blocked, HardStop, JobFailed
from deft_aoi.contract.text import printable, quoted
from deft_aoi.platforms import base
from deft_aoi.platforms.base import Finding, JobRequest, JobState, JobStatus
from deft_aoi.platforms.redact import redact
from deft_aoi.platforms.slurm_script import OPTIONS_IN_SCRIPT, render

OPTIONS = ("host", "bin_dir", "tao_python", "image", "embedding_image", *OPTIONS_IN_SCRIPT)

_TIMEOUT_SEC = 60
_SSH_BROKE = 255  # ssh's own failures; a remote command's code comes through as it is
_IMPORT_SEC = 3600  # TAO's images are some 20 GB
_STATES = {
    "PENDING": JobState.PENDING,
    "CONFIGURING": JobState.PENDING,
    "REQUEUED": JobState.PENDING,
    "EXPEDITING": JobState.PENDING,
    "POWER_UP_NODE": JobState.PENDING,
    "REQUEUE_FED": JobState.PENDING,
    "REQUEUE_HOLD": JobState.PENDING,
    "SPECIAL_EXIT": JobState.PENDING,
    "RESV_DEL_HOLD": JobState.PENDING,
    "RUNNING": JobState.RUNNING,
    "SUSPENDED": JobState.RUNNING,
    "STOPPED": JobState.RUNNING,
    "RESIZING": JobState.RUNNING,
    "SIGNALING": JobState.RUNNING,
    "STAGE_OUT": JobState.RUNNING,
    "COMPLETING": JobState.RUNNING,
    "COMPLETED": JobState.COMPLETE,
    "CANCELLED": JobState.CANCELED,
    "REVOKED": JobState.CANCELED,
    "FAILED": JobState.ERROR,
    "TIMEOUT": JobState.ERROR,
    "NODE_FAIL": JobState.ERROR,
    "OUT_OF_MEMORY": JobState.ERROR,
    "PREEMPTED": JobState.ERROR,
    "BOOT_FAIL": JobState.ERROR,
    "DEADLINE": JobState.ERROR,
    "LAUNCH_FAILED": JobState.ERROR,
    "RECONFIG_FAIL": JobState.ERROR,
}
_REASONS = {
    "TIMEOUT": "time limit",
    "DEADLINE": "time limit",
    "OUT_OF_MEMORY": "the host's memory ran out",
    "NODE_FAIL": "a node failed",
    "PREEMPTED": "preempted",
    "BOOT_FAIL": "a node did not boot",
}


class SlurmPlatform:
    """Runs jobs through ``sbatch``.

    Options: ``host`` (SSH login node; commands run here without it), ``bin_dir`` (folder of SLURM's commands), and those of
    the script (see :mod:`deft_aoi.platforms.slurm_script`).
    """

    name = "slurm"

    def __init__(self, options: Mapping[str, str]) -> None:
        """Keep the options; the scheduler is reached on first use."""
        self._options = dict(options)

    def submit(self, request: JobRequest, record_dir: Path) -> None:
        """Submit the job unless the scheduler has or had one of that name.

        Raises:
            HardStop: the name belongs to another command.
            Blocked: no scheduler, it refused the job, or a secret is absent.
        """
        secrets = base.secret_values(request.secret_names)
        with base.name_lock(request.name, record_dir):
            record = base.read_record(request.name, record_dir)
            if record is not None:
                base.check_same_request(record, request, self.name)
                if record["handle"].get("job_id") or self._adopt_by_name(request, record_dir):
                    return
            script = Path(record_dir) / f"{request.name}.sbatch"
            files.atomic_write_text(script, render(request, self._options, Path(record_dir)))
            base.write_record(request, record_dir, self.name, job_id=None)
            Path(request.log_path).parent.mkdir(parents=True, exist_ok=True)
            self._submit_script(request, record_dir, script, secrets)

    def status(self, name: str, record_dir: Path) -> JobStatus:
        """Translate the scheduler's state; the exit code is the one that the script wrote down."""
        record = base.read_record(name, record_dir)
        if record is None:
            return JobStatus(JobState.UNKNOWN, detail="no such job")
        # The record is written again once the job id is known; the script's time is that of the launch.
        script = Path(record_dir) / f"{name}.sbatch"
        started = script.stat().st_mtime_ns if script.exists() else base.launched_ns(name, record_dir)
        job_id = record["handle"].get("job_id")
        if not job_id:
            return JobStatus(JobState.UNKNOWN, detail="recorded, but not known to be submitted", started_ns=started)
        try:
            word, code = self._ask(job_id)
        except Blocked as error:
            word, code = "", None
            if _exit_code(name, record_dir) is None:
                return JobStatus(JobState.UNKNOWN, detail=error.message, started_ns=started)
        state = _STATES.get(word, JobState.UNKNOWN)
        if state in (JobState.PENDING, JobState.RUNNING) and word != "COMPLETING":
            return JobStatus(state, None, f"job {job_id} {word.lower()}", started)
        written = _exit_code(name, record_dir)
        if word == "COMPLETING" and written != 0:  # it failed, or scancel ended it: the next word says which
            return JobStatus(JobState.RUNNING, None, f"job {job_id} ends", started)
        if state is JobState.UNKNOWN:
            code = None  # a word of a newer release: its 0:0 may be that of a job which has not even begun
        if state is JobState.CANCELED:
            return JobStatus(state, code, "canceled", started)
        if word in _REASONS:
            return JobStatus(JobState.ERROR, written if written else code or None, _REASONS[word], started)
        if written is not None:
            code = written
        if code is None:
            return JobStatus(JobState.UNKNOWN, None, f"job {job_id}: the scheduler says {word or 'nothing'}", started)
        if code == 0:
            return JobStatus(JobState.COMPLETE, 0, "", started)
        return JobStatus(JobState.ERROR, code, f"exit code {code}", started)

    def logs(self, name: str, record_dir: Path, tail: int = 200) -> str:
        """Return the last ``tail`` lines of the job's output: untrusted text."""
        record = base.read_record(name, record_dir)
        if record is None:
            return ""
        secrets = [os.environ.get(n, "") for n in record["request"]["secret_names"]]
        return redact(base.tail_lines(record["request"]["log_path"], tail).encode(), secrets).decode()

    def cancel(self, name: str, record_dir: Path) -> None:
        """``scancel``, and wait until the job has left the queue.

        Raises:
            JobFailed: it did not.
        """
        record = base.read_record(name, record_dir)
        if record is None or self.status(name, record_dir).state.finished:
            return
        job_id = record["handle"].get("job_id")
        if job_id:
            self._run("scancel", job_id)
            last = base.wait(self, name, record_dir, timeout_sec=90, poll_sec=0.5)
            if not last.state.finished:
                raise JobFailed(f"job {job_id} did not end", found=last.detail, hint="scancel --signal=KILL by hand")

    def retire(self, name: str, record_dir: Path) -> None:
        """Set a finished job aside, so that its name is free again.

        Raises:
            HardStop: the job still waits or runs.
        """
        if base.read_record(name, record_dir) is None:
            return
        if self.status(name, record_dir).state in (JobState.PENDING, JobState.RUNNING):
            raise HardStop(f"the job {name} still runs", hint="cancel it first")
        with base.name_lock(name, record_dir):
            base.set_aside(name, record_dir)

    def _submit_script(self, request: JobRequest, record_dir: Path, script: Path, secrets: Mapping[str, str]) -> None:
        # By name only: sbatch reads the values from its environment. Over SSH they come with the login node's own.
        export = ",".join(request.secret_names) or "NIL"
        try:
            answer = self._run("sbatch", "--parsable", f"--export={export}", str(script), environment=secrets)
        except NoAnswer:
            raise  # it may be queued: the record stays, and the next submission asks for a job of this name
        except Blocked:
            base.record_path(request.name, record_dir).unlink()  # refused: nothing was queued, the name stays free
            raise
        job_id = answer.strip().splitlines()[-1].split(";")[0] if answer.strip() else ""
        if not job_id.isdigit():
            raise Blocked("sbatch answered with no job id", found=quoted(answer))
        base.write_record(request, record_dir, self.name, job_id=job_id)

    def _adopt_by_name(self, request: JobRequest, record_dir: Path) -> bool:
        """Killed between ``sbatch`` and the second record: the scheduler, or the script's claim, knows the id."""
        claim = Path(record_dir) / f"{request.name}.claim"
        job_id = claim.read_text().strip() if claim.exists() else ""
        if not job_id:
            lines = self._run("squeue", "--noheader", "--name", request.name, "--me", "--format=%i").split()
            job_id = lines[0] if lines else ""
        if not job_id.isdigit():
            return False
        base.write_record(request, record_dir, self.name, job_id=job_id)
        return True

    def _ask(self, job_id: str) -> tuple[str, int | None]:
        """State and exit code: ``sacct`` where accounting is kept, else ``scontrol`` (which forgets after minutes)."""
        try:
            out = self._run("sacct", "-X", "-n", "-P", "-j", job_id, "--format=State,ExitCode")
        except Blocked:
            out = ""
        if out.strip():
            word, _, code = out.strip().splitlines()[-1].partition("|")
            return word.split()[0].rstrip("+"), _code(code)
        try:
            out = self._run("scontrol", "--oneliner", "show", "job", job_id)
        except Blocked as error:
            if "Invalid job id" in error.found:
                return "", None
            raise
        pairs = dict(word.split("=", 1) for word in out.split() if "=" in word)
        return pairs.get("JobState", ""), _code(pairs.get("ExitCode", ""))

    def _run(self, command: str, *arguments: str, environment: Mapping[str, str] | None = None) -> str:
        return run_command(self._options, command, *arguments, environment=environment)


PLATFORM = SlurmPlatform


class NoAnswer(Blocked):
    """A command went out and nobody knows what became of it."""


def run_command(
    options: Mapping[str, str],
    command: str,
    *arguments: str,
    environment: Mapping[str, str] | None = None,
    timeout_sec: int = _TIMEOUT_SEC,
) -> str:
    """Run one of SLURM's commands, here or on the login node.

    Raises:
        Blocked: absent or refused.
        NoAnswer: nothing in ``timeout_sec``, or the connection broke.
    """
    program = str(Path(options["bin_dir"]) / command) if "bin_dir" in options else command
    argv = [program, *arguments]
    if options.get("host"):
        argv = ["ssh", "-o", "BatchMode=yes", "-o", "ConnectTimeout=15", options["host"], "--", shlex.join(argv)]
    try:
        done = subprocess.run(
            argv,
            capture_output=True,
            text=True,
            timeout=timeout_sec,
            check=False,
            env={**os.environ, **(environment or {})},
            stdin=subprocess.DEVNULL,
        )
    except FileNotFoundError as error:
        hint = "run on a login node, or give --platform-option host=…"
        raise Blocked(f"the command {argv[0]} is not here", hint=hint) from error
    except subprocess.TimeoutExpired as error:
        raise NoAnswer(f"{command} did not answer in {timeout_sec} s", hint="check the scheduler") from error
    if options.get("host") and done.returncode == _SSH_BROKE:
        raise NoAnswer(
            f"the connection to {printable(options['host'])} failed",
            found=printable(done.stderr, 240),
            hint="check that ssh works without a prompt, then run the same command again",
        )
    if done.returncode != 0:
        raise Blocked(f"{command} failed", found=printable(done.stderr or done.stdout, 240), hint="read its message")
    return done.stdout


def import_image(reference: str, target: Path, options: Mapping[str, str]) -> None:
    """Import a registry image to a ``.sqsh`` file with Enroot on the login node, outside any allocation.

    Raises:
        Blocked: Enroot is absent or the import failed.
    """
    registry, _, rest = reference.partition("/")
    source = f"docker://{registry}#{rest}" if "." in registry and rest else f"docker://{reference}"
    try:
        run_command(
            {k: v for k, v in options.items() if k != "bin_dir"},
            "enroot",
            "import",
            "-o",
            str(target),
            source,
            timeout_sec=_IMPORT_SEC,
        )
    except Blocked as error:
        raise Blocked(
            f"the image {quoted(reference)} cannot be imported",
            found=f"{error.message} {error.found}".strip(),
            hint="import it by hand with Enroot and give --platform-option container_image=FILE.sqsh",
        ) from error


def _code(text: str) -> int | None:
    status, _, number = text.partition(":")
    if not status.isdigit():
        return None
    return 128 + int(number) if number.isdigit() and int(number) else int(status)


def _exit_code(name: str, record_dir: Path) -> int | None:
    path = Path(record_dir) / f"{name}.exit"
    try:
        text = path.read_text().strip()
    except FileNotFoundError:
        return None
    return int(text) if text.isdigit() else None


def probe(options: Mapping[str, str]) -> list[Finding]:
    """Read-only look at the scheduler: does it answer, which partitions and GPUs, is Pyxis there."""
    try:
        version = printable(run_command(options, "sinfo", "--version"))
        lines = run_command(options, "sinfo", "--noheader", "--format=%P|%a|%D|%G").splitlines()
    except Blocked as error:
        return [Finding("missing", f"{error.message} {error.found}".strip(), error.hint)]
    found = [Finding("ok", f"{version}; {len(lines)} partitions: {printable('; '.join(lines), 120)}")]
    if options.get("image"):
        found += _probe_pyxis(options)
    where = options.get("host")
    if where:
        found.append(
            Finding(
                "warn",
                f"the workspace must lie under the same path on {printable(where)} and on its compute nodes: nothing is copied",
                "use a shared file system",
            )
        )
    return found


def _probe_pyxis(options: Mapping[str, str]) -> list[Finding]:
    try:
        text: Any = run_command(options, "srun", "--help")
    except Blocked as error:
        return [Finding("missing", f"{error.message} {error.found}".strip(), error.hint)]
    if "--container-image" in text:
        return [Finding("ok", "Pyxis is installed (srun --container-image)")]
    return [
        Finding(
            "missing",
            "srun has no --container-image: Pyxis is not installed",
            "ask the cluster's administrator, or run without an image (--platform-option tao_python=…)",
        )
    ]
