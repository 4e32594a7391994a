"""Replays session transcripts against the real runner and the real scripts; only the model is played.

Usage examples:
    replay_transcript.py --workspace ~/workspace tests/transcripts/happy_path.jsonl
    replay_transcript.py --workspace ~/workspace SESSION.jsonl --keep DIR

Each transcript works on a copy of the workspace. Exit codes: 0 all hold, 3 at least one does not, 2 wrong usage.
"""

from __future__ import annotations

import argparse
import sys

from deft_aoi.cli import Result, run_main


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").splitlines()[0],
        epilog="Example: replay_transcript.py --workspace ~/workspace SESSION.jsonl",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("files", nargs="+", metavar="FILE", help="transcripts (JSON Lines)")
    parser.add_argument("--workspace", required=True, metavar="DIR", help="the workspace that each transcript gets a copy of")
    parser.add_argument("--timeout-sec", type=float, default=1800, help="bound on each transcript (default 1800)")
    parser.add_argument("--keep", metavar="DIR", help="keep each session's home and workspace below this folder")
    return parser


def run(args: argparse.Namespace) -> Result:
    """One call into the library."""
    from deft_aoi.agent.replay import replay_files

    text, data, exit_code = replay_files(args.files, args.workspace, keep=args.keep, timeout_sec=args.timeout_sec)
    return Result(text=text, data=data, exit_code=exit_code)


def main(argv: list[str] | None = None) -> int:
    """Entry point."""
    return run_main(build_parser, run, argv, requires=("anthropic", "PIL", "jsonschema", "pandas"))


if __name__ == "__main__":
    sys.exit(main())
