"""List where jobs can run: what each platform needs, and what is ready on this machine. Changes nothing, logs in nowhere.

Without --platform: one line each, for the question "which platform?". With --platform: its needs and checks in full,
so that only its own credentials are asked for. Exit codes: 0 listed, 2 no such platform, 4 no such skill bank.
"""

from __future__ import annotations

import argparse
import sys

from deft_aoi.cli import Result, run_main

EPILOG = """Examples:
  python scripts/list_tao_platforms.py
  python scripts/list_tao_platforms.py --platform docker
  python scripts/list_tao_platforms.py --platform slurm --platform-option host=login.cluster --format json
"""


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--platform", metavar="NAME", help="one of local, docker, slurm, kubernetes")
    parser.add_argument("--platform-option", action="append", default=[], metavar="KEY=VALUE", help="an option of that platform")
    parser.add_argument("--skill-bank", metavar="PATH", help="folder that holds a versions.yaml")
    parser.add_argument("--format", choices=("text", "json"), default="text", help="text (default) or json")
    return parser


def run(args: argparse.Namespace) -> Result:
    from deft_aoi.contract.files import canonical_json
    from deft_aoi.platforms import catalog

    found = catalog.describe(args.platform, catalog.parse_options(args.platform_option))
    if args.skill_bank:
        from deft_aoi.engines import container_images

        found["versions_file"] = str(container_images.versions_file(args.skill_bank))
    return Result(canonical_json(found) if args.format == "json" else catalog.as_text(found), found)


def main(argv: list[str] | None = None) -> int:
    return run_main(build_parser, run, argv, requires=("yaml",))


if __name__ == "__main__":
    sys.exit(main())
