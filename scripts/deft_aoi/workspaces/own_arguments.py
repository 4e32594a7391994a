"""From the arguments of ``make_workspace.py`` to samples: folders or a CSV, not both."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from deft_aoi.contract.errors import UsageError
from deft_aoi.contract.paths import given
from deft_aoi.contract.text import quoted
from deft_aoi.workspaces.own_data import Sample, from_csv, lights_of_map, parse_map
from deft_aoi.workspaces.own_folders import from_folders, images_below, key_of, library
from deft_aoi.workspaces.own_pattern import Pattern, lights_by_pattern, refuse_unsaid_lights


def find_samples(args: argparse.Namespace) -> tuple[list[Sample], tuple[str, ...], list[str]]:
    """The samples that the arguments point to, the lights, and what the user should know.

    Raises:
        UsageError: folders and CSV together, neither, or options of one with the other.
        HardStop: what :mod:`deft_aoi.workspaces.own_data` refuses.
    """
    notes: list[str] = []
    csv_goldens = args.csv is not None and args.golden is not None
    if (
        (args.csv is None) == (args.test is None)
        or (args.test and not args.golden)
        or csv_goldens != bool(args.csv and args.golden_by)
    ):
        raise UsageError(
            "what to read is not clear",
            expected="--test DIR with --golden DIR, or --csv FILE with --map (golden library: --golden, --golden-by)",
        )
    if args.csv is not None:
        if args.lights is not None or args.board_regex or args.pattern:
            raise UsageError(
                "--lights, --board-regex and --pattern go with folders", hint="use --map input.LIGHT=COLUMN, board=COLUMN"
            )
        mapping = parse_map(args.map)
        lights = lights_of_map(mapping, library=args.golden is not None)
        root = args.images_root or args.csv.expanduser().absolute().parent
        samples = from_csv(
            given(args.csv),
            mapping,
            images_root=root.resolve(),
            pass_label=args.pass_label,
            goldens=library(args.golden.resolve(), lights, args.golden_by, notes) if args.golden else None,
            defect_labels=args.defect_label,
            delimiter=args.delimiter,
            encoding=args.encoding,
            notes=notes,
        )
        return samples, lights, notes
    if args.map or args.images_root or args.delimiter or args.encoding:
        raise UsageError("--map, --images-root, --delimiter and --encoding go with --csv")
    check_board_regex(args.board_regex)
    test = args.test.resolve()
    lights, pattern = _lights_and_pattern(args, test)
    samples = from_folders(
        test,
        args.golden.resolve(),
        lights=lights,
        pass_label=args.pass_label,
        board_regex=args.board_regex,
        pattern=pattern,
        golden_by=args.golden_by,
        defect_labels=args.defect_label,
        notes=notes,
    )
    return samples, lights, notes


def _lights_and_pattern(args: argparse.Namespace, test: Path) -> tuple[tuple[str, ...], Pattern | None]:
    """The lights that the user names, those that the pattern finds, or none; a likely case is refused with the option."""
    said = tuple(light for raw in (args.lights or "").split(",") if (light := raw.strip()) not in ("", "none"))
    pattern = Pattern(args.pattern, said) if args.pattern else None
    if said:
        return said, pattern
    keys = [key_of(path) for path in images_below(test, "test", [])]
    if pattern and "light" in pattern.fields:
        return lights_by_pattern(keys, pattern), pattern
    if args.lights is None:
        refuse_unsaid_lights(keys)
    return ("",), pattern


def check_board_regex(expression: str | None) -> None:
    """Refuse an expression that cannot be compiled.

    Raises:
        UsageError: with what is wrong.
    """
    try:
        re.compile(expression or "")
    except re.error as error:
        raise UsageError("--board-regex cannot be read", found=quoted(error)) from error
