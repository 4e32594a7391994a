"""Replays transcripts: the loopback server plays the model, everything else is real.

The session runs as a child process with its home, state folder and copy of the workspace. Nothing but
loopback can be reached from it or from any Python process that it starts: an audit hook refuses every other address.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deft_aoi.agent.replay_server import ReplayServer, Script
from deft_aoi.agent.transcript import Transcript
from deft_aoi.agent.usage import KINDS
from deft_aoi.contract.errors import UsageError
from deft_aoi.contract.programs import run_program
from deft_aoi.contract.schema import bundle_root

MODEL = "replay-model"

LOOPBACK_ONLY = '''"""Put first on PYTHONPATH by a replay: no socket of this process leaves the machine."""
import sys


def _audit(event, args):
    if event in ("socket.connect", "socket.sendto"):
        address = args[1]
        if isinstance(address, tuple) and not (address[0].startswith("127.") or address[0] in ("::1", "localhost")):
            raise PermissionError(f"a replay reaches nothing but loopback, not {address[0]}")
    elif event == "socket.getaddrinfo" and args[0] not in (None, "127.0.0.1", "::1", "localhost", b"127.0.0.1"):
        raise PermissionError(f"a replay resolves nothing but loopback, not {args[0]}")


sys.addaudithook(_audit)
'''


@dataclass
class Replayed:
    """What one replay gave; ``problems`` is empty where it passed."""

    name: str
    problems: list[str] = field(default_factory=list)
    tool_calls: int = 0
    tool_bytes: int = 0
    billed_tokens: int | None = None
    conversations: int = 0
    exit_code: int = -1
    results_dir: str | None = None

    def line(self) -> str:
        """One line for a person."""
        verdict = "ok" if not self.problems else "FAILED"
        billed = "tokens unknown (no usage recorded)" if self.billed_tokens is None else f"{self.billed_tokens:,} billed tokens"
        return (
            f"{verdict:6} {self.name}: exit {self.exit_code}, {self.tool_calls} tool calls, "
            f"{self.tool_bytes} bytes of tool output, {self.conversations} conversations, {billed}"
        )


def replay(transcript: Transcript, workspace: Path, *, home: Path | None = None, timeout_sec: float = 1800) -> Replayed:
    """Plays one transcript.

    Args:
        transcript: what the model says, and what it must be asked.
        workspace: a workspace that the session may change.
        home: the session's home folder, kept; a temporary one is made and removed where None.
        timeout_sec: bound on the whole session.

    Returns:
        The outcome; drift, turns left over, answers nobody asked for and a wrong ending are problems.
    """
    header = transcript.header
    result = Replayed(str(header.get("name") or transcript.path.stem), billed_tokens=billed_tokens(transcript))
    own = Path(tempfile.mkdtemp(prefix="deft-replay-")) if home is None else home
    values = {"workspace": str(workspace), "home": str(own)}
    runs = sorted((workspace / "results").glob("run_*"))
    if len(runs) == 1:  # a session that continues a run
        values["run"] = str(runs[0])
    script = Script(transcript, values)
    try:
        with ReplayServer(script) as server:
            done = run_program(
                [sys.executable, str(bundle_root() / "scripts" / "run_agent.py"), *_arguments(header, workspace, own)],
                env=_environment(own, server.url),
                cwd=str(own),
                stdin="".join(f"{a}\n" for a in header.get("answers", [])),
                timeout_sec=timeout_sec,
            )
        result.exit_code = done.returncode
        if script.drift:
            result.problems.append(script.drift)
        if script.at < len(transcript.turns):
            result.problems.append(
                f"{len(transcript.turns) - script.at} turns unused, the first on line {transcript.turns[script.at].line}"
            )
        figures = _figures(done.stdout)
        if figures is None:
            result.problems.append(f"the session gave no result: {done.stderr.strip()[-600:]}")
        else:
            result.tool_calls, result.tool_bytes = figures["tool_calls"], figures["tool_output_bytes"]
            result.conversations, result.results_dir = figures["conversations"], figures["results_dir"]
        _check_end(header.get("ends", {}), result, own)
        if result.problems:
            result.problems.append(f"stderr ended: {done.stderr.strip()[-500:]}")
    except subprocess.TimeoutExpired:
        result.problems.append(f"no end within {timeout_sec:.0f} s; {script.at} of {len(transcript.turns)} turns played")
    finally:
        if home is None:
            shutil.rmtree(own, ignore_errors=True)
    return result


def billed_tokens(transcript: Transcript) -> int | None:
    """Sum of the ``usage`` fields that the API gave when the transcript was recorded; None where a reply has none."""
    replies = [turn.reply for turn in transcript.turns if turn.reply]
    if not replies or not all(reply.get("usage") for reply in replies):
        return None
    return sum(int(reply["usage"].get(kind) or 0) for reply in replies for kind in KINDS)


def _arguments(header: dict[str, Any], workspace: Path, home: Path) -> list[str]:
    recorded = header.get("recorded_workspace")
    prompt = header["prompt"].replace(recorded, str(workspace)) if recorded else header["prompt"]
    prompt = prompt.replace("${workspace}", str(workspace))
    return [prompt, f"--model={MODEL}", f"--transcript={home / 'session.jsonl'}", "--json", *header.get("args", [])]


def _environment(home: Path, url: str) -> dict[str, str]:
    guard = home / "loopback_only"
    guard.mkdir(parents=True, exist_ok=True)
    (guard / "sitecustomize.py").write_text(LOOPBACK_ONLY, encoding="utf-8")
    keep = {
        k: v
        for k, v in os.environ.items()
        if not k.startswith(("ANTHROPIC_", "CLAUDE", "XDG_", "DEFT_AGENT")) and "proxy" not in k.lower()
    }
    paths = [str(guard), *filter(None, [keep.get("PYTHONPATH", "")])]
    return keep | {
        "HOME": str(home),
        "XDG_STATE_HOME": str(home / "state"),
        "XDG_CACHE_HOME": str(home / "cache"),
        "XDG_DATA_HOME": os.environ.get("XDG_DATA_HOME") or str(Path.home() / ".local" / "share"),
        "ANTHROPIC_BASE_URL": url,
        "ANTHROPIC_API_KEY": "replay",  # pragma: allowlist secret
        "PYTHONPATH": os.pathsep.join(paths),
        "HTTP_PROXY": "http://127.0.0.1:9",
        "HTTPS_PROXY": "http://127.0.0.1:9",
        "NO_PROXY": "127.0.0.1",
        "PYTHONDONTWRITEBYTECODE": "1",
    }


def _figures(stdout: str) -> dict[str, Any] | None:
    for line in reversed(stdout.strip().splitlines()):
        if line.startswith("{"):
            try:
                figures = json.loads(line)
            except ValueError:
                return None
            return figures if "tool_calls" in figures else None
    return None


def _check_end(ends: dict[str, Any], result: Replayed, home: Path) -> None:
    """Compares what is on disk with what the transcript says must be: the record, not the model's words."""
    wrong = set(ends) - {
        "exit",
        "approved",
        "stages",
        "status",
        "max_tool_calls",
        "max_tool_bytes",
        "conversations",
        "files",
        "runs",
    }
    if wrong:
        raise UsageError("unknown keys in ends", expected="see the replay room", found=", ".join(sorted(wrong)))
    if ends.get("exit", result.exit_code) != result.exit_code:
        result.problems.append(f"exit code {result.exit_code}, expected {ends['exit']}")
    approvals = list((home / "state" / "deft-aoi" / "plans").glob("*.approval.json"))
    if "approved" in ends and len(approvals) != ends["approved"]:
        result.problems.append(f"{len(approvals)} approvals recorded, expected {ends['approved']}")
    for key, value in (("max_tool_calls", result.tool_calls), ("max_tool_bytes", result.tool_bytes)):
        if key in ends and value > ends[key]:
            result.problems.append(f"{value} is over {key} {ends[key]}")
    if "conversations" in ends and result.conversations != ends["conversations"]:
        result.problems.append(f"{result.conversations} conversations, expected {ends['conversations']}")
    run = Path(result.results_dir) if result.results_dir else None
    events = []
    if run is not None and (run / "loop_log.jsonl").is_file():
        events = [json.loads(line) for line in (run / "loop_log.jsonl").read_text(encoding="utf-8").splitlines()]
    if "runs" in ends and ends["runs"] == 0 and events:
        result.problems.append(f"a run was opened although none should have been: {run}")
    finished = [f"{e['iter']}/{e['stage']}" for e in events if e["status"] == "ok"]
    for stage in ends.get("stages", []):
        if finished.count(stage) != 1:
            result.problems.append(f"{stage} is {finished.count(stage)} times in the log, expected once")
    if "status" in ends:
        status = json.loads((run / "deft_state.json").read_text(encoding="utf-8")).get("status") if events and run else None
        if status not in ([ends["status"]] if isinstance(ends["status"], str) else ends["status"]):
            result.problems.append(f"status {status}, expected {ends['status']}")
    for name in ends.get("files", []):
        if run is None or not (run / name).is_file() or (run / name).stat().st_size == 0:
            result.problems.append(f"{name} is missing from the run")


