"""Check a workspace's data without changing it: every finding with its fix, errors first.

Examples:
  check_data.py --workspace ~/workspace
  check_data.py --workspace ~/workspace --json
  check_data.py --workspace ~/workspace --html check.html
  check_data.py --workspace ~/workspace --write-fixed proposal     (cleaned CSVs, changes.txt, data_check.json)

Exit codes: 0 no errors (warnings and notes are shown), 2 wrong arguments, 3 errors that would stop the loop, 4 no workspace
there.
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
    p.add_argument("--workspace", type=Path, default=Path("~/workspace"), help="workspace to check (default ~/workspace)")
    p.add_argument(
        "--allow-near-duplicates",
        action="store_true",
        help="accept rows that show a validation, KPI or hold-out image in another dress (exact copies never)",
    )
    p.add_argument("--defect-label", action="append", default=[], metavar="LABEL", help="a defect although its name means good")
    p.add_argument("--html", type=Path, metavar="FILE", help="a page with the near-duplicates, suspect labels and damaged images")
    p.add_argument("--write-fixed", type=Path, metavar="DIR", help="propose cleaned CSVs in DIR (must be new or empty)")
    return p


def run(args: argparse.Namespace) -> Result:
    from deft_aoi.loop.data_commands import check_from

    return Result(*check_from(args))


def main(argv: list[str] | None = None) -> int:
    return run_main(
        build_parser, run, argv, requires=("numpy", "PIL", "pandas", "pyarrow", "scipy", "yaml", "jsonschema", "jinja2")
    )


if __name__ == "__main__":
    sys.exit(main())
