"""Token usage per stage, from the transcripts of the session that drove a run.

Claude Code writes one API message on several lines, and again into the files of subagents and resumed sessions: a
message counts once, by ``message.id`` over all files, with the field-wise maximum of what its lines say. Each message
belongs to the stage in whose window it lies: a window ends with the stage's ``ok`` event and begins where the one
before it ended; the first begins with the run's approval. What lies outside the run is not the run's.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from deft_aoi.contract.errors import Blocked, HardStop, UsageError

KINDS = ("input_tokens", "output_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")


@dataclass
class Collected:
    """Messages by id, and what was left out."""

    messages: dict[str, dict[str, Any]] = field(default_factory=dict)
    files: int = 0
    lines: int = 0
    partial_lines: int = 0
    synthetic: int = 0
    without_usage: int = 0


def transcript_files(transcripts: list[Path], project_dir: Path | None, cwd: Path | None) -> list[Path]:
    """The transcript files to read, subagents' files included.

    Args:
        transcripts: files or folders that were named.
        project_dir: Claude Code's folder of one project.
        cwd: the folder in which the session ran; its project folder is found by Claude Code's own naming.

    Raises:
        UsageError: nothing was named. Blocked: nothing is there.
    """
    roots = list(transcripts)
    if project_dir is not None:
        roots.append(project_dir)
    if cwd is not None:
        slug = re.sub(r"[^A-Za-z0-9]", "-", str(cwd.resolve()))
        roots.append(Path.home() / ".claude" / "projects" / slug)
    if not roots:
        raise UsageError("no transcripts are named", expected="--transcript, --project-dir or --cwd", found="none")
    found: dict[Path, None] = {}
    for root in roots:
        paths = sorted(root.rglob("*.jsonl")) if root.is_dir() else [root]
        if root.is_file():  # a session's subagents lie in a folder of the session's name beside its file
            paths += sorted(root.with_suffix("").rglob("*.jsonl")) if root.with_suffix("").is_dir() else []
        for path in paths:
            if path.is_file():
                found[path.resolve()] = None
    if not found:
        raise Blocked("no transcript is there", expected="a .jsonl file", found=", ".join(str(r) for r in roots)[:300])
    return list(found)


def collect(files: Iterable[Path]) -> Collected:
    """Reads every file; a message counts once whichever lines and files repeat it."""
    out = Collected()
    for path in files:
        out.files += 1
        for entry in _entries(path, out):
            message, ts = _usage_of(entry, path)
            if message is None or ts is None:
                continue
            if message["model"] == "<synthetic>":
                out.synthetic += 1
                continue
            if not message["usage"]:
                out.without_usage += 1
                continue
            known = out.messages.setdefault(message["id"], {"ts": ts, **dict.fromkeys(KINDS, 0)})
            known["ts"] = min(known["ts"], ts)
            for kind in KINDS:
                known[kind] = max(known[kind], int(message["usage"].get(kind) or 0))
    return out


def windows(events: list[dict[str, Any]]) -> list[tuple[float, str]]:
    """(end, ``iter/stage``) of each stage in the record's order, after a first entry that is the run's beginning.

    Raises:
        HardStop: the record does not begin with an approval.
    """
    if not events or events[0].get("stage") != "approve":
        raise HardStop("the record does not begin with an approval", expected="stage approve at seq 1", found="something else")
    bounds = [(_seconds(events[0]["ts"]), "")]
    for event in events[1:]:
        if event["status"] == "ok" and event["stage"] not in ("note", "usage"):
            bounds.append((max(_seconds(event["ts"]), bounds[-1][0]), f"{event['iter']}/{event['stage']}"))
    return bounds


def align(events: list[dict[str, Any]], collected: Collected) -> dict[str, Any]:
    """Assigns the messages to stages.

    Returns:
        ``{stages: {"iter1/train": {…, messages}}, total: {…}, outside: {before, after}, skipped: {…}}``.
    """
    bounds = windows(events)
    ends = [end for end, _ in bounds]
    stages: dict[str, dict[str, int]] = {}
    before = after = 0
    for message in collected.messages.values():
        if message["ts"] < ends[0]:
            before += 1
            continue
        at = bisect_left(ends, message["ts"])
        if at >= len(ends):
            after += 1
            continue
        name = bounds[max(at, 1)][1] if len(bounds) > 1 else ""
        if not name:
            after += 1
            continue
        row = stages.setdefault(name, {**dict.fromkeys(KINDS, 0), "messages": 0})
        row["messages"] += 1
        for kind in KINDS:
            row[kind] += message[kind]
    total = {key: sum(row[key] for row in stages.values()) for key in (*KINDS, "messages")}
    return {
        "stages": stages,
        "total": total,
        "outside": {"before": before, "after": after},
        "skipped": {
            "partial_lines": collected.partial_lines, "synthetic": collected.synthetic,
            "without_usage": collected.without_usage,
        },
        "files": collected.files,
    }  # fmt: skip


def read_events(log: Path) -> list[dict[str, Any]]:
    """The record's events, as written; the writer checks the chain, this only reads.

    Raises:
        Blocked: no such log. HardStop: a line is damaged.
    """
    try:
        lines = log.read_text(encoding="utf-8").splitlines()
        return [json.loads(line) for line in lines if line.strip()]
    except FileNotFoundError as error:
        raise Blocked("no such log", expected="RESULTS_DIR/loop_log.jsonl", found=str(log)) from error
    except ValueError as error:
        raise HardStop("the log is damaged", expected="JSON lines", found=str(log), hint="run verify_run.py") from error


def write_usage(results_dir: Path, found: dict[str, Any]) -> dict[str, Any]:
    """Writes ``run/usage.json``: a log line has 4096 bytes, a long run more stages than fit.

    Returns:
        What the ``usage`` event carries: the file, its digest and the totals.
    """
    from deft_aoi.contract.files import atomic_write_json, sha256_file

    path = results_dir / "run" / "usage.json"
    path.parent.mkdir(exist_ok=True)
    atomic_write_json(path, found)
    return {"file": "run/usage.json", "sha256": sha256_file(path), "total": found["total"], "stages": len(found["stages"])}


def _entries(path: Path, out: Collected) -> Iterator[dict[str, Any]]:
    with path.open("rb") as handle:
        for raw in handle:
            out.lines += 1
            try:
                entry = json.loads(raw)
            except ValueError:
                out.partial_lines += 1  # a session that was killed, or is being written
                continue
            if isinstance(entry, dict):
                yield entry


def _usage_of(entry: dict[str, Any], path: Path) -> tuple[dict[str, Any] | None, float | None]:
    """The message and time of one line: Claude Code's, or a turn of this skill's own runner."""
    if entry.get("type") == "assistant" and isinstance(entry.get("message"), dict):
        message = entry["message"]
        name = message.get("id") or entry.get("uuid")
        usage = message.get("usage") if isinstance(message.get("usage"), dict) else {}
    elif isinstance(entry.get("reply"), dict) and "ts" in entry:
        message, usage = entry["reply"], entry["reply"].get("usage") or {}
        name = f"{path}:{json.dumps(entry, sort_keys=True)}"
    else:
        return None, None
    ts = entry.get("timestamp") or entry.get("ts")
    if not name or not isinstance(ts, str):
        return None, None
    try:
        return {"id": str(name), "model": str(message.get("model", "")), "usage": usage}, _seconds(ts)
    except ValueError:
        return None, None


def _seconds(ts: str) -> float:
    moment = datetime.fromisoformat(ts.replace("Z", "+00:00"))
    return (moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)).timestamp()
