"""Where the pool's rows point: one rule for a whole column must resolve every row to exactly one file."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from deft_aoi.contract.changenet_csv import ImageLayout
from deft_aoi.contract.errors import HardStop
from deft_aoi.contract.paths import Workspace, resolve_under
from deft_aoi.contract.table_reader import file_line
from deft_aoi.contract.text import quoted

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class PathRule:
    """``base``: what the column is relative to. ``file_style``: the cells name a file, not its folder."""

    name: str
    base: Path
    file_style: bool


@dataclass
class _Listings:
    """Names of the regular files of each folder, each folder read once."""

    seen: dict[tuple[Path, str], tuple[str, frozenset[str]]] = field(default_factory=dict)

    def of(self, workspace: Workspace, base: Path, folder: str) -> tuple[str, frozenset[str]]:
        """Workspace-relative folder and its file names (empty when it is not a real folder)."""
        key = (base, folder)
        if key not in self.seen:
            try:
                path = resolve_under(base, folder)
                names = frozenset(e.name for e in os.scandir(path) if e.is_file(follow_symlinks=False))
                self.seen[key] = (workspace.rel(path), names)
            except (HardStop, OSError):
                self.seen[key] = ("", frozenset())
        return self.seen[key]


def pool_rules(workspace: Workspace) -> tuple[PathRule, ...]:
    """The accepted rules; the first one is the documented one and wins where it resolves every row."""
    bases = (
        ("augmentation/mining_pool", workspace.pool_dir),
        ("augmentation/mining_pool/images", workspace.pool_dir / "images"),
        ("kpi/images", workspace.kpi_images),
        ("the workspace", workspace.root),
    )
    return tuple(PathRule(name, base, style) for style in (False, True) for name, base in bases)


def resolve_column(
    frame: pd.DataFrame, column: str, workspace: Workspace, layout: ImageLayout, *, what: str = "mining_pool.csv"
) -> tuple[list[str], PathRule]:
    """Find the one rule that resolves every row of ``column``.

    Args:
        frame: rows with ``column`` and ``object_name``; not empty.
        column: ``input_path`` or ``golden_path``.
        workspace: where to look; nothing is written.
        layout: only its lights and extension are used.
        what: how messages name the file.

    Returns:
        The workspace-relative folder of each row, and the rule.

    Raises:
        HardStop: no rule resolves all rows (names the first row that the best rule misses and the places looked), or
            two undocumented rules both do and give different files.
    """
    cells, names = frame[column].tolist(), frame["object_name"].tolist()
    wanted = list(zip(*([layout.file_name(name, light) for name in names] for light in layout.lights), strict=True))
    listings = _Listings()
    full: list[tuple[list[str], PathRule]] = []
    best: tuple[int, PathRule] = (-1, pool_rules(workspace)[0])
    for rule in pool_rules(workspace):
        folders = _resolve(cells, wanted, rule, workspace, listings)
        if len(folders) == len(cells):
            full.append((folders, rule))
            if rule == pool_rules(workspace)[0]:
                break
        elif len(folders) > best[0]:
            best = (len(folders), rule)
    if not full:
        raise _unresolved(frame, column, best, workspace, layout, what)
    if any(folders != full[0][0] for folders, _rule in full[1:]):
        raise HardStop(
            f"{what}, column {column}: two rules resolve every row, to different files",
            expected="paths relative to augmentation/mining_pool",
            found=" and ".join(rule.name for _folders, rule in full),
            hint="write the column relative to augmentation/mining_pool, or remove one of the copies",
        )
    return full[0]


def _resolve(
    cells: list[str], wanted: list[tuple[str, ...]], rule: PathRule, workspace: Workspace, listings: _Listings
) -> list[str]:
    """Each row's folder under ``rule``, up to the first row of which a light's file is not there."""
    out: list[str] = []
    known: dict[str, tuple[str, frozenset[str]]] = {}
    for cell, files in zip(cells, wanted, strict=True):
        folder = cell
        if rule.file_style:
            folder, _, base = cell.rpartition("/")
            if base not in files:
                break
        if folder not in known:
            known[folder] = listings.of(workspace, rule.base, folder)
        rel, present = known[folder]
        if not present.issuperset(files):
            break
        out.append(rel)
    return out


def _unresolved(
    frame: pd.DataFrame, column: str, best: tuple[int, PathRule], workspace: Workspace, layout: ImageLayout, what: str
) -> HardStop:
    row = frame.iloc[best[0]]
    files = [layout.file_name(row["object_name"], light) for light in layout.lights]
    places = [f"{rule.name}/{row[column]}{'' if rule.file_style else '/' + files[0]}" for rule in pool_rules(workspace)]
    return HardStop(
        f"{what}, line {file_line(frame, best[0])}, column {column}: no rule finds the image of every row",
        expected=f"{quoted(' and '.join(files), 200)} under one rule for the whole column",
        found=f"looked for {quoted(row[column])} at: " + "; ".join(quoted(p, 200) for p in dict.fromkeys(places)),
        hint=f"{best[0]} rows before it resolve under {best[1].name}; correct this row or supply the file",
    )
