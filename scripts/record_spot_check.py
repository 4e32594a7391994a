"""Record what was seen on a weak image: mislabeled, edge_case, data_quality or systematic.

Samples called mislabeled or data_quality stop being mining targets and are listed in the report.
Exit codes: 0 recorded, 2 usage (no such verdict, not a weak sample), 3 a damaged record.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from deft_aoi.cli import Result, run_main

EXAMPLES = """Examples:
  record_spot_check.py --results-dir R --iteration iter1 --picture 1=mislabeled --picture 2=edge_case
  record_spot_check.py --results-dir R --iteration iter1 --sample-id "lineA/B0042/C12@1" --verdict mislabeled --by agent \\
      --note "solder bridge, labelled PASS"
  record_spot_check.py --results-dir R --list
"""


def build_parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("--results-dir", type=Path, required=True, help="the run's folder")
    p.add_argument("--iteration", default="baseline", help="baseline or iterN: whose pictures were looked at")
    p.add_argument(
        "--picture", action="append", metavar="N=VERDICT", help="by its number in weak_overview.png; as often as there are some"
    )
    p.add_argument("--sample-id", help="the sample, as weak_samples_breakdown.txt and kpi_gaps.parquet name it")
    p.add_argument("--verdict", choices=("mislabeled", "edge_case", "data_quality", "systematic"))
    p.add_argument("--by", choices=("agent", "person"), default="agent")
    p.add_argument("--note", default="", help="the reason, at most 300 characters")
    p.add_argument("--list", action="store_true", help="show what is recorded")
    return p


def run(args: argparse.Namespace) -> Result:
    from deft_aoi.analysis.spot_check import verdict_command

    text, data = verdict_command(args)
    if not args.list:
        from deft_aoi.record.manual_event import append_spot_check

        append_spot_check(args.results_dir, args.iteration, "; ".join(line.strip() for line in text.splitlines()))
    return Result(text, data)


def main(argv: list[str] | None = None) -> int:
    return run_main(build_parser, run, argv, requires=("pyarrow", "jsonschema"))


if __name__ == "__main__":
    sys.exit(main())
