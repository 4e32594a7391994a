"""Assemble an iteration's training CSV: the previous rows and the newly mined ones, each with its provenance.

Exit codes: 0 done, 2 usage, 3 a rule is broken (a row twice, two labels for one content, leakage), 4 blocked.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from deft_aoi.cli import Result, run_main

EXAMPLES = """Examples:
  assemble_training_csv.py --workspace W --iteration 1 --mined R/iter1/mining_filter/mining_pool.csv --output-dir out/
  assemble_training_csv.py --workspace W --iteration 2 --previous R/iter1/dataset/train_combined_iter1.csv \\
      --mined R/iter2/mining_filter/mining_pool.csv --output-dir out/
"""


def build_parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("--workspace", type=Path, required=True)
    p.add_argument("--iteration", type=int, required=True, help="from 1")
    p.add_argument("--mined", type=Path, required=True, help="mined rows: workspace-relative, with provenance")
    p.add_argument("--previous", type=Path, help="previous iteration's training CSV (its provenance lies beside it)")
    p.add_argument("--output-dir", type=Path, required=True)
    p.add_argument(
        "--allow-near-duplicates",
        action="store_true",
        help="accept rows that show a validation, KPI or hold-out image in another dress (exact copies never)",
    )
    return p


def run(args: argparse.Namespace) -> Result:
    from deft_aoi.analysis.dataset_files import assemble_training_csv

    text, data = assemble_training_csv(
        args.workspace,
        iteration=args.iteration,
        mined=args.mined,
        previous=args.previous,
        output_dir=args.output_dir,
        allow_near=args.allow_near_duplicates,
    )
    return Result(text, data)


def main(argv: list[str] | None = None) -> int:
    return run_main(build_parser, run, argv, requires=("numpy", "pandas", "pyarrow", "PIL", "omegaconf"))


if __name__ == "__main__":
    sys.exit(main())
