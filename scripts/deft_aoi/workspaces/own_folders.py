"""Finding the samples in folders: ``test/<label>/<board>/<name>`` and the golden images."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from deft_aoi.contract.errors import HardStop, UsageError
from deft_aoi.contract.images import format_of
from deft_aoi.contract.paths import resolve_under
from deft_aoi.contract.text import PASS, quoted
from deft_aoi.workspaces.own_data import MAX_LISTED, Sample, all_problems, kept_name
from deft_aoi.workspaces.own_goldens import GoldenLibrary
from deft_aoi.workspaces.own_names import canonical_label, refuse_good_as_defect, safe_name
from deft_aoi.workspaces.own_pattern import Pattern

_MASK = re.compile("_(mask|gt|seg)$")


def images_below(root: Path, what: str, notes: list[str]) -> list[str]:
    """Relative POSIX paths of the images below ``root``, sorted; what is left out is counted in ``notes``.

    Raises:
        HardStop: a symbolic link (its target could lie anywhere).
    """
    found = []
    left_out: Counter[str] = Counter()
    for folder, dirs, files in os.walk(root):
        dirs[:] = sorted(d for d in dirs if not d.startswith("."))
        for name in [*dirs, *files]:
            if Path(folder, name).is_symlink():
                raise HardStop(
                    f"{quoted(Path(folder, name), 200)} is a symbolic link",
                    expected="real files and folders",
                    hint="copy what it points to",
                )
        for name in files:
            if not name.startswith(".") and format_of(name):
                found.append(Path(folder, name).relative_to(root).as_posix())
            else:
                left_out["hidden" if name.startswith(".") else Path(name).suffix.lower() or "no suffix"] += 1
    if left_out:
        notes.append(
            f"{left_out.total()} files of the {what} folder were left out: "
            + ", ".join(f"{quoted(reason, 20)} {count}" for reason, count in left_out.most_common(8))
        )
    keys = {os.path.splitext(path)[0] for path in found}  # noqa: PTH122
    masks = {path for path in found if (key := os.path.splitext(path)[0]) != (plain := _MASK.sub("", key)) and plain in keys}  # noqa: PTH122
    if masks:
        notes.append(f"{len(masks)} masks of the {what} folder were left out, first {quoted(min(masks), 120)}")
    return sorted(p for p in found if p not in masks)


def key_of(path: str) -> str:
    """The path without its suffix."""
    return path[: -len(Path(path).suffix)]


def split_light(key: str, lights: Sequence[str], pattern: Pattern | None = None) -> tuple[str, int] | None:
    """``(key without light, index of the light)``, or ``None`` where the name has no light."""
    if lights == ("",):
        return key, 0
    found = pattern.split_light(key) if pattern else None
    if found and found[1] in lights:
        return found[0], lights.index(found[1])
    for number, light in enumerate(lights):
        if key.endswith(f"_{light}"):
            return key[: -len(light) - 1], number
    return None


def group_lights(
    paths: Sequence[str], lights: tuple[str, ...], what: str, pattern: Pattern | None = None
) -> dict[str, tuple[str, ...]]:
    """Relative path without light and suffix → the files, one a light.

    Raises:
        HardStop: a file with no known light, two files of one name, or a light that is missing.
    """
    grouped: dict[str, dict[int, str]] = {}
    problems = []
    for path in paths:
        split = split_light(key_of(path), lights, pattern)
        if split is None:
            problems.append(f"{quoted(path, 120)}: the name ends in none of the lights")
            continue
        files = grouped.setdefault(split[0], {})
        if split[1] in files:
            problems.append(f"{quoted(files[split[1]], 120)} and {quoted(path, 120)} have one name")
        files.setdefault(split[1], path)
    for name, files in grouped.items():
        absent = [lights[n] for n in range(len(lights)) if n not in files]
        if absent:
            problems.append(f"{quoted(name, 120)}: no image for {', '.join(absent)}")
    if problems:
        raise HardStop(
            f"{len(problems)} of the {what} images cannot be used",
            expected=f"one image for each light ({', '.join(filter(None, lights)) or 'one image'})",
            found="; ".join(problems[:MAX_LISTED]),
            hint="correct the files, or --lights",
        )
    return {name: tuple(files[n] for n in range(len(lights))) for name, files in sorted(grouped.items())}


def library(
    folder: Path, lights: tuple[str, ...], rule: str | None, notes: list[str], pattern: Pattern | None = None
) -> GoldenLibrary:
    """The golden images below ``folder``. Raises like :func:`group_lights`, and UsageError where it is no folder."""
    if not folder.is_dir():
        raise UsageError(f"--golden {quoted(folder, 200)} is not a folder")
    return GoldenLibrary(folder, group_lights(images_below(folder, "golden", notes), lights, "golden", pattern), rule)


def from_folders(
    test: Path,
    golden: Path,
    *,
    lights: tuple[str, ...],
    pass_label: str,
    board_regex: str | None,
    pattern: Pattern | None = None,
    golden_by: str | None = None,
    defect_labels: Sequence[str] = (),
    notes: list[str] | None = None,
    labelled: bool = True,
) -> list[Sample]:
    """Read ``test/<label>/[<board>/…]<name>`` and match each with its golden image.

    The golden image has the same path below ``golden`` (with or without the label folder), or a rule that the user names.

    Args:
        test: folder whose sub-folders are labels.
        golden: folder of golden images.
        lights: names at the end of the file names, or of the pattern; ``("",)`` for one image a part.
        pass_label: the folder of good parts.
        board_regex: its first group (or ``board``) found in the path below the label folder names the board; ``None``: the
            pattern's board, else the first folder below the label.
        pattern: what the path below the label folder means.
        golden_by: a rule of :class:`GoldenLibrary`.
        defect_labels: see :func:`deft_aoi.workspaces.own_names.refuse_good_as_defect`.
        notes: what the user should know is appended.
        labelled: new boards have no label folder (and perhaps none of the board); their label is PASS.

    Raises:
        HardStop: see :func:`group_lights`; no board; no golden image or several; a bad name or label.
    """
    if not test.is_dir():
        raise UsageError(f"--test {quoted(test, 200)} is not a folder")
    notes = [] if notes is None else notes
    tests = group_lights(images_below(test, "test", notes), lights, "test", pattern)
    goldens = library(golden, lights, golden_by, notes, pattern)
    if not tests:
        raise HardStop(
            "there is no test image",
            expected=f"<label>/<board>/<name>.jpg below {test}",
            hint="put the crops below one folder for each label",
        )
    samples = []
    problems: list[HardStop] = []
    for key, files in tests.items():
        origin = f"test image {quoted(files[0], 160)}"
        try:
            label, below, fields = _fields(key, files[0], pattern, labelled, origin)
            name = fields.get("object") or below.rpartition("/")[2]
            words = {**fields, "file": below.rpartition("/")[2], "object_name": name}
            own, source = goldens.of((below, key, key.replace(f"{label}/", "", 1)), words, origin)
        except HardStop as error:
            problems.append(error)
            continue
        named = labelled or board_regex is not None or "/" in below
        board = fields.get("board") or (_board_of(below, board_regex, origin) if named else "boards")
        extra = {"part_type": fields["part_type"]} if "part_type" in fields else {}
        samples.append(
            Sample(
                origin,
                safe_name(board),
                safe_name(name),
                canonical_label(label, pass_label, origin),
                tuple(resolve_under(test, f) for f in files),
                own,
                extra | source | kept_name(name, safe_name(name)),
            )
        )
    if problems:
        raise all_problems(problems)
    notes += goldens.notes()
    refuse_good_as_defect([s.label for s in samples], pass_label, defect_labels)
    return samples


def _fields(key: str, file: str, pattern: Pattern | None, labelled: bool, origin: str) -> tuple[str, str, Mapping[str, str]]:
    """Label, path below the label folder, and what the pattern reads from the part's first file."""
    if pattern and "label" in pattern.fields:
        start, label, below = 0, "", key
    else:
        label, _, below = key.partition("/") if labelled else (PASS, "", key)
        start = len(key) - len(below) if labelled else 0
        if not below:
            raise HardStop(
                f"{quoted(file)} is in no label folder",
                expected="test/<label>/…",
                hint="put it below a folder that has its label's name, or --pattern with {label}",
            )
    if pattern is None:
        return label, below, {}
    fields = pattern.read(key_of(file)[start:])
    if fields is None:
        raise HardStop(
            f"{origin}: the path is not as --pattern says",
            found=quoted(key_of(file)[start:], 160),
            hint="write the pattern as the files lie below test/, or move this file away",
        )
    return fields.get("label", label), below, fields


def _board_of(below: str, board_regex: str | None, origin: str) -> str:
    if board_regex is None:
        board, _, rest = below.partition("/")
        if rest:
            return board
        raise HardStop(
            f"{origin}: no board",
            expected="test/<label>/<board>/<name>, or --board-regex",
            hint=r"for B017_R12.jpg: --board-regex '^([^_]+)_'; parts of one board look alike and must stay together",
        )
    found = re.search(board_regex, below)
    if not found or not found.groups():
        raise HardStop(
            f"{origin}: --board-regex finds no board",
            expected="one group",
            found=quoted(below),
            hint="give the expression one group that matches the board's name",
        )
    return str(found.groupdict().get("board") or found.group(1))
