"""From the arguments of ``make_workspace.py`` to samples: folders or a CSV, not both."""

from __future__ import annotations

import argparse
import re

from deft_aoi.contract.errors import UsageError
from deft_aoi.contract.paths import given
from deft_aoi.contract.text import quoted
from deft_aoi.workspaces.own_data import Sample, from_csv, from_folders, lights_of_map, parse_map


def find_samples(args: argparse.Namespace) -> tuple[list[Sample], tuple[str, ...], list[str]]:
    """The samples that the arguments point to, the lights, and what the user should know.

    Raises:
        UsageError: folders and CSV together, neither, or options of one with the other.
        HardStop: what :mod:`deft_aoi.workspaces.own_data` refuses.
    """
    notes: list[str] = []
    folders = args.test is not None or args.golden is not None
    if folders == (args.csv is not None) or (folders and (args.test is None or args.golden is None)):
        raise UsageError("what to read is not clear", expected="--test DIR with --golden DIR, or --csv FILE with --map")
    if args.csv is not None:
        if args.lights or args.board_regex or args.golden_by:
            raise UsageError(
                "--lights, --board-regex and --golden-by go with folders", hint="use --map input.LIGHT=COLUMN, board=COLUMN"
            )
        mapping = parse_map(args.map)
        root = args.images_root or args.csv.expanduser().absolute().parent
        samples = from_csv(
            given(args.csv),
            mapping,
            images_root=root.resolve(),
            pass_label=args.pass_label,
            defect_labels=args.defect_label,
            delimiter=args.delimiter,
            encoding=args.encoding,
            notes=notes,
        )
        return samples, lights_of_map(mapping), notes
    if args.map or args.images_root or args.delimiter or args.encoding:
        raise UsageError("--map, --images-root, --delimiter and --encoding go with --csv")
    lights = tuple(light.strip() for light in args.lights.split(",") if light.strip()) or ("",)
    check_board_regex(args.board_regex)
    samples = from_folders(
        args.test.resolve(),
        args.golden.resolve(),
        lights=lights,
        pass_label=args.pass_label,
        board_regex=args.board_regex,
        golden_by=args.golden_by,
        defect_labels=args.defect_label,
        notes=notes,
    )
    return samples, lights, notes


def check_board_regex(expression: str | None) -> None:
    """Refuse an expression that cannot be compiled.

    Raises:
        UsageError: with what is wrong.
    """
    try:
        re.compile(expression or "")
    except re.error as error:
        raise UsageError("--board-regex cannot be read", found=quoted(error)) from error
