"""The read-only check of any workspace: every finding with its fix, not only the first.

Content rules (leakage, copies, conflicts) are those of :mod:`deft_aoi.analysis`, pool and pair rules those of
:mod:`deft_aoi.mining`; what is written here is only how all of them become one list.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from deft_aoi.analysis.identity import ContentIndex, Part
from deft_aoi.contract import spec as specs
from deft_aoi.contract.changenet_csv import ImageLayout
from deft_aoi.contract.errors import HardStop
from deft_aoi.contract.paths import Workspace, cache_home
from deft_aoi.contract.splits import TITLES, split_names, split_source
from deft_aoi.contract.table_reader import file_line
from deft_aoi.contract.text import quoted
from deft_aoi.mining.path_rules import PathRule, pool_rules, resolve_column
from deft_aoi.mining.pregen_scan import PregenPairs, scan
from deft_aoi.workspaces.check_content import (
    check_crop_size,
    check_labels,
    check_leakage,
    check_pair_leakage,
    check_rules,
    check_statistics,
)
from deft_aoi.workspaces.check_findings import ERROR, NOTE, CheckReport, Finding, from_stop, lines_of
from deft_aoi.workspaces.check_goldens import check_goldens
from deft_aoi.workspaces.check_rows import Source, check_cells, check_for_engine, check_good_labels, check_images, read
from deft_aoi.workspaces.good_labels import named_defects

if TYPE_CHECKING:
    import pandas as pd


def check_workspace(
    path: Path, *, allow_near: bool = False, defect_labels: Sequence[str] = (), suspects: bool = False
) -> CheckReport:
    """Check the workspace at ``path``; nothing in it is written (digests are cached in the user's cache folder).

    ``allow_near``: near-duplicates of evaluation sets in training are the user's decision, and a warning.
    ``defect_labels``: names that mean a good part and are defects all the same, as the user says.
    ``suspects``: look for labels that fit their image least, too; every pair is measured.

    Raises:
        HardStop: there is no such folder, or its path breaks the path rule.
    """
    workspace = Workspace.at(path)
    found: list[Finding] = []
    frames: dict[str, pd.DataFrame] = {}
    index = ContentIndex(cache_home() / "digests")
    spec = _read_spec(workspace, found)
    parts: dict[str, Part] = {}
    said = named_defects(workspace.root, defect_labels)
    for source in _sources(workspace, spec, found):
        frame = _checked_rows(source, spec, found, frames, said)
        if frame is not None and source.layout is not None:
            part = _part(source, source.layout, frame, index, found)
            if part is not None:
                parts[source.name] = part
    pool = _check_pool(workspace, spec, index, found, frames, said)
    pairs = _check_pairs(workspace, spec, found)
    check_rules(workspace, parts, found)
    check_leakage(workspace, parts, pool, found, allow_near=allow_near)
    check_pair_leakage(workspace, pairs, parts, index, found)
    check_statistics(workspace, parts, found)
    check_crop_size(workspace, parts, spec, found)
    check_goldens(workspace, parts, spec, found)
    if suspects:
        check_labels(workspace, parts, spec, found)
    return CheckReport.of(str(workspace.root), found, frames)


def _read_spec(workspace: Workspace, found: list[Finding]) -> specs.Spec | None:
    rel = workspace.rel(workspace.baseline_spec)
    try:
        spec = specs.load_spec(workspace.baseline_spec, what="baseline spec")
        specs.lights(spec)
        specs.image_ext(spec)
        return spec
    except HardStop as error:
        found.append(from_stop(error, "spec", rel))
        return None


def _sources(workspace: Workspace, spec: specs.Spec | None, found: list[Finding]) -> list[Source]:
    out = []
    for name in split_names(workspace):
        csv, layout = split_source(workspace, {}, name)[0], None
        if spec is not None:
            try:
                csv, images = split_source(workspace, spec, name)
                layout = specs.layout(spec, images)
            except HardStop as error:
                found.append(from_stop(error, "images_dir", workspace.rel(workspace.baseline_spec)))
        out.append(Source(name, TITLES[name], workspace.rel(csv), csv, layout))
    return out


def _checked_rows(
    source: Source, spec: specs.Spec | None, found: list[Finding], frames: dict[str, pd.DataFrame], defect_labels: Sequence[str]
) -> pd.DataFrame | None:
    frame = read(source, found)
    if frame is None:
        return None
    frames[source.rel] = frame
    found += check_cells(source, frame)
    found += check_good_labels(source, frame, defect_labels)
    if spec is not None:
        found += check_for_engine(source, frame, spec)
    return frame


def _part(source: Source, layout: ImageLayout, frame: pd.DataFrame, index: ContentIndex, found: list[Finding]) -> Part | None:
    """The usable rows with their identities; rows with a bad path or image have had their finding."""
    if not layout.images_dir.is_dir():
        message = f"the image folder {quoted(layout.images_dir, 200)} does not exist"
        found.append(Finding(ERROR, "images_dir", source.rel, message, "supply it, or correct images_dir in the spec"))
        return None
    image_findings, good = check_images(source, frame, index)
    found += image_findings
    usable = frame.iloc[good]
    if usable.empty:
        return None
    # The frame keeps its own index, so that findings name the file's lines.
    return Part(source.what, usable, layout, index.digest_pairs(usable, layout, what=source.what))


def _check_pool(
    workspace: Workspace,
    spec: specs.Spec | None,
    index: ContentIndex,
    found: list[Finding],
    frames: dict[str, pd.DataFrame],
    defect_labels: Sequence[str],
) -> Part | None:
    rel = workspace.rel(workspace.pool_csv)
    source = Source("pool", "mining pool", rel, workspace.pool_csv, None)
    frame = _checked_rows(source, spec, found, frames, defect_labels)
    if frame is None or spec is None:
        return None
    layout = specs.layout(spec, workspace.root)
    resolved = frame.copy()
    bad: set[int] = set()
    for column in ("input_path", "golden_path"):
        try:
            resolved[column] = resolve_column(frame, column, workspace, layout)[0]
        except HardStop as error:
            rule, missed = _best_rule(frame, column, workspace, layout)
            bad |= set(missed)
            stop = from_stop(error, "pool_path", f"{rel}, column {column}")
            found.append(
                Finding(
                    ERROR,
                    "image_missing",
                    f"{rel}, line {file_line(frame, missed[0])}, column {column}" if missed else stop.where,
                    stop.message,
                    stop.fix,
                    lines_of(missed, frame),
                    tuple(missed),
                )
            )
            resolved[column] = [_resolved(workspace, rule, cell) for cell in frame[column]]
    usable = resolved.drop(index=sorted(bad))
    if usable.empty:
        return None
    own = Source("pool", "mining pool", rel, workspace.pool_csv, layout)
    part = _part(own, layout, usable, index, found)
    return part


def _resolved(workspace: Workspace, rule: PathRule, cell: str) -> str:
    folder = cell.rpartition("/")[0] if rule.file_style else cell
    base = workspace.rel(rule.base) if rule.base != workspace.root else ""
    return f"{base}/{folder}".strip("/")


def _best_rule(frame: pd.DataFrame, column: str, workspace: Workspace, layout: ImageLayout) -> tuple[PathRule, list[int]]:
    """The rule that finds the most rows, and the positions of the rows that it misses."""
    best: tuple[PathRule, list[int]] | None = None
    for rule in pool_rules(workspace):
        missed = []
        for position, (cell, name) in enumerate(zip(frame[column], frame["object_name"], strict=True)):
            folder, _, base = cell.rpartition("/") if rule.file_style else (cell, "", "")
            names = [layout.file_name(name, light) for light in layout.lights]
            there = not rule.file_style or base in names
            if not there or not all(Path(f"{rule.base}/{folder}/{n}").is_file() for n in names):
                missed.append(position)
        if best is None or len(missed) < len(best[1]):
            best = (rule, missed)
    assert best is not None
    return best


def _check_pairs(workspace: Workspace, spec: specs.Spec | None, found: list[Finding]) -> PregenPairs | None:
    if spec is None:
        return None
    rel = workspace.rel(workspace.pregen_dir)
    try:
        pairs = scan(workspace, specs.lights(spec), specs.image_ext(spec))
    except HardStop as error:
        found.append(from_stop(error, "pregenerated", rel))
        return None
    if not pairs.present:
        found.append(Finding(NOTE, "pregenerated", rel, "there are no pre-generated pairs", "none needed: real rows are mined"))
    elif pairs.ignored:
        names = ", ".join(quoted(p, 60) for p in pairs.ignored[:3])
        found.append(Finding(NOTE, "pregenerated", rel, f"{len(pairs.ignored)} entries are ignored: {names}", "remove them"))
    return pairs
