"""Re-derive a run from its files: chain, snapshot, digests, counts, and every KPI from inference.csv.

Exit codes: 0 everything holds; 2 not a run; 3 something does not, named exactly.
"""

from __future__ import annotations

import argparse
import sys

from deft_aoi.cli import Result, run_main
from deft_aoi.loop.options import REQUIRES


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0],
        epilog="example:\n  python scripts/verify_run.py --results-dir R",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--results-dir", required=True, metavar="DIR", help="the run's folder")
    parser.add_argument("--head", metavar="N-HEX", help="what an earlier check printed: the record must begin with it")
    return parser


def run(args: argparse.Namespace) -> Result:
    from pathlib import Path

    from deft_aoi.loop.verify import verify_run

    verdict = verify_run(Path(args.results_dir), args.head)
    return Result(verdict.text(), verdict.as_dict(), 0 if verdict.holds else 3)


def main(argv: list[str] | None = None) -> int:
    return run_main(build_parser, run, argv, requires=REQUIRES)


if __name__ == "__main__":
    sys.exit(main())
