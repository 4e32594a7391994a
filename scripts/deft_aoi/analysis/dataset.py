"""The training set of an iteration: assembled so that it only grows, then checked as a whole."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from deft_aoi.analysis.dataset_rules import Finding, findings, raise_first
from deft_aoi.analysis.identity import ContentIndex, Part
from deft_aoi.analysis.scored import sample_id
from deft_aoi.contract.changenet_csv import MANDATORY, ImageLayout, read_table
from deft_aoi.contract.errors import HardStop
from deft_aoi.contract.text import PASS, normalize_label, printable, quoted

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "Finding",
    "assemble",
    "class_counts",
    "propose_clean",
    "read_provenance",
    "relative_rows",
    "require_content",
    "with_earlier_rows",
    "validate",
]

PROVENANCE = ("input_path", "golden_path", "object_name", "label", "source", "provenance", "iteration", "target_ids")
PROVENANCE_COLUMNS = (*PROVENANCE, "similarity", "content_id")
PROPOSER = "proposer"
"""Who proposed a mined row: ``knn`` or ``hard``; empty for base rows. Runs from before there were two have no such column."""
SOURCES = ("base_train", "previous_iter_train", "mining_pool")
KINDS = ("real", "sdg")
_NOT_TRAINING = (
    "provenance",
    "target_ids",
    "similarity",
    "iteration",
    "encoder",
    "proposer",
    "model_score",
    "filepath",
    "sample_id",
    "content_id",
    "featureless",
    "defect_type",
    "pool_row",
)


def relative_rows(frame: pd.DataFrame, images_dir: Path, root: Path) -> pd.DataFrame:
    """Rows that were relative to ``images_dir``, made relative to ``root`` (the workspace), with canonical labels.

    Raises:
        HardStop: ``images_dir`` is not below ``root``, or a label is not allowed.
    """
    if not images_dir.is_relative_to(root):
        raise HardStop(
            "the images folder lies outside the workspace",
            expected=f"a folder below {root}",
            found=quoted(images_dir, 200),
            hint="copy the images below the workspace; training rows are relative to it",
        )
    prefix = images_dir.relative_to(root).as_posix()
    out = frame.copy()
    if prefix != ".":
        for column in ("input_path", "golden_path"):
            out[column] = prefix + "/" + out[column]
    labels = {raw: normalize_label(raw) for raw in out["label"].unique()}
    out["label"] = out["label"].map(labels)
    return out


def assemble(
    previous: Part, mined: Part, *, iteration: int, previous_provenance: pd.DataFrame | None = None
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Append newly mined rows to the previous training set.

    Args:
        previous: M rows, workspace-relative: the base training set at iteration 1, else the set of iteration - 1.
        mined: K rows, workspace-relative, with ``provenance`` (``real`` or ``sdg``) and, where known, ``target_ids``
            (joined by ``;``) and ``similarity``.
        iteration: the iteration being assembled, from 1.
        previous_provenance: (M,) provenance of ``previous``; ``None`` when it is the base training set.

    Returns:
        The M + K training rows, previous ones first and unchanged, and their provenance
        (:data:`PROVENANCE_COLUMNS`), row by row. ``iteration`` is the one in which a row came in, 0 for the base.

    Raises:
        HardStop: a mined row is already there (by name, or by content where it is not featureless), one content has two
            labels, or the provenance does not go with its rows.
    """
    import pandas as pd

    if iteration < 1:
        raise ValueError(f"iteration counts from 1, got {iteration}")
    old = _previous_provenance(previous, previous_provenance)
    new = _mined_provenance(mined, iteration)
    rows = mined.frame.drop(columns=[c for c in _NOT_TRAINING if c in mined.frame.columns])
    frame = pd.concat([previous.frame, rows], ignore_index=True).fillna("")
    provenance = pd.concat([old, new], ignore_index=True)
    ids = pd.concat([previous.ids, mined.ids], ignore_index=True)
    combined = Part(f"training set of iteration {iteration}", frame, previous.layout, ids)
    raise_first(findings(combined, provenance=provenance, previous=previous))
    return frame, provenance


