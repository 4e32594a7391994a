"""A session at a terminal: client, budget, person and transcript put together for ``run_agent.py``."""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path
from typing import Any

from deft_aoi.agent.budget import Limits, Meter
from deft_aoi.agent.gatekeeper import Gatekeeper
from deft_aoi.agent.runner import Session
from deft_aoi.agent.transcript import Recorder
from deft_aoi.contract import plans
from deft_aoi.contract.errors import DeftError, UsageError
from deft_aoi.contract.schema import bundle_root

MODEL_VARIABLE = "DEFT_AGENT_MODEL"
MAX_RETRIES = 6
"""Retries by the SDK of a request that the API refuses for the moment (429, 529, 5xx), with growing pauses."""


def run_session(args: argparse.Namespace) -> tuple[str, dict[str, Any], int]:
    """Runs one session.

    Args:
        args: the arguments of ``run_agent.py``.

    Returns:
        (text for the person, the same as values, exit code).

    Raises:
        UsageError: no model id, or a money limit for a model without a price.
        Blocked: no credentials, the API does not answer, or the budget is used up.
    """
    model = args.model or os.environ.get(MODEL_VARIABLE, "")
    if not model:
        raise UsageError("no model is named", expected=f"--model MODEL_ID or the variable {MODEL_VARIABLE}", found="neither")
    import anthropic

    meter = Meter(Limits(args.max_turns, args.max_tokens, args.max_usd), model)
    name = f"{time.strftime('%Y%m%d_%H%M%S')}-{os.getpid()}"
    path = Path(args.transcript) if args.transcript else Path(plans.plans_dir()).parent / "transcripts" / f"{name}.jsonl"
    flags = ["--yes"] if args.yes else []
    recorder = Recorder(path, {"name": name, "prompt": args.prompt, "args": flags, "answers": []})
    gate = Gatekeeper(_ask, session=name, approve_first=args.yes)
    client = anthropic.Anthropic(max_retries=MAX_RETRIES)
    skill_root = bundle_root()
    session = Session(client, meter, skill_root, gate, recorder, _say, Path.cwd())
    problem: DeftError | None = None
    exit_code = None
    try:
        outcome = session.run(args.prompt)
        exit_code, text = outcome.exit_code, outcome.text
    except DeftError as error:
        problem, exit_code, text = error, error.exit_code, error.message
    finally:
        if session.local.workspace is not None:
            recorder.header["recorded_workspace"] = str(session.local.workspace)
        recorder.header["ends"] = session.ending() | ({} if exit_code is None else {"exit": exit_code})
        recorder.close()
    figures = {
        "exit_code": exit_code,
        "tool_calls": session.tool_calls,
        "tool_output_bytes": session.tool_bytes,
        "conversations": session.conversations,
        "turns": meter.turns,
        "tokens": meter.tokens,
        "usd": meter.usd,
        "transcript": str(path),
        "results_dir": str(session.run_dir) if session.run_dir else None,
        "text": text,
    }
    lines = [problem.render()] if problem else []
    lines.append(
        f"session: {meter.line()}, {session.tool_calls} tool calls, {session.tool_bytes} bytes of tool output, "
        f"{session.conversations} conversations"
    )
    lines.append(f"transcript: {path}")
    return "\n".join(lines), figures, exit_code


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def _ask(text: str) -> str:
    """Shows a text on the terminal and reads one line; the empty string where nobody is there."""
    sys.stderr.write(f"\n{text}\n> ")
    sys.stderr.flush()
    return sys.stdin.readline()
