"""Checks of one CSV: columns, labels, names, paths, and that every image is there and decodes."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deft_aoi.analysis.identity import ContentIndex, image_paths
from deft_aoi.contract import spec as specs
from deft_aoi.contract.changenet_csv import ImageLayout, read_table
from deft_aoi.contract.errors import HardStop
from deft_aoi.contract.images import open_image
from deft_aoi.contract.paths import resolve_under
from deft_aoi.contract.table_reader import file_line
from deft_aoi.contract.tao_cells import tao_message, tao_misreads
from deft_aoi.contract.text import PASS, check_name, normalize_label, quoted
from deft_aoi.workspaces.check_findings import ERROR, WARNING, Finding, from_stop, lines_of
from deft_aoi.workspaces.good_labels import good_as_defect

if TYPE_CHECKING:
    import pandas as pd

MAX_FINDINGS_A_RULE = 20
SHIPPED_BATCH = 16
"""``batch_size`` of both specs that the skill ships, which pre-flight merges below the workspace's."""


@dataclass(frozen=True)
class Source:
    """One CSV of the workspace.

    Attributes:
        name: key of the part. what: how messages call it. rel: workspace-relative path. csv: the file.
        layout: how rows name images; ``None`` when the spec cannot be read.
    """

    name: str
    what: str
    rel: str
    csv: Path
    layout: ImageLayout | None


def read(source: Source, findings: list[Finding]) -> pd.DataFrame | None:
    """The rows, or a finding why they cannot be read."""
    try:
        return read_table(source.csv, what=source.what)
    except HardStop as error:
        found = from_stop(error, "csv", source.rel)
        findings.append(found)
        return None


def check_cells(source: Source, frame: pd.DataFrame) -> list[Finding]:
    """Labels, object names and path cells; each bad value is one finding with all its lines."""
    return [
        *_by_value(source, frame, "label", _label_problem),
        *_by_value(source, frame, "object_name", _name_problem),
        *(f for column in ("input_path", "golden_path") for f in _by_value(source, frame, column, _path_problem)),
    ]


Problem = tuple[str, str, str, str | None]
"""(level, message, fix, corrected value or None)."""


def _by_value(source: Source, frame: pd.DataFrame, column: str, judge: Callable[[str], Problem | None]) -> Iterator[Finding]:
    for shown, value in enumerate(sorted(v for v in frame[column].unique() if judge(v) is not None)):
        if shown == MAX_FINDINGS_A_RULE:
            return
        problem = judge(value)
        assert problem is not None
        level, message, fix, corrected = problem
        rows = [int(r) for r in frame.index[frame[column] == value]]
        edits = tuple((r, column, corrected) for r in rows) if corrected is not None else ()
        yield Finding(
            level,
            column,
            f"{source.rel}, line {file_line(frame, rows[0])}, column {column}",
            f"{message} ({len(rows)} rows)" if len(rows) > 1 else message,
            fix,
            lines_of(rows, frame),
            () if edits else tuple(rows),
            edits,
        )


def _label_problem(value: str) -> Problem | None:
    stripped = value.strip()
    if value != PASS and stripped.lower() == "pass":
        return ERROR, f"the label {quoted(value)} is not PASS: TAO would train good parts as defects", "write PASS", PASS
    try:
        label = normalize_label(value)
    except HardStop as error:
        return ERROR, error.message, error.hint or f"expected {error.expected}", None
    if label != value:
        return WARNING, f"the label {quoted(value)} will be read as {quoted(label)}", f"write {quoted(label)}", label
    return None


def check_good_labels(source: Source, frame: pd.DataFrame, defect_labels: Sequence[str]) -> list[Finding]:
    """A defect class whose name means a good part, unless the user called it a defect."""
    out = []
    for label, count in good_as_defect((v for v in frame["label"] if v.strip().lower() != "pass"), defect_labels):
        rows = [int(r) for r in frame.index[frame["label"] == label]]
        where = f"{source.rel}, line {file_line(frame, rows[0])}, column label"
        message = f"the label {quoted(label)} means a good part and would be trained as a defect ({count} rows)"
        fix = f"write PASS, or, where it is a defect all the same, --defect-label {quoted(label)}"
        edits = tuple((r, "label", PASS) for r in rows)
        out.append(Finding(ERROR, "good_label", where, message, fix, lines_of(rows, frame), edits=edits))
    return out


