"""Root-cause analysis of a scored KPI set: weak samples, threshold, metrics and the pictures to look at.

Exit codes: 0 done, 2 usage, 3 the scored set is refused or the KPI is unreachable (unreachable_kpi.txt), 4 blocked.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from deft_aoi.cli import Result, run_main

EXAMPLES = """Examples:
  analyze_gaps.py inference.csv --spec specs/baseline_spec.yaml --images-dir kpi/images --output-dir rca/
  analyze_gaps.py inference.csv --spec SPEC --images-dir DIR --output-dir rca/ --min-recall 0.995 --top-k-per-label 20
"""


def build_parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("csv", type=Path, help="scored CSV: ChangeNet columns and siamese_score")
    p.add_argument("--spec", type=Path, required=True, help="spec: lights, image extension, difference module, margin")
    p.add_argument("--images-dir", type=Path, required=True, help="folder that the rows are relative to")
    p.add_argument("--output-dir", type=Path, required=True)
    p.add_argument("--threshold", type=float, help="operating point (default: fewest false alarms at --min-recall)")
    p.add_argument("--min-recall", type=float, default=1.0, metavar="FRACTION", help="recall of the operating point")
    p.add_argument("--top-k-per-label", type=int, default=50, help="most weak samples of one label")
    p.add_argument("--spot-check", type=Path, help="spot_check.json: samples called mislabeled or bad data are no targets")
    p.add_argument("--no-images", action="store_true", help="no rca_images/")
    return p


def run(args: argparse.Namespace) -> Result:
    from deft_aoi.analysis.gaps_output import analyze_csv

    text, data = analyze_csv(args)
    return Result(text, data)


def main(argv: list[str] | None = None) -> int:
    return run_main(build_parser, run, argv, requires=("numpy", "pandas", "pyarrow", "PIL"))


if __name__ == "__main__":
    sys.exit(main())
