"""A run at a glance, from its record; --watch follows it until it ends.

Exit codes: 0; 2 not a run; 3 the record is damaged.
"""

from __future__ import annotations

import argparse
import sys
import time

from deft_aoi.cli import Result, run_main


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0],
        epilog="examples:\n  python scripts/status.py --results-dir ~/ws/results/run_20260101_120000\n"
        "  python scripts/status.py --results-dir R --watch",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--results-dir", required=True, metavar="DIR", help="the run's folder")
    parser.add_argument("--watch", action="store_true", help="print each new event until the run ends (Ctrl-C leaves)")
    parser.add_argument("--interval-sec", type=float, default=2.0, metavar="SEC", help="how often --watch looks (2)")
    return parser


def run(args: argparse.Namespace) -> Result:
    from deft_aoi.engines import success
    from deft_aoi.record import log, status

    text, data = status.run_status(args.results_dir)
    if args.watch and not args.json:
        print(text, flush=True)
        seen = data["seq"]
        while not status.finished(args.results_dir):
            time.sleep(max(args.interval_sec, 0.1))
            for event in log.read(args.results_dir)[seen:]:
                print(f"  {status.event_line(event)}", flush=True)
                seen = event["seq"]
        text, data = status.run_status(args.results_dir)
    epoch = "" if status.finished(args.results_dir) else success.running_epoch(args.results_dir)
    return Result(f"{text}\ntraining: {epoch}" if epoch else text, {**data, "training": epoch})


def main(argv: list[str] | None = None) -> int:
    return run_main(build_parser, run, argv)


if __name__ == "__main__":
    sys.exit(main())
