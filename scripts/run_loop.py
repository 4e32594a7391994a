"""Run the whole DEFT loop: plan, ask for approval, open the run, drive it to its end. Continues an unfinished run.

Exit codes: 0 done; 2 arguments; 3 hard stop (the best checkpoint so far is handed over); 4 something is missing; 5 approval
needed; 6 another driver holds the run; 7 a job failed (run it again to continue); 8 the KPI was not met
(only with --fail-on-not-met); 9 canceled by the user; 10 --wait ran out and the driver goes on.
"""

from __future__ import annotations

import argparse
import sys

from deft_aoi.cli import Result, run_main
from deft_aoi.loop.options import REQUIRES, add_plan_arguments

EXAMPLES = """examples:
  python scripts/run_loop.py --workspace ~/workspace --kpi-target "FAR < 1% at recall=100%"
  python scripts/run_loop.py --results-dir ~/workspace/results/run_20260101_120000        (continue)
"""


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--results-dir", metavar="DIR", help="continue this run")
    parser.add_argument("--yes", action="store_true", help="for people and CI, never for an agent: approval in advance")
    parser.add_argument("--until-agent", action="store_true", help="return when a review is needed (spot check, report)")
    parser.add_argument("--detach", action="store_true", help="run in the background and return at once")
    parser.add_argument("--wait", type=float, metavar="SECONDS", help="wait at most so long for a detached driver")
    parser.add_argument("--in-background", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--fail-on-not-met", action="store_true", help="exit 8 when the run ends without meeting the KPI")
    add_plan_arguments(parser)
    return parser


def run(args: argparse.Namespace) -> Result:
    from deft_aoi.loop.cli_driver import run_loop

    return Result(*run_loop(args, script=__file__))


def main(argv: list[str] | None = None) -> int:
    return run_main(build_parser, run, argv, requires=REQUIRES)


if __name__ == "__main__":
    sys.exit(main())
