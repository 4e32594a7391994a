"""One job: record, launch, wait, judge.

Record-then-launch: the job's deterministic name is in the record before anything starts. On resume a running job of that
name is waited for, a finished one adopted, never a second one started.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from deft_aoi import engines
from deft_aoi.contract import spec as specs
from deft_aoi.contract.errors import Canceled, JobFailed, JobLost
from deft_aoi.contract.files import sha256_file
from deft_aoi.contract.paths import RunPaths, data_home
from deft_aoi.contract.text import quoted
from deft_aoi.engines import success
from deft_aoi.loop.context import RunContext
from deft_aoi.platforms.base import JobRequest, JobState, JobStatus, Platform, read_record
from deft_aoi.record import log

if TYPE_CHECKING:
    from deft_aoi.engines.success import Evidence

POLL_SEC = 0.2
POLL_SEC_REMOTE = 2.0
UNKNOWN_LIMIT_SEC = 120.0
"""How long a platform may not know a job before the wait ends (a scheduler's daemon restarts within this)."""
REASON_FIRST_SEC, REASON_EVERY_SEC = 60.0, 600.0
"""A reason that keeps a job from running is said after the first, then each time the second has passed."""


@dataclass(frozen=True)
class Job:
    """What a stage wants to have run.

    Attributes:
        label: iteration.
        stage: stage in the record.
        job: the job within the stage (inference has two); enters the name.
        attempt: counts the deliberate retries of a failed stage.
        kind: ``train``, ``inference`` or ``embedding``: what success means.
        spec: the derived spec (absolute).
        overrides: command-line overrides; they name the outputs.
        out: the output folder (or Parquet file) that the evidence is looked for in.
        writable: the attempt's folder.
        log_path: our copy of the job's output.
        rows: rows that the output must have.
        model: local files beside the workspace that the job reads (a model folder).
        reads: derived files beside the spec that the job reads, put on record with it.
        at_launch: further overrides, asked for right before a launch and never when a job is adopted: a training that was
            interrupted clears what it left and names the checkpoint to resume from.
    """

    label: str
    stage: str
    job: str
    attempt: int
    kind: str
    spec: Path
    overrides: tuple[str, ...]
    out: Path
    writable: Path
    log_path: Path
    rows: int | None = None
    model: Path | None = None
    reads: tuple[Path, ...] = ()
    at_launch: Callable[[], tuple[str, ...]] | None = None


def job_name(ctx: RunContext, job: Job) -> str:
    """``deft-<run>-<phase>-<stage>-<job>`` as a DNS-1123 label; a retry adds ``-aN``."""
    parts = [ctx.run.root.name.removeprefix("run_"), job.label, job.stage, job.job]
    name = "deft-" + "-".join(p for p in parts if p) + (f"-a{job.attempt}" if job.attempt > 1 else "")
    return re.sub(r"[^a-z0-9-]", "-", name.lower())[:63].strip("-")


def run_job(ctx: RunContext, job: Job) -> Evidence:
    """Start the job or find it again, wait for it, and decide from evidence whether it did its work.

    Raises:
        JobLost: it ended without an exit code (its host restarted), or was canceled while no driver ran.
        Canceled: it was canceled while this driver waited for it.
        JobFailed: with a known error's id, its cause and its fix.
        HardStop: the image is not the approved one.
    """
    name = job_name(ctx, job)
    found = ctx.platform.status(name, ctx.run.jobs).state
    if found == JobState.UNKNOWN:
        if not is_in_log(ctx, name):
            log.append(
                ctx.run.root,
                iter_label=job.label,
                stage=job.stage,
                status="started",
                summary=f"job {name} on {ctx.config.platform}",
                data={
                    "job": name,
                    "attempt": job.attempt,
                    "platform": ctx.config.platform,
                    "engine": ctx.config.engine,
                    "files": {ctx.run.rel(path): sha256_file(path) for path in (job.spec, *job.reads)},
                },
                op_id=f"{job.label}/{job.stage}/{job.attempt}/start/{job.job}",
            )
        ctx.platform.submit(_request(ctx, job, name), ctx.run.jobs)
    if found == JobState.CANCELED:  # who continues the run wants it to go on
        raise JobLost(f"the job {name} was canceled while no driver ran", hint="run the same command again: the job is repeated")
    status = _wait(ctx, name, job)
    require_not_lost(ctx, name, status)
    evidence = success.check(
        job.kind,
        job.out,
        exit_code=status.exit_code,
        log_path=job.log_path,
        launched_ns=status.started_ns or 0,
        expected_rows=job.rows,
        reason=status.detail if status.state != JobState.COMPLETE else "",
    )
    for warning in evidence.warnings:
        ctx.say(f"  warning [{warning.id}]: {warning.cause}; {warning.fix}")
    return evidence


def require_not_lost(ctx: RunContext, name: str, status: JobStatus) -> None:
    """Raise for a job that somebody canceled, or that ended without an exit code: its host or its place went away.

    Raises:
        Canceled: it was canceled.
        JobLost: it was, and whatever its scheduler would run again by itself has been ended: never two jobs for one folder.
        Blocked: nobody knows whether it still runs.
    """
    if status.state == JobState.CANCELED:
        raise canceled(f"the job {name} was canceled" + (" by the user" if cancel_request(ctx.run).exists() else ""))
    if status.state == JobState.ERROR and status.exit_code is None and not status.detail.startswith("time limit"):
        ctx.platform.cancel(name, ctx.run.jobs)
        raise JobLost(
            f"the job {name} was lost",
            found=quoted(status.detail, 160),
            hint="run the same command again: the job is repeated",
        )


def cancel_request(run: RunPaths) -> Path:
    """A file that asks the driver to end before its next stage; whoever drives next removes it."""
    return run.run / "cancel"


def canceled(message: str) -> Canceled:
    """The error of what somebody stopped; nothing has failed."""
    return Canceled(message, hint="to go on, run the same command again: the stage is repeated, a training resumes")


def is_in_log(ctx: RunContext, name: str) -> bool:
    return any(e["status"] == "started" and e["data"].get("job") == name for e in ctx.events())


def _request(ctx: RunContext, job: Job, name: str) -> JobRequest:
    config, options = ctx.config, dict(ctx.config.platform_options)
    image = ctx.plan["images"].get("embedding" if job.kind == "embedding" else "visual_changenet") or {}
    reference, pinned, known = image.get("reference"), None, read_record(name, ctx.run.jobs)
    if reference:
        from deft_aoi.engines.container_images import pinned_image
        from deft_aoi.loop import container_image_files

        pinned = pinned_image(image, ctx.events() if not (image.get("id") or image.get("digest")) else ())
        file = container_image_files.image_file(ctx.config, ctx.workspace, reference)
        if file is not None:
            reference = str(file)
            if known is None:
                container_image_files.require_same_image_file(file, ctx.events())
    python = options.get("tao_python") if config.engine == "tao" else None
    tool, subtask = ("embedding", "image_embeddings") if job.kind == "embedding" else ("visual_changenet", job.kind)
    if known is not None:
        argv = tuple(known["request"]["argv"])  # it may be running, unseen: nothing it works with is touched
    else:
        overrides = job.overrides + (job.at_launch() if job.at_launch is not None else ())
        argv = engines.command(config.engine, tool, subtask, job.spec, overrides, python, container=bool(image))
    return JobRequest(
        name=name,
        argv=argv,
        cwd=str(job.writable),
        log_path=str(job.log_path),
        env=engines.environment(config.engine),
        gpus=_gpus(ctx, job.kind),
        read_only=(ctx.workspace.root, *((job.model,) if job.model is not None else ())),
        writable=(job.writable,),
        image=reference,
        image_digest=pinned,
        python=python,
    )


def _gpus(ctx: RunContext, kind: str) -> tuple[str, ...] | int:
    """A training's GPUs; everything else takes one, the first: inference on several puts scores on the wrong rows."""
    if ctx.config.gpu_ids:
        ids = tuple(str(g) for g in ctx.config.gpu_ids)
        return ids if kind == "train" else ids[:1]
    return (
        int(ctx.config.num_gpus) if kind == "train" and ctx.config.engine == "tao" else one_gpu(ctx.config.engine, ctx.platform)
    )


def one_gpu(engine: str, platform: Platform) -> int:
    """GPUs of a job that takes one at most: TAO needs it, the embedded engine uses this machine's where there is one."""
    if engine == "tao":
        return 1
    from deft_aoi.platforms import gpus

    return 1 if platform.uses_this_machines_gpus and gpus.inventory() else 0


def _wait(ctx: RunContext, name: str, job: Job) -> JobStatus:
    shown = ""

    def progress(_status: JobStatus) -> None:
        nonlocal shown
        line = success.progress(job.out) if job.kind == "train" else ""
        if line and line != shown:
            shown = line
            ctx.progress(f"{job.label} {job.stage}: {line}")

    return wait_for_job(
        ctx.platform,
        name,
        ctx.run.jobs,
        progress=progress,
        say=ctx.say,
        poll_sec=POLL_SEC if ctx.config.platform == "local" else POLL_SEC_REMOTE,
        queue_limit_min=getattr(ctx.config, "queue_limit", None),
    )


def wait_for_job(
    platform: Platform,
    name: str,
    record_dir: Path,
    *,
    progress: Callable[[JobStatus], None],
    say: Callable[[str], None],
    poll_sec: float = POLL_SEC_REMOTE,
    queue_limit_min: int | None = None,
) -> JobStatus:
    """Wait until the job has finished; why it does not run yet is said after a minute and then every ten.

    Args:
        platform: where it runs.
        name: the job.
        record_dir: folder of job files.
        progress: called at every look.
        say: takes one line for a person.
        poll_sec: pause between two looks.
        queue_limit_min: minutes that it may wait to start; no limit without it.

    Raises:
        JobFailed: the platform does not know the job any more, or it waited too long and was canceled.
    """
    since, held, said_at = time.monotonic(), "", 0.0
    queued_since: float | None = None
    while True:
        status, now = platform.status(name, record_dir), time.monotonic()
        if status.state.finished:
            return status
        if status.state == JobState.RUNNING:
            held, queued_since = "", None
        else:
            queued_since = now if queued_since is None else queued_since
            reason = f"{status.state.value.lower()}: {quoted(status.detail or 'no reason given', 160)}"
            if reason != held:
                held, since, said_at = reason, now, now - REASON_EVERY_SEC + REASON_FIRST_SEC
            elif now - said_at >= REASON_EVERY_SEC:
                said_at = now
                say(f"  job {name} {reason}, for {(now - since) / 60:.0f} min")
            if status.state == JobState.UNKNOWN and now - since > UNKNOWN_LIMIT_SEC:
                raise JobFailed(
                    f"{platform.name} does not know the job {name}",
                    found=quoted(status.detail, 160),
                    hint="check the platform, then run the same command again",
                )
            if queue_limit_min is not None and now - queued_since > queue_limit_min * 60:
                platform.cancel(name, record_dir)
                raise JobFailed(
                    f"the job {name} waited {queue_limit_min} minutes and did not start",
                    expected=f"a start within --queue-limit {queue_limit_min}",
                    found=quoted(status.detail, 160),
                    hint="remove the cause or choose a longer limit, then run the same command again",
                )
        progress(status)
        time.sleep(poll_sec)


def write_spec(ctx: RunContext, label: str, name: str, spec: specs.Spec) -> Path:
    """Write a derived spec below ``run/specs``."""
    folder = ctx.run.run / "specs"
    folder.mkdir(exist_ok=True)
    path = folder / f"{label}-{name}.yaml"
    specs.dump_spec(spec, path)
    return path


def model_cache() -> str:
    """Folder of downloaded models: ``HF_HOME`` or the user's data folder."""
    return os.environ.get("HF_HOME") or str(data_home() / "models")
