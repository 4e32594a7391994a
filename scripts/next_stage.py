"""Say what comes next in a run, why, and the exact command; reads disk only.

Exit codes: 0; 2 not a run; 3 the record is damaged.
"""

from __future__ import annotations

import argparse
import sys

from deft_aoi.cli import Result, run_main
from deft_aoi.loop.options import REQUIRES


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0],
        epilog="example:\n  python scripts/next_stage.py --results-dir ~/workspace/results/run_20260101_120000",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--results-dir", required=True, metavar="DIR", help="the run's folder")
    return parser


def run(args: argparse.Namespace) -> Result:
    from deft_aoi.loop.run_text import describe_next

    return Result(*describe_next(args.results_dir))


def main(argv: list[str] | None = None) -> int:
    return run_main(build_parser, run, argv, requires=REQUIRES)


if __name__ == "__main__":
    sys.exit(main())
