"""A part of a user's own data, and finding the parts in a CSV with a column mapping (folders: :mod:`own_folders`)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from deft_aoi.contract.errors import HardStop, UsageError
from deft_aoi.contract.paths import resolve_under
from deft_aoi.contract.text import PASS, quoted
from deft_aoi.contract.user_table import read_user_table
from deft_aoi.workspaces.own_goldens import GoldenLibrary
from deft_aoi.workspaces.own_names import canonical_label, refuse_good_as_defect, safe_name

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


def kept_name(raw: str, name: str) -> dict[str, str]:
    """The column that keeps a name that a workspace cannot have."""
    return {} if raw == name else {"original_name": raw}


def all_problems(problems: Sequence[HardStop]) -> HardStop:
    """One stop for all of them, the first with its details."""
    first = problems[0]
    if len(problems) > 1:
        first.message = f"{first.message} ({len(problems)} such: {'; '.join(p.message for p in problems[1:MAX_LISTED])})"
    return first


def parse_map(items: list[str]) -> dict[str, str]:
    """Read ``input=col``, ``input.SolderLight=col``, … into role → column.

    Raises:
        UsageError: an unknown role, one given twice, or no column.
    """
    out: dict[str, str] = {}
    for item in (part for text in items for part in text.split(",")):
        role, sep, column = item.partition("=")
        if (
            not sep
            or not column
            or role in out
            or not re.fullmatch(r"(input|golden)(\.[\w@+-]+)?|label|board|object|part_type", role)
        ):
            raise UsageError(
                "--map cannot be read",
                expected="input=COLUMN, golden=COLUMN, label=COLUMN, board=COLUMN[, object=COLUMN, part_type=COLUMN]; "
                "with lights input.LIGHT=COLUMN, golden.LIGHT=COLUMN; each once",
                found=quoted(item),
            )
        out[role] = column
    return out


def lights_of_map(mapping: Mapping[str, str], *, labelled: bool = True, library: bool = False) -> tuple[str, ...]:
    """Lights that a mapping names, in order; ``("",)`` for plain ``input=``. With a golden library no ``golden`` is mapped.

    Raises:
        UsageError: ``input`` and ``golden`` differ in their lights, or a role is missing.
    """
    needed = {"label", "board"} if labelled else set()
    by_role = {role: [key.partition(".")[2] for key in mapping if key.partition(".")[0] == role] for role in ("input", "golden")}
    goldens = [] if library else sorted(by_role["input"])
    if not by_role["input"] or goldens != sorted(by_role["golden"]) or not needed <= set(mapping):
        raise UsageError(
            "--map lacks a role",
            expected=("input (golden: from --golden)" if library else "input, golden (the same lights for both)")
            + (", label and board" if labelled else ""),
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
    goldens: GoldenLibrary | None = None,
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
        goldens: where the golden images come from; ``None``: from the mapped columns.
        defect_labels: see :func:`deft_aoi.workspaces.own_names.refuse_good_as_defect`.
        delimiter: of the file; detected where ``None``.
        encoding: of the file; detected where ``None``.
        notes: what the user should know is appended.
        labelled: new boards need no label column (their label is PASS) and no board column.

    Raises:
        HardStop: a mapped column is absent, or a cell cannot be used; the message names line and column.
    """
    lights = lights_of_map(mapping, labelled=labelled, library=goldens is not None)
    notes = [] if notes is None else notes
    table = read_user_table(file, what="data CSV", wanted=list(mapping.values()), delimiter=delimiter, encoding=encoding)
    notes += table.notes
    columns = {
        role: [mapping[f"{role}.{light}" if light else role] for light in lights]
        for role in ("input", "golden")
        if role == "input" or goldens is None
    }
    used = set(mapping.values()) | {"input_path", "golden_path", "label", "object_name", "boardname", "part_type"}
    samples = []
    problems: list[HardStop] = []
    for line, row in zip(table.lines, table.frame.to_dict("records"), strict=True):
        origin = f"{file.name}, line {line}"
        try:
            images = {role: tuple(_cell_image(images_root, row[c], c, origin) for c in columns[role]) for role in columns}
            stem = images["input"][0].stem.removesuffix(f"_{lights[0]}" if lights[0] else "")
            name = row[mapping["object"]] if "object" in mapping else stem
            part_type = row.get(mapping.get("part_type", "part_type"), "")
            extra = {"part_type": part_type} if part_type else {}
            if goldens is not None:
                words = {"file": stem, "object_name": name, "part_type": part_type}
                images["golden"], source = goldens.of((), words, origin)
                extra |= source
        except HardStop as error:
            problems.append(error)
            continue
        samples.append(
            Sample(
                origin,
                safe_name(row[mapping["board"]]) if "board" in mapping else "boards",
                safe_name(name),
                canonical_label(row[mapping["label"]], pass_label, origin) if labelled else PASS,
                images["input"],
                images["golden"],
                {str(k): v for k, v in row.items() if k not in used} | extra | kept_name(name, safe_name(name)),
            )
        )
    if problems:
        raise all_problems(problems)
    notes += goldens.notes() if goldens else []
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
