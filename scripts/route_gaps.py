"""Route the weak samples of an RCA: all of them to mining (kpi_gaps.parquet → mining_gaps.parquet, routing_summary.txt).

Exit codes: 0; 3 the gaps file breaks its contract.
"""

from __future__ import annotations

import argparse
import sys

from deft_aoi.cli import Result, run_main
from deft_aoi.loop.options import REQUIRES


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0],
        epilog="example:\n  python scripts/route_gaps.py --gaps kpi_gaps.parquet --output-dir routing",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--gaps", required=True, metavar="FILE", help="kpi_gaps.parquet")
    parser.add_argument("--output-dir", required=True, metavar="DIR", help="a new or empty folder outside a run")
    return parser


def run(args: argparse.Namespace) -> Result:
    from pathlib import Path

    from deft_aoi.contract.text import printable
    from deft_aoi.loop.stages.routing import route

    counts = route(Path(args.gaps), Path(args.output_dir))
    lines = [f"{sum(counts.values())} weak samples to mining"] + [
        f"  {printable(k, 64)}: {v}" for k, v in list(counts.items())[:12]
    ]
    return Result("\n".join(lines), {"to_mining": counts})


def main(argv: list[str] | None = None) -> int:
    return run_main(build_parser, run, argv, requires=REQUIRES)


if __name__ == "__main__":
    sys.exit(main())
