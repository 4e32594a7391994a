"""Cancel the job that a run has in flight. The run itself stays as it is and can be continued.

Exit codes: 0 cancelled, or nothing was running; 2 not a run.
"""

from __future__ import annotations

import argparse
import sys

from deft_aoi.cli import Result, run_main
from deft_aoi.loop.options import REQUIRES


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0],
        epilog="example:\n  python scripts/cancel.py --results-dir R",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--results-dir", required=True, metavar="DIR", help="the run's folder")
    return parser


def run(args: argparse.Namespace) -> Result:
    from deft_aoi.loop.interrupts import cancel_running

    names = cancel_running(args.results_dir)
    return Result("cancelled: " + ", ".join(names) if names else "no job was running", {"cancelled": names})


def main(argv: list[str] | None = None) -> int:
    return run_main(build_parser, run, argv, requires=REQUIRES)


if __name__ == "__main__":
    sys.exit(main())
