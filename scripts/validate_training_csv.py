"""Check a training CSV: schema, labels, every light of every row, rows twice, conflicts, leakage by content, growth.

Exit codes: 0 it holds, 2 usage, 3 a rule is broken (the message names the rows), 4 blocked.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from deft_aoi.cli import Result, run_main

EXAMPLES = """Examples:
  validate_training_csv.py train/base/training_set.csv --workspace W
  validate_training_csv.py R/iter1/dataset/train_combined_iter1.csv --workspace W --previous train/base/training_set.csv
  validate_training_csv.py bad.csv --workspace W --write-fixed clean.csv
"""


def build_parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("csv", type=Path, help="training CSV to check")
    p.add_argument("--workspace", type=Path, required=True, help="its validation, KPI and hold-out sets are compared")
    p.add_argument("--images-dir", help="folder below the workspace that the rows are relative to")
    p.add_argument("--previous", type=Path, help="training CSV whose rows must all be in this one")
    p.add_argument(
        "--allow-near-duplicates",
        action="store_true",
        help="accept rows that show a validation, KPI or hold-out image in another dress (exact copies never)",
    )
    p.add_argument("--write-fixed", type=Path, metavar="CSV", help="where a rule is broken, write a proposed clean copy here")
    return p


def run(args: argparse.Namespace) -> Result:
    from deft_aoi.analysis.dataset_files import validate_training_csv

    text, data = validate_training_csv(
        args.csv,
        args.workspace,
        images_dir=args.images_dir,
        previous=args.previous,
        write_fixed=args.write_fixed,
        allow_near=args.allow_near_duplicates,
    )
    return Result(text, data)


def main(argv: list[str] | None = None) -> int:
    return run_main(build_parser, run, argv, requires=("numpy", "pandas", "pyarrow", "PIL", "omegaconf"))


if __name__ == "__main__":
    sys.exit(main())
