"""Append one event to a run's record and print its number; the event is on disk when the number is printed.

Exit codes: 0 recorded (or already on record); 2 usage; 3 out of order, other payload, damaged record; 4 no space;
5 an approval is written by approve.py only; 6 the record is busy.
"""

from __future__ import annotations

import argparse
import sys

from deft_aoi.cli import Result, run_main


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0],
        epilog="examples:\n"
        "  python scripts/log_stage.py --log-path R/loop_log.jsonl --iter-label run --stage note --status ok "
        '--summary "operator replaced lamp 2"\n'
        "  python scripts/log_stage.py --log-path R/loop_log.jsonl --iter-label iter1 --stage train --status error "
        '--summary "out of memory" --duration-sec 41.5',
        # A given width: else argparse imports shutil and its compressors for the terminal's, on every start.
        formatter_class=lambda prog: argparse.RawDescriptionHelpFormatter(prog, width=110),
    )
    parser.add_argument("--log-path", required=True, metavar="FILE", help="the run's loop_log.jsonl")
    parser.add_argument("--iter-label", required=True, metavar="LABEL", help="run, baseline, iter1, iter2, …")
    parser.add_argument("--stage", required=True, help="train, inference, evaluate, …; note is allowed at any time")
    parser.add_argument("--status", required=True, choices=("ok", "error", "started"))
    parser.add_argument("--summary", required=True, help="one line; the record's own words for any stage but note")
    parser.add_argument("--duration-sec", type=float, metavar="SEC", help="left out: measured from the previous event")
    parser.add_argument("--context-tokens", type=int, default=0, metavar="N", help="usually 0: see align_token_usage.py")
    parser.add_argument("--data", metavar="JSON", help="an object: evidence, and the state change under the key state")
    parser.add_argument("--op-id", metavar="KEY", help="idempotency key; give the same one to retry")
    return parser


def run(args: argparse.Namespace) -> Result:
    from deft_aoi.record.manual_event import append_manual_event

    ack, warning = append_manual_event(args)
    if warning:
        print(warning, file=sys.stderr)
    data = {"seq": ack.seq, "duplicate": ack.duplicate, "snapshot": ack.snapshot, "op_id": ack.op_id}
    return Result(str(ack.seq), data)


def main(argv: list[str] | None = None) -> int:
    return run_main(build_parser, run, argv)


if __name__ == "__main__":
    sys.exit(main())
