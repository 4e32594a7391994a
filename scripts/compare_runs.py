"""Compare two runs, or two iterations: KPI with intervals, recall by defect, new escapes, data, time. One alone: week by week.

Exit codes: 0; 2 no such run or evaluated iteration; 3 a record is damaged.
"""

from __future__ import annotations

import argparse
import sys

from deft_aoi.cli import Result, run_main
from deft_aoi.loop.options import REQUIRES


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0],
        epilog="examples:\n  python scripts/compare_runs.py W/results/run_20260101_120000 W/results/run_20260102_120000\n"
        "  python scripts/compare_runs.py R:baseline R:iter2\n  python scripts/compare_runs.py W/results/run_20260108_120000",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("a", metavar="A", help="RESULTS_DIR (its best iteration) or RESULTS_DIR:iterN")
    parser.add_argument("b", metavar="B", nargs="?", help="the same; left out: every run that A continues, week by week")
    return parser


def run(args: argparse.Namespace) -> Result:
    from deft_aoi.report import compare, trend

    if args.b is None:
        history = trend.read_history(args.a)
        return Result(trend.text(history), {"history": history})
    found = compare.compare(args.a, args.b)
    return Result(compare.text(found), found)


def main(argv: list[str] | None = None) -> int:
    return run_main(build_parser, run, argv, requires=REQUIRES)


if __name__ == "__main__":
    sys.exit(main())
