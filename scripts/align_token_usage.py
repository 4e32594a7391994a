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

    events = usage.read_events(args.log_path)
    files = usage.transcript_files(args.transcript, args.project_dir, args.cwd)
    found = usage.align(events, usage.collect(files))
    total = found["total"]
    text = (
        f"{total['messages']} messages in {len(found['stages'])} stages: {total['output_tokens']:,} output, "
        f"{total['input_tokens'] + total['cache_creation_input_tokens'] + total['cache_read_input_tokens']:,} input tokens "
        f"(cached ones included); {found['outside']['before'] + found['outside']['after']} messages outside the run, "
        f"{sum(found['skipped'].values())} lines skipped"
    )
    if not args.dry_run:
        from deft_aoi.record import log

        results_dir = args.log_path.resolve().parent
        data = usage.write_usage(results_dir, found)
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
