"""Print one value of the versions file, such as an image reference.

Looks in --skill-bank, else in $TAO_SKILL_BANK_PATH/versions.yaml, else in the skill's own specs/versions.yaml.
Exit codes: 0 found, 2 not a key, 3 no such key, 4 no such file.
"""

from __future__ import annotations

import argparse
import sys

from deft_aoi.cli import Result, run_main

EPILOG = """Examples:
  python scripts/resolve_versions_key.py images.tao_toolkit.pyt
  python scripts/resolve_versions_key.py images.tao_toolkit.data_services --skill-bank ~/tao-skills-external --json
"""


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("key", help="dotted key, for example images.tao_toolkit.pyt")
    parser.add_argument("--skill-bank", metavar="PATH", help="folder that holds a versions.yaml")
    return parser


def run(args: argparse.Namespace) -> Result:
    from deft_aoi.contract.text import printable
    from deft_aoi.engines import container_images

    value = container_images.resolve_key(args.key, args.skill_bank)
    source = str(container_images.versions_file(args.skill_bank))
    return Result(printable(value, 300), {"key": args.key, "value": value, "source": source})


def main(argv: list[str] | None = None) -> int:
    return run_main(build_parser, run, argv, requires=("yaml",))


if __name__ == "__main__":
    sys.exit(main())