def require_content(part: Part, recorded: pd.Series[str]) -> None:
    """Stop when an image of a set is not the one that its row was chosen for.

    Args:
        part: N rows with their identities as the images are now.
        recorded: (N,) content ids as they were.

    Raises:
        HardStop: names the first such row.
    """
    ids = part.ids["content_id"].to_numpy()
    differs = np.flatnonzero(ids != recorded.to_numpy()) if len(ids) == len(recorded) else np.arange(1)
    if len(differs):
        row = int(differs[0])
        raise HardStop(
            f"{part.name}, line {row + 2} ({quoted(sample_id(part.frame, row), 120)}): an image changed during the run",
            expected="the images with which the rows were mined",
            found=f"{len(differs)} rows with other pixels",
            hint="restore the images, or start a new run",
        )


def with_earlier_rows(part: Part, earlier: pd.DataFrame) -> pd.DataFrame:
    """Provenance of a base training set whose last rows an earlier run had already trained on.

    Args:
        part: N rows.
        earlier: (K,) those last rows, with their ``provenance`` (``real`` or ``sdg``).
    """
    out = _previous_provenance(part, None)
    first = len(out) - len(earlier)
    out.loc[first:, "source"] = "previous_iter_train"
    out.loc[first:, "provenance"] = earlier["provenance"].to_numpy()
    return out


def _previous_provenance(previous: Part, recorded: pd.DataFrame | None) -> pd.DataFrame:
    n = len(previous.frame)
    if recorded is None:
        out = previous.frame[["input_path", "golden_path", "object_name", "label"]].reset_index(drop=True)
        return out.assign(
            source="base_train",
            provenance="real",
            iteration="0",
            target_ids="",
            similarity="",
            content_id=previous.ids["content_id"].to_numpy(),
            proposer="",
        )
    names = ["input_path", "golden_path", "object_name", "label"]
    if len(recorded) != n or not (recorded[names].to_numpy() == previous.frame[names].to_numpy()).all():
        raise HardStop(
            "the provenance file does not go with its training set",
            expected=f"{n} rows, the same samples in the same order",
            found=f"{len(recorded)} rows",
            hint="both files are written together; take them from the same iteration's dataset folder",
        )
    out = recorded.reset_index(drop=True).copy()
    out["source"] = np.where(out["source"] == "base_train", "base_train", "previous_iter_train")
    return out[[*PROVENANCE_COLUMNS, PROPOSER]]


def _mined_provenance(mined: Part, iteration: int) -> pd.DataFrame:
    frame = mined.frame
    if "provenance" not in frame.columns:  # a table of the user's own pool: synthetic rows always come with the column
        frame = frame.assign(provenance="real")
    kinds = frame["provenance"]
    if not kinds.isin(KINDS).all():
        raise HardStop(
            "mined rows lack their provenance",
            expected="a column provenance with real or sdg in every row",
            found=quoted(kinds[~kinds.isin(KINDS)].iloc[0]),
            hint="take the mining_pool.csv that knn_mine.py wrote",
        )
    out = frame[["input_path", "golden_path", "object_name", "label"]].reset_index(drop=True)
    text = {c: frame[c].map(_text).to_numpy() if c in frame.columns else "" for c in ("target_ids", "similarity")}
    return out.assign(
        source="mining_pool",
        provenance=kinds.to_numpy(),
        iteration=str(iteration),
        target_ids=text["target_ids"],
        similarity=text["similarity"],
        content_id=mined.ids["content_id"].to_numpy(),
        proposer=frame[PROPOSER].to_numpy() if PROPOSER in frame.columns else "knn",
    )


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, list | tuple | np.ndarray):
        return ";".join(map(str, value))
    return "" if value is None or value != value else repr(float(value))


