"""The SLURM platform: one batch job a job, submitted on the login node or over SSH.

The workspace and the job records lie on a file system that the login node and the compute nodes share, under the same
path; nothing is copied. The batch script is written beside the record. It claims the job's name before it does anything
(two submissions of one name never run two trainings), survives a requeue (same job id, same claim), and writes the exit
code as its last act. With an image the command runs through Pyxis (``srun --container-image``); without one it runs as it
is. Images are imported before the allocation, never inside it: GPUs do not wait for a download.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deft_aoi.contract import files
from deft_aoi.contract.errors import Blocked, JobFailed
from deft_aoi.contract.programs import as_text, run_program
from deft_aoi.contract.text import printable, quoted
from deft_aoi.platforms import base
from deft_aoi.platforms.base import Finding, JobRequest, JobState, JobStatus
from deft_aoi.platforms.slurm_script import OPTIONS_IN_SCRIPT, render
from deft_aoi.platforms.slurm_states import Judgement, Seen, judge

OPTIONS = ("host", "bin_dir", "tao_python", "image", "embedding_image", *OPTIONS_IN_SCRIPT)

_TIMEOUT_SEC = 60
_SSH_BROKE = 255  # ssh's own failures; a remote command's code comes through as it is
_IMPORT_SEC = 3600  # TAO's images are some 20 GB
_CANCEL_LOOKS = 180  # half a second apart; KillWait is 30 s by default


class SlurmPlatform:
    """Runs jobs through ``sbatch``.

    Options: ``host`` (SSH login node; commands run here without it), ``bin_dir`` (folder of SLURM's commands), and those of
    the script (see :mod:`deft_aoi.platforms.slurm_script`).
    """

    name = "slurm"
    uses_this_machines_gpus = False

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
        """What exit file, controller and accounting say together (see :mod:`deft_aoi.platforms.slurm_states`)."""
        record = base.read_record(name, record_dir)
        if record is None:
            return JobStatus(JobState.UNKNOWN, detail="no such job")
        # The record is written again once the job id is known; the script's time is that of the launch.
        script = Path(record_dir) / f"{name}.sbatch"
        started = script.stat().st_mtime_ns if script.exists() else base.launched_ns(name, record_dir)
        job_id = record["handle"].get("job_id")
        if not job_id:
            return JobStatus(JobState.UNKNOWN, detail="recorded, but not known to be submitted", started_ns=started)
        return JobStatus(*self._judged(name, record_dir, record["handle"]), started_ns=started)

    def _judged(self, name: str, record_dir: Path, handle: Mapping[str, Any]) -> Judgement:
        job_id = handle["job_id"]
        if _exit_code(name, record_dir) == 0:
            return judge(job_id, 0, None, None)
        controller = self._controller(handle)
        accounting = None if controller is not None and controller.word else self._accounting(handle)
        return judge(job_id, _exit_code(name, record_dir), controller, accounting)

    def cancel(self, name: str, record_dir: Path) -> None:
        """``scancel``, and wait until the job has left the queue: what SLURM would run again is ended as well.

        Raises:
            Blocked: the controller does not answer, so it is not known whether the job runs.
            JobFailed: it did not end.
        """
        record = base.read_record(name, record_dir)
        handle = record["handle"] if record is not None else {}
        if not handle.get("job_id") or _exit_code(name, record_dir) == 0 or not self._must_know(handle).is_active:
            return
        self._run("scancel", *_clusters(handle), handle["job_id"])
        for _look in range(_CANCEL_LOOKS):
            if not self._must_know(handle).is_active:
                return
            time.sleep(0.5)
        raise JobFailed(f"job {handle['job_id']} did not end", hint=f"run: scancel --signal=KILL {handle['job_id']}")

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
        job_id, _, cluster = (answer.strip().splitlines() or [""])[-1].partition(";")
        if not job_id.isdigit():
            raise Blocked("sbatch answered with no job id", found=quoted(answer))
        base.write_record(request, record_dir, self.name, job_id=job_id, **({"cluster": cluster} if cluster else {}))

    def _adopt_by_name(self, request: JobRequest, record_dir: Path) -> bool:
        """Killed between ``sbatch`` and the second record: the scheduler, or the script's claim, knows the id."""
        claim = Path(record_dir) / f"{request.name}.claim"
        job_id = as_text(claim.read_bytes()).strip() if claim.exists() else ""
        if not job_id:
            words = self._run("squeue", "--noheader", "--name", request.name, "--me", "--format=%i").split()
            job_id = next((w for w in words if w.isdigit()), "")
        if not job_id.isdigit():
            return False
        base.write_record(request, record_dir, self.name, job_id=job_id)
        return True

    def _controller(self, handle: Mapping[str, Any]) -> Seen | None:
        """What ``scontrol`` says: of a job that it does not know an empty word, ``None`` where it does not answer."""
        try:
            out = self._run("scontrol", *_clusters(handle), "--oneliner", "show", "job", handle["job_id"])
        except Blocked as error:
            return Seen() if "invalid job id" in error.found.lower() else None
        line = next((one for one in out.splitlines() if one.lstrip().startswith("JobId=")), "")
        pairs = dict(word.split("=", 1) for word in reversed(line.split()) if "=" in word)  # the first of a key counts
        if "JobState" not in pairs:
            return None
        restarts = pairs.get("Restarts", "")
        return Seen(
            printable(pairs["JobState"], 40),
            _code(pairs.get("ExitCode", "")),
            printable(pairs.get("Reason", ""), 60),
            int(restarts) if restarts.isdigit() else 0,
        )

    def _accounting(self, handle: Mapping[str, Any]) -> Seen | None:
        """What ``sacct`` says; ``None`` where it does not answer or has no line yet."""
        try:
            out = self._run("sacct", *_clusters(handle), "-X", "-n", "-P", "-j", handle["job_id"], "--format=State,ExitCode")
        except Blocked:
            return None
        lines = [line for line in out.splitlines() if "|" in line]  # a login node's banner has none
        if not lines:
            return None
        word, _, code = lines[-1].strip().partition("|")
        return Seen(printable(word.split()[0].rstrip("+"), 40) if word.split() else "", _code(code))

    def _must_know(self, handle: Mapping[str, Any]) -> Seen:
        seen = self._controller(handle)
        if seen is None:
            raise Blocked(
                f"SLURM's controller does not answer, so nobody knows whether job {handle['job_id']} runs",
                hint="check scontrol ping, then run the same command again",
            )
        return seen

    def _run(self, command: str, *arguments: str, environment: Mapping[str, str] | None = None) -> str:
        return run_command(self._options, command, *arguments, environment=environment)


PLATFORM = SlurmPlatform


def _clusters(handle: Mapping[str, Any]) -> tuple[str, ...]:
    """Which cluster of a federation took the job (``sbatch --parsable`` answers ``42;alpha``)."""
    return (f"--clusters={handle['cluster']}",) if handle.get("cluster") else ()


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
        done = run_program(argv, timeout_sec=timeout_sec, env={**os.environ, **(environment or {})})
    except FileNotFoundError as error:
        hint = "run on a login node, or give --platform-option host=…"
        raise Blocked(f"command {argv[0]} not found", hint=hint) from error
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
    with contextlib.suppress(OSError):
        next(Path(record_dir).iterdir(), None)  # on NFS this host may remember that the file was not there
    try:
        text = as_text(path.read_bytes()).strip()
    except FileNotFoundError:
        return None
    return int(text) if text.isascii() and text.isdigit() else None


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
