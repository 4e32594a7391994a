"""A person approves a pending plan by typing the last six characters of its digest.

Exit codes: 0 approved; 2 no such plan; 5 not approved.
"""

from __future__ import annotations

import argparse
import sys

from deft_aoi.cli import Result, run_main


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0],
        epilog="example:\n  python scripts/approve.py 3f2a9c0d11ee",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("digest", nargs="?", help="the plan's digest or its first characters (default: the newest pending plan)")
    parser.add_argument("--confirm", metavar="XXXXXX", help="the last six characters, instead of typing them at the prompt")
    return parser


def run(args: argparse.Namespace) -> Result:
    from deft_aoi.contract.commands import command
    from deft_aoi.loop.approval import approve_at_terminal

    digest = approve_at_terminal(args.digest, args.confirm)
    return Result(
        f"approved: plan {digest[:12]}\nnext: {command('init_deft_state')} --plan-digest {digest[:12]}", {"digest": digest}
    )


def main(argv: list[str] | None = None) -> int:
    return run_main(build_parser, run, argv)


if __name__ == "__main__":
    sys.exit(main())
