"""Check a workspace and print the Pre-Flight Summary with the plan's digest. Writes nothing to the workspace.

Exit codes: 0 the plan is pending and waits for a person's approval; 2 wrong arguments; 3 the data or the spec breaks the
contract; 4 something is missing that can be supplied.
"""

from __future__ import annotations

import argparse
import sys

from deft_aoi.cli import Result, run_main
from deft_aoi.loop.options import REQUIRES, add_plan_arguments

EXAMPLES = """examples:
  python scripts/preflight.py --workspace ~/workspace
  python scripts/preflight.py --workspace ~/workspace --kpi-target "FAR < 1% at recall=100%" --max-iterations 3
"""


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_plan_arguments(parser)
    return parser


def run(args: argparse.Namespace) -> Result:
    from deft_aoi.loop.planning import plan_run

    planned = plan_run(args)
    return Result(planned.text, planned.data, planned.exit_code)


def main(argv: list[str] | None = None) -> int:
    return run_main(build_parser, run, argv, requires=REQUIRES)


if __name__ == "__main__":
    sys.exit(main())
