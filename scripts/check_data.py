"""Check a workspace's data without changing it: every finding with its fix, errors first.

Examples:
  check_data.py --workspace ~/workspace
  check_data.py --workspace ~/workspace --json
  check_data.py --workspace ~/workspace --write-fixed proposal     (cleaned CSVs, changes.txt, data_check.json)

Exit codes: 0 no errors (warnings and notes are shown), 2 wrong arguments, 3 errors that would stop the loop.
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
    p.add_argument("--write-fixed", type=Path, metavar="DIR", help="propose cleaned CSVs in DIR (must be new or empty)")
    return p


def run(args: argparse.Namespace) -> Result:
    from deft_aoi.workspaces.check_findings import write_fixed
    from deft_aoi.workspaces.check_workspace import check_workspace

    report = check_workspace(args.workspace, allow_near=args.allow_near_duplicates, defect_labels=args.defect_label)
    data, text = report.as_dict(), report.text()
    if args.write_fixed is not None:
        written = write_fixed(report, args.write_fixed)
        text += "\n" + ("\n".join(written[:5]) or "nothing to clean: no CSV written")
        data = {**data, "written": written}
    return Result(text, data, 3 if report.counts["error"] else 0)


def main(argv: list[str] | None = None) -> int:
    return run_main(build_parser, run, argv, requires=("numpy", "PIL", "pandas", "pyarrow", "scipy", "yaml", "jsonschema"))


if __name__ == "__main__":
    sys.exit(main())
