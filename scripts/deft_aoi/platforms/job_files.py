"""Files of one job beside its record: how it ended, and the tail of its log. Docker, Kubernetes and local jobs share them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deft_aoi.contract import files
from deft_aoi.contract.programs import as_text
from deft_aoi.contract.safe_open import open_regular
from deft_aoi.platforms.base import JobState, JobStatus


def job_file(name: str, record_dir: Path, kind: str) -> Path:
    """``<record_dir>/<name>.<kind>.json``."""
    return Path(record_dir) / f"{name}.{kind}.json"


def read_job_file(name: str, record_dir: Path, kind: str) -> dict[str, Any] | None:
    """Its content; ``None`` where there is none.

    Raises:
        HardStop: it is damaged.
    """
    path = job_file(name, record_dir, kind)
    return files.read_json(path, what=f"the {kind} file of job {name}") if path.exists() else None


def write_end(name: str, record_dir: Path, exit_code: int | None, reason: str) -> dict[str, Any]:
    """Write down how the job ended, once: ``reason`` is empty where the exit code says it all."""
    end = {"version": 1, "exit_code": exit_code, "reason": reason}
    files.atomic_write_json(job_file(name, record_dir, "exit"), end)
    return end


def ended_status(end: Mapping[str, Any], started_ns: int | None, *, canceled: bool = False) -> JobStatus:
    """The status of a job that has ended; ``canceled``: somebody asked for its end before it came."""
    code, reason = end.get("exit_code"), str(end.get("reason") or "")
    if reason == "canceled" or (canceled and code != 0):
        return JobStatus(JobState.CANCELED, code, "canceled", started_ns)
    if code == 0 and not reason:
        return JobStatus(JobState.COMPLETE, 0, "", started_ns)
    return JobStatus(JobState.ERROR, code, reason or f"exit code {code}", started_ns)


def log_tail(path: str | Path, lines: int = 200, limit_bytes: int = 1 << 20) -> str:
    """The last lines of a job's log (untrusted text), reading at most ``limit_bytes``; empty where there is no log."""
    try:
        with os.fdopen(open_regular(path), "rb") as handle:  # the job may have put a link in the log's place
            size = handle.seek(0, os.SEEK_END)
            handle.seek(max(0, size - limit_bytes))
            return "\n".join(as_text(handle.read()).splitlines()[-lines:])
    except FileNotFoundError:
        return ""
