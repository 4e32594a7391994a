"""Open a run for an approved plan: results/run_<time>/ with its plan and its first event.

Exit codes: 0 opened; 2 no such plan; 3 the folder holds a record already; 5 not approved, or an input changed since.
"""

from __future__ import annotations

import argparse
import sys

from deft_aoi.cli import Result, run_main
from deft_aoi.loop.options import REQUIRES


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0],
        epilog="example:\n  python scripts/init_deft_state.py --plan-digest 3f2a9c0d11ee",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--plan-digest", required=True, metavar="D", help="digest of the approved plan, or its first characters")
    parser.add_argument(
        "--results-dir", metavar="DIR", help="a folder below <workspace>/results, e.g. one that an upstream phase pre-seeded"
    )
    return parser


def run(args: argparse.Namespace) -> Result:
    from pathlib import Path

    from deft_aoi.contract.commands import command
    from deft_aoi.loop import gate
    from deft_aoi.loop.open_run import open_run

    opened = open_run(gate.find_pending(args.plan_digest), results_dir=Path(args.results_dir) if args.results_dir else None)
    return Result(
        f"opened {opened.root}\nnext: {command('run_loop')} --results-dir {opened.root}", {"results_dir": str(opened.root)}
    )


def main(argv: list[str] | None = None) -> int:
    return run_main(build_parser, run, argv, requires=REQUIRES)


if __name__ == "__main__":
    sys.exit(main())
