"""Turn your own clone of DeepPCB into a workspace with board-disjoint parts.

Examples:
  git clone https://github.com/tangsanli5201/DeepPCB
  import_deeppcb.py --deeppcb DeepPCB --output ~/workspace
  import_deeppcb.py --deeppcb DeepPCB/PCBData --output /data/deeppcb --base-labels open,short,spur --seed 3

DeepPCB's README allows research use only. Nothing is downloaded; the clone is only read.
Exit codes: 0 done, 2 wrong arguments or the output folder has content, 3 the clone is damaged or too small, 4 no clone there.
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
    p.add_argument("--deeppcb", type=Path, required=True, help="the clone, or its PCBData folder")
    p.add_argument("--output", type=Path, required=True, help="folder to create (must not exist, or be empty)")
    p.add_argument("--base-labels", default="open,short", help="defects that base training has (default open,short)")
    p.add_argument("--crop", type=int, default=64, help="side of a crop in pixels (default 64)")
    p.add_argument("--blank-pass", type=float, default=0.35, help="share of PASS crops from empty areas (default 0.35)")
    p.add_argument("--rows-scale", type=float, default=1.0, help="factor on all row counts (default 1: 2,500 rows)")
    p.add_argument("--seed", type=int, default=7, help="same clone and seed, same workspace (default 7)")
    return p


def run(args: argparse.Namespace) -> Result:
    from deft_aoi.workspaces.builder import report_text
    from deft_aoi.workspaces.deeppcb import Options, import_deeppcb

    labels = tuple(label.strip() for label in args.base_labels.split(",") if label.strip())
    options = Options(labels, args.crop, args.blank_pass, args.rows_scale, args.seed)
    report = import_deeppcb(args.deeppcb, args.output, options)
    return Result(report_text(report, args.output), report)


def main(argv: list[str] | None = None) -> int:
    return run_main(build_parser, run, argv, requires=("numpy", "PIL", "scipy", "pandas", "pyarrow", "yaml", "jsonschema"))


if __name__ == "__main__":
    sys.exit(main())
