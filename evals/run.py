"""Runs evaluation cases with a real model through ``run_agent.py`` and grades what is on disk afterwards.

Usage examples:
    python evals/run.py --model MODEL_ID                      every case
    python evals/run.py --model MODEL_ID --case resume --case hostile-label --repeat 3

Needs an API key and costs money (each case is limited by --max-usd). Exit codes: 0 all graders hold, 3 one does not.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
SCRIPTS = HERE.parent / "scripts"


def main(argv: list[str] | None = None) -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", required=True, help="model id")
    parser.add_argument("--case", action="append", help="id of a case; default: all")
    parser.add_argument("--repeat", type=int, default=1, help="times each case is run (default 1)")
    parser.add_argument("--max-usd", type=float, default=2.0, help="US dollars per case, at most (default 2)")
    args = parser.parse_args(argv)
    cases = json.loads((HERE / "evals.json").read_text(encoding="utf-8"))["evals"]
    chosen = [c for c in cases if not args.case or c["id"] in args.case]
    if not chosen:
        print("no such case", file=sys.stderr)
        return 2
    failed = 0
    with tempfile.TemporaryDirectory(prefix="deft-evals-") as folder:
        demo = Path(folder) / "demo"
        subprocess.run(
            [sys.executable, str(SCRIPTS / "make_demo_workspace.py"), "--output", str(demo), "--scale", "small"],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        for case in chosen:
            for turn in range(args.repeat):
                problems = run_case(case, demo, Path(folder) / f"{case['id']}-{turn}", args.model, args.max_usd)
                failed += bool(problems)
                print(f"{'FAILED' if problems else 'ok':6} {case['id']}" + "".join(f"\n       {p}" for p in problems), flush=True)
    return 3 if failed else 0


def run_case(case: dict[str, Any], demo: Path, home: Path, model: str, max_usd: float) -> list[str]:
    """One session in a home of its own; returns what the graders found wrong."""
    workspace = home / "workspace"
    shutil.copytree(demo, workspace)
    if case.get("setup"):
        specification = importlib.util.spec_from_file_location("setups", HERE / "setups.py")
        assert specification is not None
        assert specification.loader is not None
        module = importlib.util.module_from_spec(specification)
        specification.loader.exec_module(module)
        module.SETUPS[case["setup"]](workspace, home)
    approvals_before = count_approvals(home)
    done = subprocess.run(
        [
            sys.executable,
            str(SCRIPTS / "run_agent.py"),
            case["prompt"].replace("WORKSPACE", str(workspace)),
            f"--model={model}",
            f"--max-usd={max_usd}",
            f"--transcript={home / 'session.jsonl'}",
            "--json",
        ],
        env={**os.environ, "HOME": str(home), "XDG_STATE_HOME": str(home / "state"), "XDG_CACHE_HOME": str(home / "cache")},
        cwd=home,
        input="".join(f"{a}\n" for a in case.get("answers", [])),
        capture_output=True,
        text=True,
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    figures = json.loads(lines[-1]) if lines else {}
    facts = observe(workspace, home, figures, approvals_before)
    problems = [f"{g}: found {facts.get(next(iter(g)))}" for g in case["graders"] if not holds(g, facts)]
    return problems + ([] if "tool_calls" in figures else [f"no result: {done.stderr.strip()[-300:]}"])


def count_approvals(home: Path) -> int:
    """Approvals on record in a session's state folder."""
    return len(list((home / "state" / "deft-aoi" / "plans").glob("*.approval.json")))


def observe(workspace: Path, home: Path, figures: dict[str, Any], approvals_before: int) -> dict[str, Any]:
    """What is on disk after a session."""
    runs = sorted((workspace / "results").glob("run_*/loop_log.jsonl"))
    run = runs[-1].parent if runs else None
    state = json.loads((run / "deft_state.json").read_text(encoding="utf-8")) if run else {}
    best = (
        json.loads((run / "best_model.json").read_text(encoding="utf-8")) if run and (run / "best_model.json").is_file() else {}
    )
    verify = (
        subprocess.run([sys.executable, str(SCRIPTS / "verify_run.py"), "--results-dir", str(run)], capture_output=True)
        if run
        else None
    )
    session = (home / "session.jsonl").read_text(encoding="utf-8") if (home / "session.jsonl").is_file() else ""
    return {
        "approvals": count_approvals(home) - approvals_before,
        "runs": len(runs),
        "status": state.get("status"),
        "config": state.get("config", {}),
        "report": bool(run and (run / "DEFT_Loop_Report.html").is_file()),
        "verify_run": verify.returncode if verify else None,
        "verdict_not": best.get("verdict"),
        "pending_plan": (home / "state" / "deft-aoi" / "plans" / "pending.json").is_file(),
        "skill_used": any(f'"name": "{tool}"' in session for tool in ("preflight", "run_loop", "init_deft_state")),
        "max_tool_calls": figures.get("tool_calls", 0),
        "max_tool_output_bytes": figures.get("tool_output_bytes", 0),
    }


def holds(grader: dict[str, Any], facts: dict[str, Any]) -> bool:
    """Whether one grader holds.

    Raises:
        KeyError: a grader that reads nothing: a case must not pass by a misspelt name.
    """
    ((name, wanted),) = grader.items()
    found = facts[name]
    if name.startswith("max_"):
        return found <= wanted
    if name == "verdict_not":
        return found is not None and found != wanted
    if name == "config":
        return all(found.get(k) == v for k, v in wanted.items())
    return found in wanted if isinstance(wanted, list) else found == wanted


if __name__ == "__main__":
    sys.exit(main())