def check_for_engine(source: Source, frame: pd.DataFrame, spec: specs.Spec) -> list[Finding]:
    """What the engine of the spec would not take: cells that TAO reads as something else, fewer rows than one batch."""
    out = []
    if specs.engine_for(spec) == "tao":
        for misread in tao_misreads(frame)[:MAX_FINDINGS_A_RULE]:
            message, fix = tao_message(misread)
            where = f"{source.rel}, line {file_line(frame, misread[1])}, column {misread[0]}"
            out.append(Finding(ERROR, "tao_type_inference", where, message, fix, lines_of([misread[1]], frame)))
    batch = int(specs.get(spec, "dataset.classify.batch_size") or SHIPPED_BATCH)
    if source.name == "train" and len(frame) < batch:
        message = f"{len(frame)} rows are fewer than one batch ({batch})"
        fix = f"--set dataset.classify.batch_size={len(frame)}, or lower it in specs/baseline_spec.yaml"
        out.append(Finding(ERROR, "batch_size", source.rel, message, fix))
    return out


_SPREADSHEET = re.compile(r"\d(?:[.,]\d+)?E[+-]?\d+|#(?:NAME|REF|VALUE|N/A)[?!]?|#+", re.IGNORECASE)


def _name_problem(value: str) -> Problem | None:
    try:
        if _SPREADSHEET.fullmatch(value):
            message = f"{quoted(value)} looks like a number that a spreadsheet made of a part's name"
            return WARNING, message, "format the column as text in the spreadsheet and export again", None
        check_name(value, "object_name")
    except HardStop as error:
        return ERROR, error.message, error.hint or f"expected {error.expected}", None
    return None


def _path_problem(value: str) -> Problem | None:
    try:
        if not value.strip():
            return ERROR, "the path is empty", "fill in the folder, relative to images_dir", None
        resolve_under(Path("/nonexistent"), value)
    except HardStop as error:
        return ERROR, error.message, error.hint or f"expected {error.expected}", None
    return None


def check_images(source: Source, frame: pd.DataFrame, index: ContentIndex) -> tuple[list[Finding], list[int]]:
    """Every light of every row exists and decodes.

    Returns:
        Findings, and the positions of the rows whose images are all good.
    """
    layout = source.layout
    assert layout is not None
    refused = [_refused(layout, row) for row in frame.to_dict("records")]
    usable = [i for i, why in enumerate(refused) if not why]
    findings = [
        Finding(
            ERROR,
            "path",
            f"{source.rel}, line {file_line(frame, i)}",
            why,
            "copy the data into the workspace",
            lines_of([i], frame),
            (i,),
        )
        for i, why in enumerate(refused)
        if why not in ("", "cell")
    ]
    part = frame.iloc[usable]
    columns = image_paths(part, layout)
    names = ["input_path"] * len(layout.lights) + ["golden_path"] * len(layout.lights)
    paths = list(dict.fromkeys(p for column in columns for p in column))
    try:
        index.pixels(paths, thumbs=True)
        state = dict.fromkeys(paths, "")
    except (HardStop, FileNotFoundError):
        state = {path: _state(path) for path in paths}
    broken: dict[int, tuple[str, str, str]] = {}
    for column, files in zip(names, columns, strict=True):
        for position, path in zip(usable, files, strict=True):
            if state[path]:
                broken.setdefault(position, (column, path, state[path]))
    findings += _image_findings(source, frame, broken)
    return findings, [i for i in usable if i not in broken]


def _refused(layout: ImageLayout, row: dict[object, str]) -> str:
    """Why the row's paths cannot be used; empty when they can. ``cell``: the cell itself has had its finding."""
    cells = [row["input_path"], row["golden_path"]]
    try:
        check_name(row["object_name"], "object_name")
        if any(_path_problem(cell) is not None for cell in cells):
            return "cell"
    except HardStop:
        return "cell"
    try:
        layout.input_paths(row)
        layout.golden_paths(row)
        return ""
    except HardStop as error:
        return f"{error.message}: {error.found}"


def _state(path: str) -> str:
    """Empty for a good image, else why not; the file is decoded completely."""
    try:
        open_image(path)
        return ""
    except FileNotFoundError:
        return "missing"
    except HardStop as error:
        return f"{error.message} ({error.found})" if error.found else error.message