def validate(
    frame: pd.DataFrame,
    *,
    layout: ImageLayout,
    index: ContentIndex,
    against: Sequence[Part] = (),
    previous: Part | None = None,
    provenance: pd.DataFrame | None = None,
    name: str = "training set",
    allow_near: bool = False,
) -> dict[str, Any]:
    """Check a training set as a whole.

    Args:
        frame: N ChangeNet rows, as :func:`deft_aoi.contract.changenet_csv.read_changenet_csv` reads them.
        layout: how rows name images; every light of every row must exist and decode.
        index: identities; what it has cached is not decoded again.
        against: validation, KPI and hold-out sets, which must share no content with these rows.
        previous: the previous iteration's set, whose rows must all be there.
        provenance: (N,) provenance, which must go with the rows.
        name: how messages name the set.
        allow_near: near-duplicates of ``against`` are the user's decision.

    Returns:
        Counts of schema ``dataset_check``.

    Raises:
        HardStop: the first rule that is broken, naming the rows.
    """
    missing = [c for c in MANDATORY if c not in frame.columns]
    if missing or frame.empty:
        raise HardStop(
            f"the {name} lacks {', '.join(missing) if missing else 'rows'}",
            expected=f"{', '.join(MANDATORY)} and rows",
            hint="assemble this iteration again, or correct the base training set",
        )
    part = index.part(name, frame, layout)
    raise_first(findings(part, provenance=provenance, previous=previous, against=against, allow_near=allow_near))
    solid = ~part.ids["featureless"].to_numpy(dtype=bool)
    copies = int(part.ids["content_id"][solid].duplicated().sum())
    return {
        "schema_version": 1,
        "name": name,
        "rows": len(frame),
        "distinct": int(part.ids["content_id"].nunique()),
        "featureless": int((~solid).sum()),
        "copies": copies,
        "labels": {printable(k, 64): int(v) for k, v in sorted(frame["label"].value_counts().items())},
        "sources": {} if provenance is None else _tally(provenance["source"]),
        "provenance": {} if provenance is None else _tally(provenance["provenance"]),
        "compared_with": {p.name: len(p.frame) for p in against},
    }


def _tally(column: pd.Series[Any]) -> dict[str, int]:
    return {str(k): int(v) for k, v in sorted(column.value_counts().items())}


def read_provenance(path: Path) -> pd.DataFrame:
    """Read a provenance file: every cell as text.

    Raises:
        HardStop: missing, malformed, or without one of :data:`PROVENANCE_COLUMNS`.
    """
    frame = read_table(path, what="provenance of the training set", mandatory=PROVENANCE_COLUMNS)
    if PROPOSER not in frame.columns:
        frame = frame.assign(proposer=np.where(frame["source"] == "base_train", "", "knn"))
    return frame[[*PROVENANCE_COLUMNS, PROPOSER]]


def class_counts(provenance: pd.DataFrame) -> dict[str, Any]:
    """Rows by iteration of entry, class and kind, and the synthetic share: the growth table of the report.

    Returns:
        ``{"iterations": [{iteration, pass, defect, real, sdg}], "sdg_fraction", "rows"}``.
    """
    number = provenance["iteration"].astype(int)
    out = []
    for n in sorted(number.unique()):
        part = provenance[number == n]
        good, sdg = int((part["label"] == PASS).sum()), int((part["provenance"] == "sdg").sum())
        out.append({"iteration": int(n), "pass": good, "defect": len(part) - good, "real": len(part) - sdg, "sdg": sdg})
    total = int((provenance["provenance"] == "sdg").sum())
    return {"iterations": out, "rows": len(provenance), "sdg_fraction": total / len(provenance) if len(provenance) else 0.0}


def propose_clean(frame: pd.DataFrame, found: Sequence[Finding]) -> tuple[pd.DataFrame, list[str]]:
    """A copy of a set without the rows that break a rule, and why each went.

    Rows of a conflict all go: which label is right is not ours to say.

    Returns:
        The clean frame and one line for each removed row.
    """
    why = {row: f.rule for f in reversed(found) for row in f.rows}
    keep = np.ones(len(frame), dtype=bool)
    keep[list(why)] = False
    lines = [f"line {r + 2}: {why[r]}: {quoted(sample_id(frame, r), 160)}" for r in sorted(why)]
    return frame[keep].reset_index(drop=True), lines
