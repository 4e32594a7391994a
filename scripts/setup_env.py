"""Makes the skill's own Python environment in the user's data folder.

Usage examples:
    python3 setup_env.py                      packages from the lock file, PyTorch from the default index
    python3 setup_env.py --torch cpu          the CPU build of PyTorch
    python3 setup_env.py --wheels DIR         offline: everything from a folder of wheels
    python3 setup_env.py --check              only say whether it is there (exit 4 where it is not)

Exit codes: 0 done or already there, 2 wrong usage, 4 blocked (no network, no venv module, Python too old).
"""

from __future__ import annotations

import argparse
import sys

from deft_aoi.cli import Result, run_main


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").splitlines()[0],
        epilog="Examples:\n  setup_env.py --torch cpu\n  setup_env.py --wheels ~/wheels",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--torch",
        default="default",
        metavar="BUILD",
        help="PyTorch build: cuda (default), cpu (much smaller), none, or a CUDA tag of its index such as cu130",
    )
    parser.add_argument("--wheels", metavar="DIR", help="take every package from this folder; no network")
    parser.add_argument("--check", action="store_true", help="change nothing, say what is there")
    parser.add_argument("--force", action="store_true", help="make it again although it is complete")
    return parser


def run(args: argparse.Namespace) -> Result:
    """One call into the library."""
    from deft_aoi import environment

    report = environment.check() if args.check else environment.create(args.torch, args.wheels, force=args.force)
    return Result(text=report.text, data=report.data)


def main(argv: list[str] | None = None) -> int:
    """Entry point."""
    return run_main(build_parser, run, argv)


if __name__ == "__main__":
    sys.exit(main())