def _image_findings(source: Source, frame: pd.DataFrame, broken: dict[int, tuple[str, str, str]]) -> Iterator[Finding]:
    missing = [i for i, (_, _, why) in broken.items() if why == "missing"]
    if missing and len(missing) == len(frame):
        column, path, _ = broken[missing[0]]
        yield Finding(
            ERROR,
            "image_missing",
            f"{source.rel}, line {file_line(frame, missing[0])}, column {column}",
            f"no image of this file is where it is expected, first {quoted(path, 200)}",
            _other_extension(path) or "check images_dir, image_ext and input_map in the spec",
            lines_of(missing, frame),
        )
        return
    padded: list[tuple[Any, ...]] = []
    plain: list[tuple[Any, ...]] = []
    for position in missing:
        column, path, _ = broken[position]
        name = _padded_name(source, frame.iloc[position], path)
        (padded if name else plain).append((position, column, path, name))
    if padded:
        position, _, _, name = padded[0]
        yield Finding(
            ERROR,
            "leading_zeros",
            f"{source.rel}, line {file_line(frame, position)}, column object_name",
            f"{quoted(frame['object_name'].iloc[position])} has lost its leading zeros: the images are {quoted(name)}",
            "keep the column as text (a spreadsheet drops leading zeros)",
            lines_of([p for p, *_ in padded], frame),
            edits=tuple((p, "object_name", n) for p, _, _, n in padded),
        )
    for position, column, path, _ in plain[:MAX_FINDINGS_A_RULE]:
        yield Finding(
            ERROR,
            "image_missing",
            f"{source.rel}, line {file_line(frame, position)}, column {column}",
            f"the image is missing: {quoted(path, 200)}",
            _other_extension(path) or "supply the file or remove the row",
            lines_of([position], frame),
            (position,),
        )
    if len(plain) > MAX_FINDINGS_A_RULE:
        rest = [p for p, *_ in plain[MAX_FINDINGS_A_RULE:]]
        message = f"{len(rest)} further rows have a missing image"
        yield Finding(
            ERROR, "image_missing", source.rel, message, "supply the files or remove the rows", lines_of(rest, frame), tuple(rest)
        )
    for position, (column, path, why) in broken.items():
        if why != "missing":
            row = frame.iloc[position].to_dict()
            images = (*source.layout.input_paths(row), *source.layout.golden_paths(row)) if source.layout else ()
            yield Finding(
                ERROR,
                "image_undecodable",
                f"{source.rel}, line {file_line(frame, position)}, column {column}",
                f"{why}" if quoted(path, 200) in why else f"{quoted(path, 200)}: {why}",
                "replace the file or remove the row",
                lines_of([position], frame),
                (position,),
                pictures=((f"{source.rel}, line {file_line(frame, position)}: {why}", tuple(map(str, images))),),
            )


def _other_extension(path: str) -> str:
    """A hint when the same name exists under another extension."""
    file = Path(path)
    if not file.parent.is_dir():
        return ""
    for other in file.parent.iterdir():
        if other.name != file.name and _same_letters(other.name, file.name):
            composed = unicodedata.normalize("NFC", other.name) == unicodedata.normalize("NFC", file.name)
            why = "composed of other Unicode characters (NFC or NFD)" if composed else "in other capitals"
            return f"there is {quoted(other.name)}, the same letters {why}: rename the file as the table has it"
    for other in sorted(file.parent.glob(f"{_literal(file.stem)}.*")):
        return f"there is {quoted(other.name)}: set dataset.classify.image_ext to {quoted(other.suffix)}, or convert the file"
    return ""


def _same_letters(left: str, right: str) -> bool:
    return unicodedata.normalize("NFC", left).casefold() == unicodedata.normalize("NFC", right).casefold()


def _literal(text: str) -> str:
    return "".join(f"[{c}]" if c in "[]*?" else c for c in text)


def _padded_name(source: Source, row: pd.Series[str], path: str) -> str:
    """The zero-padded object name whose images exist, for a numeric name; ``""`` for none or several."""
    name = row["object_name"]
    layout = source.layout
    if not name.isdigit() or layout is None:
        return ""
    found = set()
    for width in range(len(name) + 1, 13):
        candidate = name.zfill(width)
        trial = dict(row) | {"object_name": candidate}
        if all(p.is_file() for p in (*layout.input_paths(trial), *layout.golden_paths(trial))):
            found.add(candidate)
    return found.pop() if len(found) == 1 else ""