def replay_files(
    files: list[str], workspace: str, *, keep: str | None = None, timeout_sec: float = 1800
) -> tuple[str, dict[str, Any], int]:
    """Plays transcripts one after another, each on its own copy of the workspace (``replay_transcript.py``).

    Returns:
        (text, values, exit code): 0 where all hold, 3 where one does not.
    """
    from deft_aoi.agent.transcript import read

    source = Path(workspace)
    if not source.is_dir():
        raise UsageError("no such workspace", expected="a folder", found=workspace[:200])
    outcomes = []
    for name in files:
        transcript = read(Path(name))
        base = Path(keep) if keep else Path(tempfile.mkdtemp(prefix="deft-replay-"))
        own = base.resolve() / Path(name).stem
        try:
            copy = own / "workspace"
            shutil.copytree(source, copy, symlinks=True, ignore=shutil.ignore_patterns(".deft"))
            outcomes.append(replay(transcript, copy, home=own, timeout_sec=timeout_sec))
        finally:
            if keep is None:
                shutil.rmtree(base, ignore_errors=True)
    lines = [o.line() for o in outcomes] + [f"  {o.name}: {p}" for o in outcomes for p in o.problems]
    data = {"replayed": [vars(o) for o in outcomes]}
    return "\n".join(lines), data, 3 if any(o.problems for o in outcomes) else 0
