"""What a run's jobs are given in place of the user's rows: the same rows, their goldens registered.

Derived CSVs and the table of shifts lie in ``run/specs`` and are on record with the job that reads them; the pictures lie in
the workspace's cache, where their content and the parameters name them. KPI files and tables keep the user's ``golden_path``.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from deft_aoi.contract.changenet_csv import ImageLayout, csv_text
from deft_aoi.contract.errors import HardStop
from deft_aoi.contract.files import atomic_write_text
from deft_aoi.contract.paths import Workspace, resolve_under
from deft_aoi.loop.context import RunContext

if TYPE_CHECKING:
    import pandas as pd

    from deft_aoi.analysis.registered_goldens import Measured, Pair

NAME = "registered-{}.csv"
SHIFTS = "registered-{}-shifts.csv"


@dataclass(frozen=True)
class Rows:
    """What a job reads of one set.

    Attributes:
        csv: the rows with the goldens that the job compares with, absolute.
        images: the folder that relative paths in it are under.
        frame: the user's own rows, in the same order.
        files: derived files that the job's event puts on record.
    """

    csv: Path
    images: Path
    frame: pd.DataFrame
    files: tuple[Path, ...] = ()


def goldens_root(workspace: Workspace) -> Path:
    """Where registered goldens of this workspace are cached."""
    return resolve_under(workspace.root, workspace.cache_dir.name, "registered")


def split_rows(ctx: RunContext, name: str, *, raw: bool = False) -> Rows:
    """A split of the workspace as a job reads it; ``raw``: as the user left it, whatever the run does."""
    split = ctx.splits[name]
    given = Rows(split.csv, split.layout.images_dir, split.frame)
    return given if raw or ctx.config.preprocessing is None else derive_rows(ctx, name, given, split.layout, ctx.identities[name])


def derive_rows(ctx: RunContext, name: str, given: Rows, layout: ImageLayout, ids: pd.DataFrame) -> Rows:
    """The rows with registered goldens.

    Args:
        ctx: a run that registers, or not: then ``given`` comes back.
        name: of the derived files.
        given: the rows as they are.
        layout: how they name images.
        ids: their identities.
    """
    if ctx.config.preprocessing is None:
        return given
    from deft_aoi.analysis.registered_goldens import register_rows, shift_table

    frame, measured = register_rows(
        given.frame, layout, ids, ctx.config.preprocessing, root=goldens_root(ctx.workspace), cache=ctx.digest_cache
    )
    specs = ctx.run.run / "specs"
    specs.mkdir(exist_ok=True)
    rows, shifts = specs / NAME.format(name), specs / SHIFTS.format(name)
    for path, content in ((rows, frame), (shifts, shift_table(given.frame, ids, measured))):
        text = csv_text(content)
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            atomic_write_text(path, text)
    return Rows(rows, given.images, given.frame, (rows, shifts))


def place(ctx: RunContext, pairs: Sequence[Pair]) -> tuple[list[str], list[Measured]]:
    """Register these pairs on disk: the folder of each row's goldens, and what was measured."""
    from deft_aoi.analysis import registered_goldens

    how = ctx.config.preprocessing
    assert how is not None  # callers ask first
    measured = registered_goldens.ShiftCache(ctx.digest_cache, how).measure(pairs)
    return registered_goldens.place(pairs, measured, how, goldens_root(ctx.workspace)), measured


def restore_goldens(scored: Path, rows: Rows) -> None:
    """Put the user's own ``golden_path`` back into what a job scored; every other cell stays as the engine wrote it.

    Raises:
        HardStop: another number of rows, or no such column.
    """
    if not rows.files:
        return
    with scored.open(encoding="utf-8", newline="") as handle:
        header, *lines = list(csv.reader(handle))
    if "golden_path" not in header or len(lines) != len(rows.frame):
        raise HardStop(
            "the scored rows are not those that were given",
            expected=f"{len(rows.frame)} rows with golden_path",
            found=f"{len(lines)} rows, columns {', '.join(header)[:120]}",
            hint="run the stage again",
        )
    at = header.index("golden_path")
    own = rows.frame["golden_path"].tolist()
    if any(line[at] != golden for line, golden in zip(lines, own, strict=True)):
        import pandas as pd

        for line, golden in zip(lines, own, strict=True):
            line[at] = golden
        atomic_write_text(scored, csv_text(pd.DataFrame(lines, columns=header)))
