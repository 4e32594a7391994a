"""Move goldens onto their tests: a folder of registered goldens and a CSV that names them, for whoever runs TAO elsewhere.

A model that was trained on registered pairs is fed registered pairs; --model takes its parameters from best_model.json.
Exit codes: 0; 2 arguments; 3 the rows break their contract, an image is missing or damaged.
"""

from __future__ import annotations

import argparse
import sys

from deft_aoi.cli import Result, run_main
from deft_aoi.loop.options import REQUIRES


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0],
        epilog="example:\n  python scripts/register_goldens.py --model best_model.json --csv new.csv --images photos --output o",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--model", metavar="FILE", help="best_model.json with its inference spec beside it")
    source.add_argument("--spec", metavar="FILE", help="an experiment spec: image size, lights and extension; no model yet")
    parser.add_argument("--csv", required=True, metavar="FILE", help="input_path, golden_path, object_name; label may be missing")
    parser.add_argument("--images", required=True, metavar="DIR", help="folder that the rows' paths are relative to")
    parser.add_argument("--output", required=True, metavar="DIR", help="registered.csv, shifts.csv, look_at.csv, goldens/")
    parser.add_argument("--limit", type=int, metavar="PIXELS", help="with --spec: largest shift (default: 6/64 of the picture)")
    return parser


def run(args: argparse.Namespace) -> Result:
    from deft_aoi.loop.register_command import register_from

    return Result(*register_from(args))


def main(argv: list[str] | None = None) -> int:
    return run_main(build_parser, run, argv, requires=REQUIRES)


if __name__ == "__main__":
    sys.exit(main())
