"""Render a demo workspace: a PCB inspection line whose KPI set has defects that its training set has never seen.

Examples:
  make_demo_workspace.py --output ~/workspace
  make_demo_workspace.py --output /data/demo --seed 3 --lights 2 --size 96
  make_demo_workspace.py --output /data/tiny --scale small --json

Exit codes: 0 done, 2 wrong arguments or the output folder has content, 3 the output path breaks the path rule.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from deft_aoi.cli import Result, run_main


def build_parser() -> argparse.ArgumentParser:
    lines = (__doc__ or "").splitlines()
    p = argparse.ArgumentParser(
        description=lines[0], epilog="\n".join(lines[2:]), formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("--output", type=Path, required=True, help="folder to create (must not exist, or be empty)")
    p.add_argument("--seed", type=int, default=7, help="same seed, same bytes (default 7)")
    p.add_argument("--size", type=int, default=64, help="side of a crop in pixels, 64 to 128 (default 64)")
    p.add_argument("--lights", type=int, default=1, help="lights per crop, 1 to 4 (default 1)")
    p.add_argument("--scale", choices=("small", "demo", "large"), default="demo", help="how many rows (default demo: 1,540)")
    p.add_argument(
        "--camera-error",
        type=float,
        default=0.8,
        metavar="PX",
        help="how far off the camera stops, of 64 px, 0 to 4 (default 0.8)",
    )
    p.add_argument("--workers", type=int, default=2, help="processes that render (default 2); the result is the same")
    return p


def run(args: argparse.Namespace) -> Result:
    from deft_aoi.demo.workspace import make_demo
    from deft_aoi.workspaces.builder import report_text

    report = make_demo(
        args.output,
        seed=args.seed,
        size=args.size,
        lights=args.lights,
        scale=args.scale,
        workers=args.workers,
        camera_error=args.camera_error,
    )
    return Result(report_text(report, args.output), report)


def main(argv: list[str] | None = None) -> int:
    return run_main(build_parser, run, argv, requires=("numpy", "PIL", "scipy", "pandas", "pyarrow", "yaml", "jsonschema"))


if __name__ == "__main__":
    sys.exit(main())
