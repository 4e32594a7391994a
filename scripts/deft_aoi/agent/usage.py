"""Token usage per stage, from the transcripts of the session that drove a run.

Claude Code writes one API message on several lines, and again into the files of subagents and resumed sessions: a
message counts once, by ``message.id`` over all files, with the field-wise maximum of what its lines say. Each message
belongs to the stage in whose window it lies: a window ends with the stage's ``ok`` event and begins where the one
before it ended; the first begins with the run's approval. Messages outside the run are not counted.
"""

from __future__ import annotations

import json
import os
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from deft_aoi.contract.errors import Blocked, DeftError, HardStop, UsageError

LONGEST_SLUG = 200
"""Claude Code cuts the name of a project's folder here and adds a hash of the whole path."""

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
        roots.append(project_folder(cwd))
    if not roots:
        raise UsageError("no transcripts are named", expected="--transcript, --project-dir or --cwd", found="none")
    found: dict[Path, None] = {}
    for root in roots:
        paths = sorted(root.rglob("*.jsonl")) if root.is_dir() else [root]
        if root.is_file():
            paths += _subagents_of(root)
        for path in paths:
            if path.is_file():
                found[path.resolve()] = None
    if not found:
        raise Blocked("no transcript is there", expected="a .jsonl file", found=", ".join(str(r) for r in roots)[:300])
    return list(found)


def project_folder(cwd: Path) -> Path:
    """Claude Code's folder of the sessions that were started in ``cwd``, as its 2.x releases name it.

    Whatever is no ASCII letter or digit becomes a dash, one for each UTF-16 unit; a name of more than 200 characters is
    cut there and gets the path's 32-bit string hash in base 36. ``CLAUDE_CONFIG_DIR`` replaces ``~/.claude``.
    """
    path = str(cwd.expanduser().resolve())
    slug = "".join(c if c.isascii() and c.isalnum() else "-" * (1 + (ord(c) > 0xFFFF)) for c in path)
    if len(slug) > LONGEST_SLUG:
        units = path.encode("utf-16-le")
        whole = 0
        for at in range(0, len(units), 2):
            whole = (31 * whole + int.from_bytes(units[at : at + 2], "little")) & 0xFFFFFFFF
        slug = f"{slug[:LONGEST_SLUG]}-{_base36(min(whole, 2**32 - whole))}"
    return Path(os.environ.get("CLAUDE_CONFIG_DIR") or Path.home() / ".claude") / "projects" / slug


def _base36(value: int) -> str:
    digits = ""
    while value or not digits:
        value, digit = divmod(value, 36)
        digits = "0123456789abcdefghijklmnopqrstuvwxyz"[digit] + digits
    return digits


def _subagents_of(session: Path) -> list[Path]:
    """Files of a session's subagents: in a folder of its name; earlier releases put them beside it, with its id inside."""
    found = sorted(session.with_suffix("").rglob("*.jsonl")) if session.with_suffix("").is_dir() else []
    for path in sorted(session.parent.glob("agent-*.jsonl")):
        first = next(_entries(path, Collected()), {})
        if first.get("sessionId") == session.stem:
            found.append(path)
    return found


def collect(files: Iterable[Path]) -> Collected:
    """Reads every file; a message counts once whichever lines and files repeat it."""
    out = Collected()
    for path in files:
        out.files += 1
        before = out.lines
        for entry in _entries(path, out):
            message, ts = _usage_of(entry, out.lines - before)
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
                known[kind] = max(known[kind], _count(message["usage"].get(kind)))
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
            "partial_lines": collected.partial_lines,
            "synthetic": collected.synthetic,
            "without_usage": collected.without_usage,
        },
        "files": collected.files,
    }


def write_usage(results_dir: Path, found: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Writes ``run/usage.json``: a log line has 4096 bytes, a long run more stages than fit.

    The number of messages outside the run grows while the session goes on. A file whose stages are the same is therefore kept as
    it is, so that a repetition adds no second event.

    Returns:
        (what the file holds, what the ``usage`` event carries: the file, its digest and the totals).
    """
    from deft_aoi.contract.files import atomic_write_json, read_json, sha256_file

    path = results_dir / "run" / "usage.json"
    path.parent.mkdir(exist_ok=True)
    try:
        kept = read_json(path, what="token usage") if path.is_file() else {}
    except DeftError:
        kept = {}
    if kept.get("stages") != found["stages"] or set(kept) != set(found):
        atomic_write_json(path, found)
        kept = found
    event = {"file": "run/usage.json", "sha256": sha256_file(path), "total": kept["total"], "stages": len(kept["stages"])}
    return kept, event


def sentence(found: dict[str, Any]) -> str:
    """One line for a person and for the record."""
    total, outside = found["total"], found["outside"]
    read = total["input_tokens"] + total["cache_creation_input_tokens"] + total["cache_read_input_tokens"]
    return (
        f"{total['messages']} messages in {len(found['stages'])} stages: {total['output_tokens']:,} output, "
        f"{read:,} input tokens (cached ones included); {outside['before'] + outside['after']} messages outside the run, "
        f"{sum(found['skipped'].values())} lines skipped"
    )


def _entries(path: Path, out: Collected) -> Iterator[dict[str, Any]]:
    with path.open("rb") as handle:
        for raw in handle:
            out.lines += 1
            try:
                entry = json.loads(raw)
            except (ValueError, RecursionError):
                out.partial_lines += 1  # a session that was killed, or is being written; no transcript is nested deep
                continue
            if isinstance(entry, dict):
                yield entry


def _count(value: Any) -> int:
    """A count of tokens; 0 for what is none."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0


def _usage_of(entry: dict[str, Any], number: int) -> tuple[dict[str, Any] | None, float | None]:
    """The message and time of one line: Claude Code's, or a turn of this skill's own runner.

    A turn of the runner has no id: the same line at the same place in a copy of the file is the same turn.
    """
    if entry.get("type") == "assistant" and isinstance(entry.get("message"), dict):
        message = entry["message"]
        name = message.get("id") or entry.get("uuid")
        usage = message.get("usage") if isinstance(message.get("usage"), dict) else {}
    elif isinstance(entry.get("reply"), dict) and "ts" in entry:
        message, usage = entry["reply"], entry["reply"].get("usage")
        usage = usage if isinstance(usage, dict) else {}
        name = f"{number}:{json.dumps(entry, sort_keys=True)}"
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
