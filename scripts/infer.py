"""Score new boards with a handed-over model and decide at its threshold: decisions.csv and decisions.json.

Exit codes: 0; 2 arguments, or another engine than the model's; 3 a file is not the one handed over, or the rows break their
contract; 4 the platform is not reachable; 7 the job failed.
"""

from __future__ import annotations

import argparse
import sys

from deft_aoi.cli import Result, run_main
from deft_aoi.loop.options import REQUIRES


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0],
        epilog="examples:\n  python scripts/infer.py --model R/best_model.json --csv boards.csv --images photos --output out\n"
        "  python scripts/infer.py --model RUN_DIR --test shots --golden goldens --output out\n"
        "  python scripts/infer.py --model RUN_DIR --csv parts.csv --map input=photo,golden=reference --output out",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--model", required=True, metavar="PATH", help="best_model.json (its inference spec beside it), or a run's folder"
    )
    parser.add_argument(
        "--csv", metavar="FILE", help="input_path, golden_path, object_name (label may be missing), or with --map"
    )
    parser.add_argument("--images", metavar="DIR", help="folder that the rows' paths are relative to (with --map: the CSV's)")
    parser.add_argument("--map", action="append", default=[], metavar="ROLE=COLUMN", help="your CSV: input=A,golden=B[,board=C]")
    parser.add_argument("--test", metavar="DIR", help="instead of a CSV: test images, [<board>/]<name>, any image suffix")
    parser.add_argument("--golden", metavar="DIR", help="golden images: the same paths, or see --golden-by")
    parser.add_argument("--golden-by", choices=("file", "object_name"), help="golden library: the one of this name")
    parser.add_argument("--board-regex", metavar="RE", help="its first group names the board, searched in the path below --test")
    parser.add_argument("--output", required=True, metavar="DIR", help="decisions, scores and job records go here")
    parser.add_argument("--checkpoint", metavar="FILE", help="where the checkpoint lies now, when it was moved")
    parser.add_argument("--engine", help="only to make sure: a checkpoint belongs to one engine")
    parser.add_argument("--platform", help="local, docker, slurm, kubernetes (default: the run's)")
    parser.add_argument("--platform-option", action="append", metavar="KEY=VALUE", help="an option of the platform")
    parser.add_argument("--image", metavar="REF", help="container image instead of the pinned one")
    parser.add_argument("--tao-python", metavar="PATH", help="Python with NVIDIA's TAO wheels (engine tao, platform local)")
    return parser


def run(args: argparse.Namespace) -> Result:
    from deft_aoi.loop.infer_command import infer_from

    return Result(*infer_from(args))


def main(argv: list[str] | None = None) -> int:
    return run_main(build_parser, run, argv, requires=REQUIRES)


if __name__ == "__main__":
    sys.exit(main())
