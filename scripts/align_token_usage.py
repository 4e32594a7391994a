"""Adds the token usage of each stage to a run's record, from the transcripts of the session that drove it.

Usage examples:
    align_token_usage.py --log-path RESULTS_DIR/loop_log.jsonl --cwd ~/project
    align_token_usage.py --log-path RESULTS_DIR/loop_log.jsonl --transcript SESSION.jsonl --dry-run

It appends one `usage` event; the log is never rewritten. Exit codes: 0 done, 2 wrong usage, 3 damaged log, 4 no transcript.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from deft_aoi.cli import Result, run_main


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").splitlines()[0],
        epilog="Example: align_token_usage.py --log-path RESULTS_DIR/loop_log.jsonl --cwd ~/project",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--log-path", type=Path, required=True, metavar="FILE", help="RESULTS_DIR/loop_log.jsonl")
    parser.add_argument(
        "--transcript", type=Path, action="append", default=[], metavar="FILE", help="a transcript or a folder of them"
    )
    parser.add_argument("--project-dir", type=Path, metavar="DIR", help="Claude Code's folder of the project")
    parser.add_argument("--cwd", type=Path, metavar="DIR", help="the folder in which the session ran")
    parser.add_argument("--dry-run", action="store_true", help="only print, append nothing")
    return parser


def run(args: argparse.Namespace) -> Result:
    """Calls into the library: collect, align, append."""
    from deft_aoi.agent import usage
    from deft_aoi.contract.errors import Blocked
    from deft_aoi.record import log

    if args.log_path.name != "loop_log.jsonl" or not args.log_path.is_file():
        raise Blocked("no such log", expected="RESULTS_DIR/loop_log.jsonl", found=str(args.log_path))
    results_dir = args.log_path.resolve().parent
    events = log.read(results_dir)
    found = usage.align(events, usage.collect(usage.transcript_files(args.transcript, args.project_dir, args.cwd)))
    text = usage.sentence(found)
    if not args.dry_run:
        found, data = usage.write_usage(results_dir, found)
        text = usage.sentence(found)
        ack = log.append(
            results_dir,
            iter_label="run",
            stage="usage",
            status="ok",
            summary=text,
            data=data,
            op_id=f"run/usage/{data['sha256'][:16]}",
        )
        text += f"\nseq {ack.seq}: {data['file']}"
    return Result(text=text, data=found)


def main(argv: list[str] | None = None) -> int:
    """Entry point."""
    return run_main(build_parser, run, argv)


if __name__ == "__main__":
    sys.exit(main())
