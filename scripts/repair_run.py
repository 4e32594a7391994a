"""Show what is damaged in a run's record; a person may accept the loss. Not for agents.

Without --accept-loss nothing is changed. With it, the log is cut after its last good line; the damaged files are kept in
run/torn/. Exit codes: 0 repaired or nothing to repair; 2 usage; 3 damaged (nothing changed); 5 the code is missing or
wrong; 6 a driver holds the run.
"""

from __future__ import annotations

import argparse
import sys

from deft_aoi.cli import Result, run_main


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0],
        epilog="examples:\n  python scripts/repair_run.py --results-dir R\n"
        "  python scripts/repair_run.py --results-dir R --accept-loss --confirm 4f9a1c",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--results-dir", required=True, metavar="DIR", help="the run's folder")
    parser.add_argument("--accept-loss", action="store_true", help="cut the log after its last good line")
    parser.add_argument("--confirm", default="", metavar="CODE", help="last six characters of the digest of what stays")
    return parser


def run(args: argparse.Namespace) -> Result:
    from deft_aoi.record import repair

    if not args.accept_loss:
        damage = repair.assess(args.results_dir)
        more = "" if not damage.problem else "\n  to accept: --accept-loss --confirm and the last six characters of that digest"
        return Result(damage.text() + more, damage._asdict(), 3 if damage.problem else 0)
    damage, kept = repair.accept_loss(args.results_dir, args.confirm)
    done = f"repaired: {damage.kept_events} events stay; the damaged log is {kept}" if kept else damage.text()
    return Result(done, {**damage._asdict(), "kept_as": kept})


def main(argv: list[str] | None = None) -> int:
    return run_main(build_parser, run, argv)


if __name__ == "__main__":
    sys.exit(main())
