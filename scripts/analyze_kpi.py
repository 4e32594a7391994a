"""KPI of a scored CSV: operating points, exact intervals, verdict; writes kpi.json, summary.txt, tables and plots.

Exit codes: 0 done, 2 usage, 3 the scored set is refused (the message names the line), 4 something is missing.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from deft_aoi.cli import Result, run_main

EXAMPLES = """Examples:
  analyze_kpi.py results/run_X/baseline/inference/latest/inference.csv --target "FAR < 0.1% at recall=100%"
  analyze_kpi.py scored.csv --output-dir kpi/ --recall 1.0 --recall 0.99 --no-plots
  analyze_kpi.py inference.csv --spec specs/baseline_spec.yaml --images-dir kpi/images   (counts distinct contents)
  analyze_kpi.py holdout/inference.csv --threshold 0.4348629117012024                    (hold-out at a fixed threshold)
  analyze_kpi.py --false-alarms 0/400 --missed 0/180 --target "FAR < 0.1% at recall=100%"                 (is that enough?)
"""


def build_parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("csv", type=Path, nargs="?", help="scored CSV: ChangeNet columns and siamese_score")
    p.add_argument("--output-dir", type=Path, help="folder for the outputs (default: beside the CSV)")
    p.add_argument("--label-column", default="label")
    p.add_argument("--score-column", default="siamese_score")
    p.add_argument("--pass-label", default="PASS", help="the good label, compared exactly")
    p.add_argument("--target", help='KPI to judge, for example "FAR < 0.1%% at recall=100%%"')
    p.add_argument("--false-alarms", metavar="K/N", help="instead of a CSV: does K of N good parts flagged prove --target?")
    p.add_argument("--missed", metavar="K/N", help="instead of a CSV: does K of N defects missed prove --min-recall-support?")
    p.add_argument("--recall", type=float, action="append", metavar="FRACTION", help="recall to report, in (0, 1]; repeatable")
    p.add_argument("--threshold", type=float, help="judge at this fixed threshold instead of choosing one (hold-out)")
    p.add_argument("--threshold-rule", default="low_end", help="low_end (default), midpoint or tail:P")
    p.add_argument("--min-recall-support", type=float, default=99.0, metavar="PCT", help="recall that must be supported (99)")
    p.add_argument("--bins", type=int, default=50, help="histogram bins of the score plot")
    p.add_argument("--no-plots", action="store_true")
    p.add_argument("--seconds-per-call", type=float, default=5.0, help="operator seconds for one call at the review station")
    p.add_argument("--spec", type=Path, help="spec that says how rows name images; with --images-dir, counts distinct contents")
    p.add_argument("--images-dir", type=Path, help="folder that the rows are relative to")
    p.add_argument("--cache-dir", type=Path, help="folder of the content digests (default: the user's cache folder)")
    return p


def run(args: argparse.Namespace) -> Result:
    from deft_aoi.analysis.kpi_output import analyze_csv

    text, data = analyze_csv(args)
    return Result(text, data)


def main(argv: list[str] | None = None) -> int:
    return run_main(build_parser, run, argv, requires=("numpy", "pandas", "pyarrow", "scipy"))


if __name__ == "__main__":
    sys.exit(main())
