"""Finding the samples in a user's own data: test and golden folders, or a CSV with a column mapping."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from deft_aoi.contract.errors import HardStop, UsageError
from deft_aoi.contract.images import EXTENSIONS
from deft_aoi.contract.paths import resolve_under
from deft_aoi.contract.text import PASS, quoted
from deft_aoi.contract.user_table import read_user_table
from deft_aoi.workspaces.own_names import canonical_label, refuse_good_as_defect, safe_name

IMAGE_SUFFIXES = frozenset(EXTENSIONS)
MAX_LISTED = 10


@dataclass(frozen=True)
class Sample:
    """One inspected part.

    Attributes:
        origin: where the user can find it: a file, or a line of their CSV.
        board: boards are never divided between parts.
        object_name: name of the part on the board.
        label: canonical (``PASS`` or a defect).
        test: one file a light. golden: the same for the golden part.
        extra: further columns to keep.
    """

    origin: str
    board: str
    object_name: str
    label: str
    test: tuple[Path, ...]
    golden: tuple[Path, ...]
    extra: Mapping[str, str] = field(default_factory=dict)


def _kept_name(raw: str, name: str) -> dict[str, str]:
    return {} if raw == name else {"original_name": raw}


def _images_below(root: Path, what: str, notes: list[str]) -> list[str]:
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
            if not name.startswith(".") and Path(name).suffix.lower() in IMAGE_SUFFIXES:
                found.append(Path(folder, name).relative_to(root).as_posix())
            else:
                left_out["hidden" if name.startswith(".") else Path(name).suffix.lower() or "no suffix"] += 1
    if left_out:
        notes.append(
            f"{left_out.total()} files of the {what} folder were left out: "
            + ", ".join(f"{quoted(reason, 20)} {count}" for reason, count in left_out.most_common(8))
        )
    masks = (
        {
            p
            for p in found
            if (plain := re.sub(r"_(mask|gt|seg)$", "", os.path.splitext(p)[0])) != os.path.splitext(p)[0]  # noqa: PTH122
            and any(plain + suffix in found_set for suffix in EXTENSIONS)
        }
        if (found_set := set(found))
        else set()
    )
    if masks:
        notes.append(f"{len(masks)} masks of the {what} folder were left out, first {quoted(min(masks), 120)}")
    return sorted(p for p in found if p not in masks)


def _split_light(stem: str, lights: tuple[str, ...]) -> tuple[str, int] | None:
    """``(name, index of the light)``, or ``None`` where the stem ends in no light."""
    if lights == ("",):
        return stem, 0
    for number, light in enumerate(lights):
        if stem.endswith(f"_{light}"):
            return stem[: -len(light) - 1], number
    return None


def _group_lights(paths: list[str], lights: tuple[str, ...], what: str) -> dict[str, tuple[str, ...]]:
    """Relative path without light and suffix → the files, one a light.

    Raises:
        HardStop: a file with no known light, two files of one name, or a light that is missing.
    """
    grouped: dict[str, dict[int, str]] = {}
    problems = []
    for path in paths:
        parent, stem = Path(path).parent.as_posix().removeprefix("."), Path(path).stem
        split = _split_light(stem, lights)
        if split is None:
            problems.append(f"{quoted(path, 120)}: the name ends in none of the lights")
            continue
        files = grouped.setdefault(f"{parent}/{split[0]}" if parent else split[0], {})
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


def from_folders(
    test: Path,
    golden: Path,
    *,
    lights: tuple[str, ...],
    pass_label: str,
    board_regex: str | None,
    golden_by: str | None = None,
    defect_labels: Sequence[str] = (),
    notes: list[str] | None = None,
    labelled: bool = True,
) -> list[Sample]:
    """Read ``test/<label>/[<board>/…]<name>`` and match each with its golden image.

    The golden image has the same path below ``golden`` (with or without the label folder). No other one stands in, unless
    the user names the rule, ``golden_by``; its uses are counted.

    Args:
        test: folder whose sub-folders are labels.
        golden: folder of golden images.
        lights: names at the end of the file names; ``("",)`` for one image a part.
        pass_label: the folder of good parts.
        board_regex: its first group (or ``board``) found in the path below the label folder names the board; ``None``: the
            first folder below the label.
        golden_by: ``file``: the only golden of that file name; ``object_name``: the first by name of several, too.
        defect_labels: see :func:`deft_aoi.workspaces.own_names.refuse_good_as_defect`.
        notes: what the user should know is appended.
        labelled: new boards have no label folder (and perhaps none of the board); their label is PASS.

    Raises:
        HardStop: see :func:`_group_lights`; no board; no golden image or several; a bad name or label.
    """
    for folder, what in ((test, "--test"), (golden, "--golden")):
        if not folder.is_dir():
            raise UsageError(f"{what} {quoted(folder, 200)} is not a folder")
    notes = [] if notes is None else notes
    tests = _group_lights(_images_below(test, "test", notes), lights, "test")
    goldens = _group_lights(_images_below(golden, "golden", notes), lights, "golden")
    if not tests:
        raise HardStop(
            "there is no test image",
            expected=f"<label>/<board>/<name>.jpg below {test}",
            hint="put the crops below one folder for each label",
        )
    by_name: dict[str, list[str]] = {}
    for key in goldens:
        by_name.setdefault(key.rpartition("/")[2], []).append(key)
    samples = []
    problems: list[HardStop] = []
    fallbacks: list[str] = []
    for key, files in tests.items():
        label, _, below = key.partition("/") if labelled else (PASS, "", key)
        if not below:
            raise HardStop(
                f"{quoted(files[0])} is in no label folder",
                expected="test/<label>/…",
                hint="put it below a folder that has its label's name",
            )
        origin = f"test image {quoted(files[0], 160)}"
        try:
            match = _golden_of(key, below, goldens, by_name, origin, golden_by)
        except HardStop as error:
            problems.append(error)
            continue
        if match not in (below, key):
            fallbacks.append(f"{quoted(files[0], 80)} with {quoted(goldens[match][0], 80)}")
        named = labelled or board_regex is not None or "/" in below
        board, name = _board_of(below, board_regex, origin) if named else "boards", below.rpartition("/")[2]
        samples.append(
            Sample(
                origin,
                safe_name(board),
                safe_name(name),
                canonical_label(label, pass_label, origin),
                tuple(resolve_under(test, f) for f in files),
                tuple(resolve_under(golden, f) for f in goldens[match]),
                _kept_name(name, safe_name(name)),
            )
        )
    if problems:
        raise all_problems(problems)
    if fallbacks:
        notes.append(f"--golden-by {golden_by} found {len(fallbacks)} goldens: {'; '.join(fallbacks[:3])}")
    refuse_good_as_defect([s.label for s in samples], pass_label, defect_labels)
    return samples


def all_problems(problems: Sequence[HardStop]) -> HardStop:
    """One stop for all of them, the first with its details."""
    first = problems[0]
    if len(problems) > 1:
        first.message = f"{first.message} ({len(problems)} such: {'; '.join(p.message for p in problems[1:MAX_LISTED])})"
    return first


def _golden_of(
    key: str,
    below: str,
    goldens: Mapping[str, object],
    by_name: Mapping[str, list[str]],
    origin: str,
    golden_by: str | None,
) -> str:
    for candidate in (below, key):
        if candidate in goldens:
            return candidate
    candidates = by_name.get(below.rpartition("/")[2], [])
    if candidates and golden_by == "object_name":
        return candidates[0]
    if len(candidates) != 1 or golden_by is None:
        raise HardStop(
            f"{origin}: {'several golden images' if len(candidates) > 1 else 'no golden image'}",
            expected=f"{quoted(below, 160)} below the golden folder, or one file of that name",
            found=", ".join(quoted(c, 100) for c in candidates[:5]) or "none",
            hint="name the golden image like the test image"
            + ("; --golden-by file takes the one of that file name, wherever it is" if candidates and not golden_by else ""),
        )
    return candidates[0]


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


def parse_map(items: list[str]) -> dict[str, str]:
    """Read ``input=col``, ``input.SolderLight=col``, … into role → column.

    Raises:
        UsageError: an unknown role, one given twice, or no column.
    """
    out: dict[str, str] = {}
    for item in (part for text in items for part in text.split(",")):
        role, sep, column = item.partition("=")
        if not sep or not column or role in out or not re.fullmatch(r"(input|golden)(\.[\w@+-]+)?|label|board|object", role):
            raise UsageError(
                "--map cannot be read",
                expected="input=COLUMN, golden=COLUMN, label=COLUMN, board=COLUMN[, object=COLUMN]; "
                "with lights input.LIGHT=COLUMN, golden.LIGHT=COLUMN; each once",
                found=quoted(item),
            )
        out[role] = column
    return out


def lights_of_map(mapping: Mapping[str, str], *, labelled: bool = True) -> tuple[str, ...]:
    """Lights that a mapping names, in order; ``("",)`` for plain ``input=``.

    Raises:
        UsageError: ``input`` and ``golden`` differ in their lights, or a role is missing.
    """
    needed = {"label", "board"} if labelled else set()
    by_role = {role: [key.partition(".")[2] for key in mapping if key.partition(".")[0] == role] for role in ("input", "golden")}
    if not by_role["input"] or sorted(by_role["input"]) != sorted(by_role["golden"]) or not needed <= set(mapping):
        raise UsageError(
            "--map lacks a role",
            expected="input, golden (the same lights for both)" + (", label and board" if labelled else ""),
            found=quoted(", ".join(mapping)),
        )
    if "" in by_role["input"] and len(by_role["input"]) > 1:
        raise UsageError("--map has input both with and without a light")
    return tuple(by_role["input"])


def from_csv(
    file: Path,
    mapping: Mapping[str, str],
    *,
    images_root: Path,
    pass_label: str,
    defect_labels: Sequence[str] = (),
    delimiter: str | None = None,
    encoding: str | None = None,
    notes: list[str] | None = None,
    labelled: bool = True,
) -> list[Sample]:
    """Read samples from a user's CSV.

    Args:
        file: one row a part.
        mapping: role → column (:func:`parse_map`).
        images_root: what image cells are relative to.
        pass_label: the label of a good part; several with commas.
        defect_labels: see :func:`deft_aoi.workspaces.own_names.refuse_good_as_defect`.
        delimiter: of the file; detected where ``None``.
        encoding: of the file; detected where ``None``.
        notes: what the user should know is appended.
        labelled: new boards need no label column (their label is PASS) and no board column.

    Raises:
        HardStop: a mapped column is absent, or a cell cannot be used; the message names line and column.
    """
    lights = lights_of_map(mapping, labelled=labelled)
    notes = [] if notes is None else notes
    table = read_user_table(file, what="data CSV", wanted=list(mapping.values()), delimiter=delimiter, encoding=encoding)
    notes += table.notes
    columns = {role: [mapping[f"{role}.{light}" if light else role] for light in lights] for role in ("input", "golden")}
    used = set(mapping.values()) | {"input_path", "golden_path", "label", "object_name", "boardname"}
    samples = []
    problems: list[HardStop] = []
    for line, row in zip(table.lines, table.frame.to_dict("records"), strict=True):
        origin = f"{file.name}, line {line}"
        try:
            images = {role: tuple(_cell_image(images_root, row[c], c, origin) for c in columns[role]) for role in columns}
        except HardStop as error:
            problems.append(error)
            continue
        stem = images["input"][0].stem
        split = _split_light(stem, lights)
        name = row[mapping["object"]] if "object" in mapping else (split[0] if split else stem)
        samples.append(
            Sample(
                origin,
                safe_name(row[mapping["board"]]) if "board" in mapping else "boards",
                safe_name(name),
                canonical_label(row[mapping["label"]], pass_label, origin) if labelled else PASS,
                images["input"],
                images["golden"],
                {str(k): v for k, v in row.items() if k not in used} | _kept_name(name, safe_name(name)),
            )
        )
    if problems:
        raise all_problems(problems)
    refuse_good_as_defect([s.label for s in samples], pass_label, defect_labels)
    return samples


def _cell_image(root: Path, cell: str, column: str, origin: str) -> Path:
    cell = cell.replace("\\", "/")
    try:
        path = resolve_under(root, cell)
    except HardStop as error:
        error.message = f"{origin}, column {quoted(column)}: {error.message}"
        raise
    if not cell or not path.is_file():
        raise HardStop(
            f"{origin}, column {quoted(column)}: the image is missing",
            expected=quoted(path, 300),
            hint="--images-root is what the cells are relative to",
        )
    return path
