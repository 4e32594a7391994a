"""Write DEFT_Loop_Report.html of a run, finished or not, from its files alone; the same run gives the same bytes.

Exit codes: 0 written; 2 no such run or iteration; 3 the record is damaged, or findings do not match the files (the report is
then written without them, and each is named).
"""

from __future__ import annotations

import argparse
import sys

from deft_aoi.cli import Result, run_main
from deft_aoi.loop.options import REQUIRES


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0],
        epilog="examples:\n"
        "  python scripts/render_report.py --results-dir R\n"
        '  python scripts/render_report.py --results-dir R --iteration 2 --note "both false alarms are reflections"',
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--results-dir", required=True, metavar="DIR", help="the run's folder")
    parser.add_argument("--iteration", type=int, metavar="N", help="also write iterN_summary.md again")
    parser.add_argument("--note", metavar="TEXT", help="one sentence about that iteration; recorded, shown in summary and report")
    parser.add_argument("--review", action="store_true", help="also run/review/review.html: weak samples and doubtful labels")
    return parser


def run(args: argparse.Namespace) -> Result:
    from deft_aoi.report.command import render

    return Result(*render(args.results_dir, iteration=args.iteration, note=args.note, review=args.review))


def main(argv: list[str] | None = None) -> int:
    return run_main(build_parser, run, argv, requires=(*REQUIRES, "jinja2"))


if __name__ == "__main__":
    sys.exit(main())
