"""The rows of new boards: a ChangeNet CSV as it is, or the user's own table or folders, put where an engine finds them."""

from __future__ import annotations

import argparse
import shutil
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from deft_aoi.contract import spec as specs
from deft_aoi.contract.changenet_csv import MANDATORY, read_changenet_csv, read_table, write_changenet_csv
from deft_aoi.contract.errors import HardStop, UsageError
from deft_aoi.contract.images import FORMAT_OF, format_of, open_image
from deft_aoi.contract.paths import given
from deft_aoi.contract.text import PASS, quoted

if TYPE_CHECKING:
    import pandas as pd

    from deft_aoi.workspaces.own_data import Sample

STAGED = "boards"
FILE_COLUMNS = ("test_file", "golden_file")
"""Where the user finds the images of a row that was not a ChangeNet row: the first light of each side."""


@dataclass(frozen=True)
class Boards:
    """New boards, checked.

    Attributes:
        frame: N ChangeNet rows; where labels are not known, ``label`` is PASS, which the score does not depend on.
        known: whether every row came with its label.
        images: folder that the rows' paths are relative to.
    """

    frame: pd.DataFrame
    known: bool
    images: Path


def read_boards(args: argparse.Namespace, spec: specs.Spec, out: Path) -> Boards:
    """The boards that ``infer.py``'s arguments point to.

    Args:
        args: ``csv`` with ``images``; ``csv`` with ``map``; or ``test`` with ``golden``.
        spec: the model's inference spec, which says lights and suffix.
        out: output folder; images of a user's own table or folders are copied or converted into it.

    Raises:
        UsageError: it is not clear what to read, or the output folder lies in what is read.
        HardStop: the rows break their contract, or a model's light has no image.
    """
    folders = args.test is not None or args.golden is not None
    if folders == (args.csv is not None) or (folders and (args.test is None or args.golden is None or args.map)):
        raise UsageError(
            "what to score is not clear",
            expected="--csv FILE with --images DIR; --csv FILE with --map; or --test DIR with --golden DIR",
        )
    if not folders and not args.map:
        if args.images is None:
            raise UsageError("--csv of ChangeNet rows needs --images", expected="the folder that the rows' paths are relative to")
        return changenet_boards(given(args.csv), Path(args.images))
    samples = _from_folders(args, specs.lights(spec), out) if folders else _from_table(args, specs.lights(spec))
    return _stage(samples, spec, out / STAGED)


def changenet_boards(csv: Path, images: Path) -> Boards:
    """Rows of a ChangeNet CSV; ``label`` may be missing or empty.

    Raises:
        HardStop: the rows break their contract.
    """
    folder = images.expanduser().resolve()
    found = read_table(csv, what="boards", mandatory=tuple(c for c in MANDATORY if c != "label"))
    if "label" in found.columns and bool((found["label"] != "").all()):
        return Boards(read_changenet_csv(csv, what="boards"), True, folder)
    import tempfile

    with tempfile.TemporaryDirectory() as scratch:  # the one reader then checks names and paths too
        path = Path(scratch) / "boards.csv"
        write_changenet_csv(found.assign(label=PASS), path)
        frame = read_changenet_csv(path, what="boards")[[*dict.fromkeys([*found.columns, "label"])]]
    return Boards(frame, False, folder)


def _from_folders(args: argparse.Namespace, lights: tuple[str, ...], out: Path) -> list[Sample]:
    from deft_aoi.workspaces.own_arguments import check_board_regex
    from deft_aoi.workspaces.own_folders import from_folders

    test, golden = Path(args.test).resolve(), Path(args.golden).resolve()
    inside = [folder for folder in (test, golden) if out.is_relative_to(folder)]
    if inside:
        raise UsageError(
            "the output folder lies in a folder that is read",
            expected="a folder outside of --test and --golden",
            found=quoted(out, 200),
            hint="next time its images would be taken for boards",
        )
    check_board_regex(args.board_regex)
    return from_folders(
        test,
        golden,
        lights=lights,
        pass_label=PASS,
        board_regex=args.board_regex,
        golden_by=args.golden_by,
        labelled=False,
    )


def _from_table(args: argparse.Namespace, lights: tuple[str, ...]) -> list[Sample]:
    from deft_aoi.workspaces.own_data import from_csv, lights_of_map, parse_map

    mapping = {role: column for role, column in parse_map(args.map).items() if role != "label"}
    if len(lights) == 1 and lights != ("",):  # then plain input= and golden= say enough
        mapping = {f"{role}.{lights[0]}" if role in ("input", "golden") else role: c for role, c in mapping.items()}
    found = lights_of_map(mapping, labelled=False)
    if sorted(found) != sorted(lights):
        raise UsageError(
            "--map names other lights than the model's",
            expected=", ".join(lights) if lights != ("",) else "input=COLUMN,golden=COLUMN",
            found=quoted(", ".join(found) or "one image a part"),
        )
    ordered = {f"{side}.{light}" if light else side: "" for side in ("input", "golden") for light in lights}
    mapping = {role: mapping[role] for role in ordered} | mapping  # the model's order of lights, not the typed one
    root = Path(args.images) if args.images else given(args.csv).parent
    return from_csv(given(args.csv), mapping, images_root=root.resolve(), pass_label=PASS, labelled=False)


def _stage(samples: list[Sample], spec: specs.Spec, folder: Path) -> Boards:
    """A copy of each image under the one name that the spec makes of its row."""
    import pandas as pd

    lights, extension = specs.lights(spec), specs.image_ext(spec)
    if not samples:
        raise HardStop("there is no board to score", expected="at least one test image or row")
    seen: Counter[tuple[str, str]] = Counter()
    rows = []
    for sample in samples:
        number = seen[sample.board, sample.object_name]
        seen[sample.board, sample.object_name] += 1
        place = f"{sample.board}/{number}" if number else sample.board
        row = {"input_path": f"test/{place}", "golden_path": f"golden/{place}", "object_name": sample.object_name, "label": PASS}
        for column, files in (("input_path", sample.test), ("golden_path", sample.golden)):
            (folder / row[column]).mkdir(parents=True, exist_ok=True)
            for light, source in zip(lights, files, strict=True):
                name = f"{sample.object_name}_{light}{extension}" if light else f"{sample.object_name}{extension}"
                _put(source, folder / row[column] / name, extension)
        rows.append({**row, **sample.extra, FILE_COLUMNS[0]: str(sample.test[0]), FILE_COLUMNS[1]: str(sample.golden[0])})
    return Boards(pd.DataFrame(rows).fillna(""), False, folder)


def _put(source: Path, target: Path, extension: str) -> None:
    target.unlink(missing_ok=True)
    if format_of(source) != FORMAT_OF.get(extension.lower()):
        from deft_aoi.workspaces.builder import encode

        # Readers go by content, not by suffix; a JPEG of it would be other pixels.
        target.write_bytes(encode(open_image(source), ".png"))
        return
    shutil.copyfile(source, target)  # not linked: a picture with a second name is refused when it is read
