"""Export the handed-over model as ONNX and show that it decides as the engine does: model.onnx and export.json.

Needs no approval: it writes into its own folder and touches no run.
Exit codes: 0; 2 arguments; 3 a file is not the one handed over, too few rows, or the graph lost parity (then it is deleted);
4 onnx, onnxscript or onnxruntime is missing; 7 the job failed.
"""

from __future__ import annotations

import argparse
import sys

from deft_aoi.cli import Result, run_main
from deft_aoi.loop.options import REQUIRES


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0],
        epilog="examples:\n  python scripts/export_model.py --model RUN_DIR --output station\n"
        "  python scripts/export_model.py --model kept/best_model.json --csv boards.csv --images photos --output station",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--model", required=True, metavar="PATH", help="best_model.json, or a run's folder")
    parser.add_argument("--format", choices=("onnx",), default="onnx", help="of the graph (default onnx)")
    parser.add_argument("--csv", metavar="FILE", help="rows to compare on (default: the sets of the run's workspace)")
    parser.add_argument("--images", metavar="DIR", help="folder that the rows' paths are relative to")
    parser.add_argument("--output", required=True, metavar="DIR", help="model.onnx, export.json and job files go here")
    return parser


def run(args: argparse.Namespace) -> Result:
    from deft_aoi.loop import export
    from deft_aoi.loop.infer_command import show_progress

    body = export.export_model(args, show_progress)
    return Result(export.text(body), body)


def main(argv: list[str] | None = None) -> int:
    return run_main(build_parser, run, argv, requires=REQUIRES)


if __name__ == "__main__":
    sys.exit(main())
