"""Take over labels.csv of a review page: judged new boards go into the mining pool, causes into a run's spot check.

Needs no approval: the pool only grows, and a run takes new rows up at its next iteration. A person judges; an agent never does.
Exit codes: 0; 2 arguments; 3 the labels are of another page, an image changed, or a part is in a set that judges (then nothing
is written).
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
        epilog="examples:\n  python scripts/import_review.py labels.csv --review OUT/review.json --workspace W\n"
        "  python scripts/import_review.py labels.csv --review RUN_DIR/run/review/review.json --results-dir RUN_DIR",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("labels", type=Path, metavar="LABELS_CSV", help="as the page saved it")
    parser.add_argument("--review", required=True, type=Path, metavar="FILE", help="review.json beside the page")
    parser.add_argument("--workspace", type=Path, metavar="DIR", help="whose pool takes the judged boards")
    parser.add_argument("--results-dir", type=Path, metavar="DIR", help="the run whose weak samples were judged")
    parser.add_argument("--leave-out-leaks", action="store_true", help="append the others where some are in a set that judges")
    return parser


def run(args: argparse.Namespace) -> Result:
    from deft_aoi.workspaces import review_import

    found = review_import.import_review(args)
    if "iteration" in found:
        from deft_aoi.record.manual_event import append_spot_check

        append_spot_check(args.results_dir, found["iteration"], f"{found['recorded']} causes from the review page")
    return Result(review_import.text(found), found)


def main(argv: list[str] | None = None) -> int:
    return run_main(build_parser, run, argv, requires=REQUIRES)


if __name__ == "__main__":
    sys.exit(main())
