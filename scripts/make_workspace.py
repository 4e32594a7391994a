"""Turn your own test and golden images into a workspace: board-disjoint parts, files copied, labels checked.

Examples:
  make_workspace.py --test shots --golden golden --output ~/workspace            (shots/<label>/<board>/<name>.jpg)
  make_workspace.py --test shots --golden golden --output ws --pass-label OK --board-regex '^([^_]+)_' --lights SolderLight
  make_workspace.py --csv parts.csv --images-root /data --output ws --map input=img,golden=ref,label=verdict,board=serial
  make_workspace.py --test shots --golden library --output ws --pattern '{board}/{part_type}/{object}' --golden-by part_type
  make_workspace.py --csv parts.csv --output ws --map input.Top=a,input.Side=b,golden.Top=c,golden.Side=d,label=v,board=s

At a terminal a preview page is written and asked about before the workspace is (--yes does not ask).
Exit codes: 0 done, 2 wrong arguments or the output folder has content, 3 data that cannot be used (named, with the fix),
9 the answer was no.
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
    p.add_argument("--test", type=Path, help="test images: <label>/<board>/<name>.<ext>")
    p.add_argument("--golden", type=Path, help="golden images: the same paths (label folder optional), or the same names")
    p.add_argument("--csv", type=Path, help="instead of folders: a CSV, one row a part")
    p.add_argument("--map", action="append", default=[], metavar="ROLE=COLUMN", help="columns of the CSV (see the examples)")
    p.add_argument("--images-root", type=Path, help="what the CSV's image cells are relative to (default: its folder)")
    p.add_argument("--lights", help="lights at the end of the file names, with commas; none: each image is a part (default: ask)")
    p.add_argument("--pattern", help="what the path below the label folder means: '{board}/{part_type}/{object}_{light}'")
    p.add_argument("--pass-label", default="PASS", help="your label of a good part, several with commas, in any case")
    p.add_argument("--defect-label", action="append", default=[], metavar="LABEL", help="a defect although its name means good")
    p.add_argument(
        "--golden-by",
        choices=("part_type", "object_name", "file"),
        help="golden library: where a golden has another path, the one of this name; with --csv and --golden, too",
    )
    p.add_argument("--delimiter", help="between the cells of the CSV (default: detected)")
    p.add_argument("--encoding", help="of the CSV, such as cp1252, gbk, shift_jis (default: detected)")
    p.add_argument("--board-regex", help="its first group names the board, searched in the path below the label folder")
    p.add_argument("--bit-depth", choices=("12", "16", "auto"), help="scale images of more than 8 bits a channel to 8")
    p.add_argument("--fractions", default="train=0.3,validation=0.1,kpi=0.25,holdout=0.1,pool=0.25", help="share of each part")
    p.add_argument("--spec", type=Path, help="spec to start from, e.g. for TAO (default: one for the embedded engine)")
    p.add_argument("--preview", type=Path, metavar="FILE", help="only write a page of counts and ten pairs, no workspace")
    p.add_argument("--yes", action="store_true", help="at a terminal: write without showing the preview and asking")
    p.add_argument("--seed", type=int, default=7, help="same data and seed, same workspace (default 7)")
    return p


def run(args: argparse.Namespace) -> Result:
    from deft_aoi.loop.data_commands import make_from

    return Result(*make_from(args))


def main(argv: list[str] | None = None) -> int:
    return run_main(build_parser, run, argv, requires=("numpy", "PIL", "pandas", "pyarrow", "yaml", "jsonschema", "jinja2"))


if __name__ == "__main__":
    sys.exit(main())
