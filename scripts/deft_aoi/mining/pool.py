"""The one pool: real rows of ``mining_pool.csv`` and staged synthetic rows in one table.

``source_pool.csv`` holds one row a sample: the ChangeNet columns (paths relative to the workspace) and ``provenance``
(``real`` | ``sdg``), ``sample_id``, ``content_id``, ``featureless``, ``defect_type``, ``pool_row`` (from 0; empty for
``sdg``). ``source_pool.parquet`` holds one row a sample and light: ``sample_id, light, filepath, golden_filepath, label,
provenance, content_id``.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from deft_aoi.contract.changenet_csv import ImageLayout, read_changenet_csv, write_changenet_csv
from deft_aoi.contract.errors import HardStop
from deft_aoi.contract.files import atomic_write_bytes, sha256_bytes
from deft_aoi.contract.paths import Workspace
from deft_aoi.contract.text import PASS, normalize_label, safe_text
from deft_aoi.mining.defaults import MAX_LISTED
from deft_aoi.mining.path_rules import resolve_column

if TYPE_CHECKING:
    import pandas as pd

ROW_KEY = ("input_path", "golden_path", "object_name")
_EXTRA = ("provenance", "sample_id", "content_id", "featureless", "defect_type", "pool_row")


class ContentDigests(Protocol):
    """What the pool needs of :class:`deft_aoi.analysis.identity.ContentIndex`."""

    def digest_pairs(self, frame: pd.DataFrame, layout: ImageLayout) -> pd.DataFrame:
        """Return a frame aligned with ``frame`` with at least ``content_id`` (str) and ``featureless`` (bool)."""


@dataclass(frozen=True)
class Pool:
    """The pool of one iteration.

    Attributes:
        frame: one row a sample, as in ``source_pool.csv``; ``featureless`` is bool.
        lights: of the spec, in order.
        image_ext: of the spec.
        real_rows: rows of ``mining_pool.csv``.
        rows_digest: digest of those rows, for the record.
        path_rules: column → name of the rule that resolved it.
    """

    frame: pd.DataFrame
    lights: tuple[str, ...]
    image_ext: str
    real_rows: int
    rows_digest: str
    path_rules: Mapping[str, str]

    @property
    def counts(self) -> dict[str, int]:
        """``real``, ``sdg`` and ``featureless`` rows."""
        provenance = self.frame["provenance"]
        return {
            "real": int((provenance == "real").sum()),
            "sdg": int((provenance == "sdg").sum()),
            "featureless": int(self.frame["featureless"].sum()),
        }


def read_real_rows(workspace: Workspace, lights: tuple[str, ...], image_ext: str) -> tuple[pd.DataFrame, dict[str, str]]:
    """Read ``mining_pool.csv`` with workspace-relative paths and normalised labels.

    Returns:
        The rows (file order), and the rule that resolved each path column.

    Raises:
        HardStop: the file is missing, has no row, breaks the ChangeNet contract, or a row resolves to no file.
    """
    frame = read_changenet_csv(workspace.pool_csv, what="mining pool")
    clash = sorted(set(_EXTRA) & set(frame.columns))
    frame = frame.drop(columns=clash)
    layout = ImageLayout(workspace.root, lights, image_ext)
    rules: dict[str, str] = {}
    for column in ("input_path", "golden_path"):
        folders, rule = resolve_column(frame, column, workspace, layout)
        frame[column] = folders
        rules[column] = f"relative to {rule.name}" + (", file names" if rule.file_style else "")
    spelled = {raw: normalize_label(raw) for raw in frame["label"].unique()}
    frame["label"] = frame["label"].map(spelled).astype("object")
    return frame, rules


def build(
    workspace: Workspace,
    lights: tuple[str, ...],
    image_ext: str,
    *,
    index: ContentDigests,
    out_dir: Path,
    sdg_rows: pd.DataFrame | None = None,
    synth_now: Path | None = None,
    previous: Path | None = None,
    forbidden: Mapping[str, AbstractSet[str]] | None = None,
) -> Pool:
    """Build the pool and write ``source_pool.csv`` and ``source_pool.parquet`` into ``out_dir``.

    Args:
        workspace: the customer's folder; read only.
        lights: keys of ``input_map``; ``("",)`` for none.
        image_ext: the spec's extension.
        index: digests of decoded content, cached: an unchanged image is not decoded again.
        out_dir: written; must exist.
        sdg_rows: rows of :func:`deft_aoi.mining.pairs.stage`.
        synth_now: the folder that holds ``images/synth_ng`` at this moment, where that is not yet the folder that
            ``sdg_rows`` name (an attempt's folder before publication).
        previous: an earlier ``source_pool.csv`` of this run; its real rows must be a prefix of today's.
        forbidden: name of a set (``kpi``, ``validation``, …) → content ids; a synthetic pair among them stops the run.

    Raises:
        HardStop: see :func:`read_real_rows`; the pool shrank or changed; a synthetic pair is an evaluation pair.
    """
    import pandas as pd

    real, rules = read_real_rows(workspace, lights, image_ext)
    real["provenance"] = "real"
    real["defect_type"] = real["label"].where(real["label"] != PASS, "")
    real["pool_row"] = [str(i) for i in range(len(real))]
    real["sample_id"] = [f"real-{i:08d}" for i in range(len(real))]
    parts = [real]
    if sdg_rows is not None and len(sdg_rows):
        sdg = sdg_rows.copy()
        sdg["pool_row"] = ""
        sdg["sample_id"] = "sdg-" + sdg["object_name"]
        parts.append(sdg)
    frame = pd.concat(parts, ignore_index=True).fillna("").astype("object")
    digests = index.digest_pairs(_as_lying_now(frame, workspace, synth_now), ImageLayout(workspace.root, lights, image_ext))
    frame["content_id"] = digests["content_id"].to_numpy()
    frame["featureless"] = digests["featureless"].to_numpy().astype(bool)
    pool = Pool(frame, lights, image_ext, len(real), _rows_digest(real), rules)
    _check_synthetic(frame, forbidden or {})
    if previous is not None and previous.exists():
        check_append_only(load(previous, lights, image_ext).frame, frame)
    write(pool, out_dir)
    return pool


def _as_lying_now(frame: pd.DataFrame, workspace: Workspace, synth_now: Path | None) -> pd.DataFrame:
    """The frame with synthetic rows pointed at the folder that holds them before publication."""
    if synth_now is None:
        return frame
    now = frame[list(("input_path", "golden_path", "label", "object_name"))].copy()
    sdg = frame["provenance"] == "sdg"
    base = workspace.rel(synth_now)
    now.loc[sdg, "input_path"] = f"{base}/images/synth_ng"
    now.loc[sdg, "golden_path"] = f"{base}/images/synth_ok"
    return now


def _rows_digest(real: pd.DataFrame) -> str:
    text = io.StringIO()
    real[[*ROW_KEY, "label"]].to_csv(text, index=False, lineterminator="\n")
    return sha256_bytes(text.getvalue().encode("utf-8"))


def _check_synthetic(frame: pd.DataFrame, forbidden: Mapping[str, AbstractSet[str]]) -> None:
    sdg = frame[(frame["provenance"] == "sdg") & ~frame["featureless"]]
    found = [
        f"{safe_text(row.object_name)} is in {name}"
        for name, ids in forbidden.items()
        for row in sdg[sdg["content_id"].isin(ids)].itertuples()
    ]
    if found:
        raise HardStop(
            f"{len(found)} pre-generated pairs are evaluation pairs",
            expected="synthetic pairs that are in no validation, KPI or hold-out set",
            found="; ".join(found[:MAX_LISTED]),
            hint="remove them from augmentation/anomalygen, both the NG and the OK image",
        )


def check_append_only(before: pd.DataFrame, now: pd.DataFrame) -> int:
    """Verify that the pool only grew: its earlier real rows, content included, are a prefix of today's.

    Returns:
        The number of new real rows.

    Raises:
        HardStop: rows vanished, changed or were reordered, or an image behind a row changed.
    """
    old, new = (f[f["provenance"] == "real"].reset_index(drop=True) for f in (before, now))
    if len(new) < len(old):
        raise HardStop(
            "the mining pool shrank during the run",
            expected=f"at least {len(old)} rows",
            found=f"{len(new)} rows",
            hint="mining_pool.csv is append-only; restore the rows or start a new run",
        )
    for column in (*ROW_KEY, "label", "content_id"):
        differs = (old[column].to_numpy() != new[column].to_numpy()[: len(old)]).nonzero()[0]
        if len(differs):
            line = int(differs[0])
            raise HardStop(
                f"the mining pool changed during the run: mining_pool.csv, line {line + 2}, "
                + ("the image itself" if column == "content_id" else f"column {column}"),
                expected=f"{safe_text(old[column][line], 120)}: rows in use stay as they are, new ones come after them",
                found=safe_text(new[column][line], 120),
                hint="restore the row and append instead, or start a new run",
            )
    return len(new) - len(old)


def write(pool: Pool, out_dir: Path) -> None:
    """Write both tables of ``pool`` atomically."""
    frame = pool.frame.copy()
    frame["featureless"] = frame["featureless"].map({True: "true", False: "false"})
    write_changenet_csv(frame, out_dir / "source_pool.csv")
    write_parquet(per_light(pool.frame, pool.lights, pool.image_ext), out_dir / "source_pool.parquet")


def load(path: Path, lights: tuple[str, ...], image_ext: str) -> Pool:
    """Read a ``source_pool.csv`` back."""
    frame = read_changenet_csv(path, what="source pool")
    frame["featureless"] = frame["featureless"] == "true"
    real = frame[frame["provenance"] == "real"]
    return Pool(frame, lights, image_ext, len(real), _rows_digest(real), {})


def per_light(frame: pd.DataFrame, lights: Sequence[str], image_ext: str) -> pd.DataFrame:
    """One row a sample and light: ``sample_id, light, filepath, golden_filepath, label, provenance, content_id``.

    Rows come sample by sample, lights in ``input_map`` order; file paths are workspace-relative.
    """
    import pandas as pd

    parts = []
    for order, light in enumerate(lights):
        name = frame["object_name"] + (f"_{light}" if light else "") + image_ext
        columns = {
            "sample_id": frame["sample_id"],
            "light": light,
            "filepath": frame["input_path"] + "/" + name,
            "golden_filepath": frame["golden_path"] + "/" + name,
            "label": frame["label"],
            "provenance": frame["provenance"],
            "content_id": frame["content_id"],
        }
        parts.append(pd.DataFrame(columns).assign(_row=range(len(frame)), _light=order))
    table = pd.concat(parts, ignore_index=True).sort_values(["_row", "_light"], kind="stable")
    return table.drop(columns=["_row", "_light"]).reset_index(drop=True)


def write_parquet(frame: pd.DataFrame, path: Path) -> None:
    """Write a frame as Parquet, atomically."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pandas(frame, preserve_index=False), sink)
    atomic_write_bytes(path, sink.getvalue())


def row_keys(frame: pd.DataFrame) -> set[tuple[str, str, str]]:
    """Where rows point: identifies featureless rows, which have no content to be told by."""
    return set(frame[list(ROW_KEY)].itertuples(index=False, name=None))
