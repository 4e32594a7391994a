"""Runs the skill without an IDE: a model works through typed tools, a person answers on the terminal.

Usage examples:
    run_agent.py "run the DEFT loop on ~/workspace until FAR < 1% at recall=100%" --model MODEL_ID
    DEFT_AGENT_MODEL=MODEL_ID run_agent.py "is my data ready for the DEFT loop? ~/workspace" --max-usd 2
    run_agent.py "continue the run in ~/workspace/results/run_20260101_120000" --max-turns 60

The API key is read by the SDK (ANTHROPIC_API_KEY); tools never see it. Every session is written as a transcript.
Exit codes: 0 done, 3 hard stop or refusal, 4 blocked (budget, API, something missing), 5 approval needed.
"""

from __future__ import annotations

import argparse
import sys

from deft_aoi.cli import Result, run_main


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").splitlines()[0],
        epilog='Example: run_agent.py "run the DEFT loop on ~/workspace" --model MODEL_ID --max-usd 10',
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("prompt", help="what you want, in your own words")
    parser.add_argument("--model", help="model id; default: the environment variable DEFT_AGENT_MODEL")
    parser.add_argument("--max-turns", type=int, default=120, help="model turns, at most (default 120)")
    parser.add_argument("--max-tokens", type=int, default=3_000_000, help="tokens in all, cached ones included")
    parser.add_argument("--max-usd", type=float, help="US dollars by the dated price table, at most")
    parser.add_argument("--transcript", metavar="FILE", help="where to write the session's transcript")
    parser.add_argument("--yes", action="store_true", help="you approve, now, the first plan that passes its checks")
    return parser


def run(args: argparse.Namespace) -> Result:
    """One call into the library."""
    from deft_aoi.agent.headless import run_session

    text, data, exit_code = run_session(args)
    return Result(text=text, data=data, exit_code=exit_code)


def main(argv: list[str] | None = None) -> int:
    """Entry point."""
    return run_main(build_parser, run, argv, requires=("anthropic", "PIL", "jsonschema"))


if __name__ == "__main__":
    sys.exit(main())
