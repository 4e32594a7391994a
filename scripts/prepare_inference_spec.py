"""Hand over the best model so far: best_model.json and best_model_inference_spec.yaml, both or neither, digests checked.

Exit codes: 0; 2 not a run; 3 nothing was evaluated yet, or a file is not the one on record; 5 no approved plan; 6 a driver
holds the run (name another folder with --output-dir, then it need not wait).
"""

from __future__ import annotations

import argparse
import sys

from deft_aoi.cli import Result, run_main
from deft_aoi.loop.options import REQUIRES


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0],
        epilog="examples:\n  python scripts/prepare_inference_spec.py --results-dir R\n"
        "  python scripts/prepare_inference_spec.py --results-dir R --output-dir /deploy/line3    (while the loop goes on)",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--results-dir", required=True, metavar="DIR", help="the run's folder")
    parser.add_argument("--output-dir", metavar="DIR", help="write the two files here; the run and its record stay as they are")
    return parser


def run(args: argparse.Namespace) -> Result:
    from pathlib import Path

    from deft_aoi.contract.commands import command
    from deft_aoi.loop.stages.handoff import prepare

    body, path = prepare(Path(args.results_dir), Path(args.output_dir) if args.output_dir else None)
    lines = [
        f"{body['iteration']} of {body['run']}: {body['verdict']} ({body['status']})",
        f"threshold {body['threshold']!r}: a score above it is a defect",
        f"model: {path}",
        f"spec:  {body['inference_spec']['path']}",
        f"next:  {command('infer')} --model {path} --csv BOARDS.csv --images FOLDER --output OUT",
    ]
    return Result("\n".join(lines), body)


def main(argv: list[str] | None = None) -> int:
    return run_main(build_parser, run, argv, requires=REQUIRES)


if __name__ == "__main__":
    sys.exit(main())
