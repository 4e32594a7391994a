"""Run the next stage of a run (or the named one, if it is next) to its event.

Exit codes: 0 done; 2 the named stage is not next; 3 hard stop; 5 not approved or an input changed; 6 another driver holds
the run; 7 a job failed; 9 canceled by the user; 10 --wait ran out and the driver goes on.
"""

from __future__ import annotations

import argparse
import sys

from deft_aoi.cli import Result, run_main
from deft_aoi.loop.options import REQUIRES


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0],
        epilog="examples:\n  python scripts/run_stage.py --results-dir R\n"
        "  python scripts/run_stage.py --results-dir R --stage train --detach",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--results-dir", required=True, metavar="DIR", help="the run's folder")
    parser.add_argument("--stage", help="the stage that you believe is next")
    parser.add_argument("--detach", action="store_true", help="start it in the background and return at once")
    parser.add_argument("--in-background", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--wait", type=float, metavar="SECONDS", help="wait at most so long for a detached driver")
    return parser


def run(args: argparse.Namespace) -> Result:
    from deft_aoi.loop.cli_driver import run_driver
    from deft_aoi.record.driver_exit import DriverOptions

    return Result(
        *run_driver(
            args.results_dir,
            script=__file__,
            options=DriverOptions(detached=args.detach or args.in_background),
            extra=("--stage", args.stage) if args.stage else (),
            detach=args.detach,
            wait=args.wait,
            limit=1,
            named=args.stage,
        )
    )


def main(argv: list[str] | None = None) -> int:
    return run_main(build_parser, run, argv, requires=REQUIRES)


if __name__ == "__main__":
    sys.exit(main())
