"""Cancel the job that a run has in flight. The run can be continued; with --end it ends with the best model so far.

Exit codes: 0 canceled, or nothing was running; 2 not a run; 10 the driver still works on its stage: the same command again.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from deft_aoi.cli import Result, run_main
from deft_aoi.loop.options import REQUIRES


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0],
        epilog="example:\n  python scripts/cancel.py --results-dir R",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--results-dir", required=True, metavar="DIR", help="the run's folder")
    parser.add_argument("--end", action="store_true", help="end the loop for good: hand over the best model so far, and report")
    return parser


def run(args: argparse.Namespace) -> Result:
    from deft_aoi.loop.cli_driver import end_run
    from deft_aoi.loop.interrupts import cancel_run

    if args.end:
        return Result(*end_run(args.results_dir, script=str(Path(__file__).with_name("run_loop.py"))))
    return Result(*cancel_run(args.results_dir))


def main(argv: list[str] | None = None) -> int:
    return run_main(build_parser, run, argv, requires=REQUIRES)


if __name__ == "__main__":
    sys.exit(main())
