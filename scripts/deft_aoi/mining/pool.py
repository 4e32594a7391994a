"""The one pool: real rows of ``mining_pool.csv`` and staged synthetic rows in one table.

It is made in two steps with two prices. :func:`build` is as fast as reading the files: it resolves every row, digests the
bytes behind it and writes ``source_pool.parquet``, one row a sample and light: ``sample_id, light, filepath,
golden_filepath, label, provenance, sha256, golden_sha256``. :func:`identify` decodes: identity is what the pixels are. It
compares the pool with itself as it was and with the evaluation sets, and writes ``source_pool.csv``, one row a sample: the
ChangeNet columns (paths relative to the workspace) and ``provenance`` (``real`` | ``sdg``), ``sample_id``, ``content_id``,
``featureless``, ``defect_type``, ``pool_row`` (from 0; empty for ``sdg``), ``leak``, ``leak_kind``, ``leak_with`` (which
evaluation set has the test image, ``exact`` or ``near``, and as which sample). Nothing is mined from a pool that is not
identified.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from deft_aoi.analysis.identity import Part, image_paths
from deft_aoi.analysis.leakage import LEAK_COLUMNS, leaks_into
from deft_aoi.contract.changenet_csv import ImageLayout, read_changenet_csv, write_changenet_csv
from deft_aoi.contract.errors import HardStop
from deft_aoi.contract.files import atomic_write_bytes, sha256_bytes
from deft_aoi.contract.paths import Workspace
from deft_aoi.contract.text import PASS, normalize_label, quoted
from deft_aoi.mining.path_rules import resolve_column
from deft_aoi.mining.settings import MAX_LISTED

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

    from deft_aoi.analysis.identity import ContentIndex

CSV = "source_pool.csv"
PARQUET = "source_pool.parquet"
ROW_KEY = ("input_path", "golden_path", "object_name")
_EXTRA = ("provenance", "sample_id", "content_id", "featureless", "defect_type", "pool_row", *LEAK_COLUMNS)


@dataclass(frozen=True)
class Pool:
    """The pool of one iteration.

    Attributes:
        frame: one row a sample, as in ``source_pool.csv``; ``featureless`` is bool. ``content_id`` and ``featureless`` are
            there when the pool is identified.
        lights: of the spec, in order.
        image_ext: of the spec.
        real_rows: rows of ``mining_pool.csv``.
        path_rules: column → name of the rule that resolved it.
    """

    frame: pd.DataFrame
    lights: tuple[str, ...]
    image_ext: str
    real_rows: int
    path_rules: Mapping[str, str]

    @property
    def counts(self) -> dict[str, int]:
        """``real``, ``sdg`` and ``featureless`` rows of an identified pool."""
        provenance = self.frame["provenance"]
        return {
            "real": int((provenance == "real").sum()),
            "sdg": int((provenance == "sdg").sum()),
            "featureless": int(self.frame["featureless"].sum()),
        }

    @property
    def rows_digest(self) -> str:
        """Digest of the real rows."""
        text = io.StringIO()
        self.frame.loc[self.frame["provenance"] == "real", [*ROW_KEY, "label"]].to_csv(text, index=False, lineterminator="\n")
        return sha256_bytes(text.getvalue().encode("utf-8"))


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
    index: ContentIndex,
    out_dir: Path,
    sdg_rows: pd.DataFrame | None = None,
    synth_now: Path | None = None,
) -> Pool:
    """Read the rows and digest the bytes behind them; write ``source_pool.parquet`` into ``out_dir``.

    Args:
        workspace: the customer's folder; read only.
        lights: keys of ``input_map``; ``("",)`` for none.
        image_ext: the spec's extension.
        index: digests, cached: an unchanged image is not read again.
        out_dir: written; must exist.
        sdg_rows: rows of :func:`deft_aoi.mining.pregen_staging.stage`.
        synth_now: the folder that holds ``images/synth_ng`` at this moment, where that is not yet the folder that
            ``sdg_rows`` name (an attempt's folder before publication).

    Returns:
        The pool, not yet identified.

    Raises:
        HardStop: see :func:`read_real_rows`; a file is a link or too large.
    """
    import pandas as pd

    real, rules = read_real_rows(workspace, lights, image_ext)
    real["provenance"] = "real"
    real["defect_type"] = real["label"].where(real["label"] != PASS, "")
    real["pool_row"] = [str(i) for i in range(len(real))]
    real["sample_id"] = [f"real-{i:08d}" for i in range(len(real))]
    frame = real
    if sdg_rows is not None and len(sdg_rows):
        sdg = sdg_rows.copy()
        sdg["pool_row"] = ""
        sdg["sample_id"] = "sdg-" + sdg["object_name"]
        frame = pd.concat([real, sdg], ignore_index=True).fillna("")
    frame = frame.astype("object")
    columns = image_paths(_current_paths(frame, workspace, synth_now), ImageLayout(workspace.root, lights, image_ext))
    distinct = list(dict.fromkeys(path for column in columns for path in column))
    text = index.file_digests(distinct).tobytes().hex()
    sha256 = {path: text[i * 64 : i * 64 + 64] for i, path in enumerate(distinct)}
    digests = [[sha256[path] for path in column] for column in columns]
    _write_table(_files_table(frame, lights, image_ext, digests), out_dir / PARQUET)
    return Pool(frame, lights, image_ext, len(real), rules)


def identify(
    pool: Pool,
    workspace: Workspace,
    *,
    index: ContentIndex,
    out_dir: Path,
    synth_now: Path | None = None,
    previous: Path | None = None,
    held_out: Mapping[str, Part] | None = None,
) -> Pool:
    """Tell every row by its pixels and write ``source_pool.csv`` into ``out_dir``.

    Args:
        pool: of :func:`build`.
        workspace: as there.
        index: digests, cached: bytes that are known are not decoded again.
        out_dir: written; must exist.
        synth_now: as for :func:`build`.
        previous: an earlier ``source_pool.csv`` of this run; its real rows must be a prefix of today's.
        held_out: the sets that judge (``kpi``, ``validation``, …). Rows with one of their test images, exactly or in another
            dress, are told in ``leak``, ``leak_kind`` and ``leak_with`` and never mined; a synthetic pair that is exactly one
            stops the run.

    Raises:
        HardStop: images that are not decoded (all of them); the pool shrank or changed; a synthetic pair is an evaluation
            pair.
    """
    now = _current_paths(pool.frame, workspace, synth_now)
    part = index.part("mining pool", now, ImageLayout(workspace.root, pool.lights, pool.image_ext))
    digests = part.ids
    frame = pool.frame.assign(
        content_id=digests["content_id"].astype("object"), featureless=digests["featureless"].to_numpy().astype(bool)
    )
    before = load(previous, pool.lights, pool.image_ext).frame if previous is not None and previous.exists() else None
    if before is not None:
        check_append_only(before, frame)
    leaks = _leaks(frame, part, held_out or {}, before)
    frame = frame.assign(**{name: leaks[name].to_numpy(object) for name in LEAK_COLUMNS})
    _check_synthetic(frame)
    text = frame.assign(featureless=frame["featureless"].map({True: "true", False: "false"}).astype("object"))
    write_changenet_csv(text, out_dir / CSV)
    return replace(pool, frame=frame)


def _current_paths(frame: pd.DataFrame, workspace: Workspace, synth_now: Path | None) -> pd.DataFrame:
    """The frame with synthetic rows pointed at the folder that holds them before publication."""
    if synth_now is None:
        return frame
    now = frame[list(("input_path", "golden_path", "label", "object_name"))].copy()
    sdg = frame["provenance"] == "sdg"
    base = workspace.rel(synth_now)
    now.loc[sdg, "input_path"] = f"{base}/images/synth_ng"
    now.loc[sdg, "golden_path"] = f"{base}/images/synth_ok"
    return now


def _files_table(frame: pd.DataFrame, lights: tuple[str, ...], image_ext: str, digests: list[list[str]]) -> pa.Table:
    """``source_pool.parquet``: sample by sample, lights in ``input_map`` order.

    ``digests``: of each light's input, then of each light's golden, one a row.
    """
    import numpy as np
    import pyarrow as pa

    names, lists = frame["object_name"].tolist(), {c: frame[c].tolist() for c in ("input_path", "golden_path")}
    parts = []
    for i, light in enumerate(lights):
        tail = ImageLayout(Path(), lights, image_ext).file_name("", light)
        paths = [[f"{folder}/{name}{tail}" for folder, name in zip(lists[c], names, strict=True)] for c in lists]
        columns = {
            "sample_id": frame["sample_id"].tolist(),
            "light": [light] * len(frame),
            "filepath": paths[0],
            "golden_filepath": paths[1],
            "label": frame["label"].tolist(),
            "provenance": frame["provenance"].tolist(),
            "sha256": digests[i],
            "golden_sha256": digests[len(lights) + i],
        }
        parts.append(pa.table(columns))
    table = pa.concat_tables(parts)
    return table if len(lights) == 1 else table.take(np.arange(len(table)).reshape(len(lights), -1).T.ravel())


def _leaks(frame: pd.DataFrame, part: Part, held_out: Mapping[str, Part], before: pd.DataFrame | None) -> pd.DataFrame:
    """What :func:`leaks_into` tells of every row; rows that an earlier table of this run has judged keep its answer."""
    import pandas as pd

    known: dict[tuple[str, str], tuple[str, ...]] = {}
    if before is not None and set(LEAK_COLUMNS) <= set(before.columns):
        answers = before[list(LEAK_COLUMNS)].itertuples(index=False, name=None)
        known = dict(zip(zip(before["sample_id"], before["content_id"], strict=True), answers, strict=True))
    keys = list(zip(frame["sample_id"], frame["content_id"], strict=True))
    new = pd.Series([key not in known for key in keys], index=part.frame.index)
    fresh = iter(leaks_into(part.take(new), held_out).itertuples(index=False, name=None))
    rows = [known[key] if key in known else next(fresh) for key in keys]
    return pd.DataFrame(rows, columns=list(LEAK_COLUMNS))


def leaking_contents(frame: pd.DataFrame) -> dict[str, set[str]]:
    """Name of an evaluation set → contents of the rows of an identified pool that have one of its test images."""
    leaking = frame[frame["leak"] != ""]
    return {str(name): set(rows["content_id"]) for name, rows in leaking.groupby("leak")}


def near_warning(frame: pd.DataFrame) -> list[str]:
    """One line on rows that show an evaluation image in another dress, if there are any."""
    near = frame[frame["leak_kind"] == "near"]
    if near.empty:
        return []
    named = "; ".join(
        f"{row.sample_id} ({quoted(row.object_name, 60)}) is {quoted(row.leak_with, 80)}" for row in near.head(3).itertuples()
    )
    return [f"{len(near)} pool rows show evaluation images in another dress and are never mined (near-duplicates): {named}"]


def _check_synthetic(frame: pd.DataFrame) -> None:
    sdg = frame[(frame["provenance"] == "sdg") & (frame["leak_kind"] == "exact")]
    found = [f"{quoted(row.object_name)} is in {row.leak}" for row in sdg.itertuples()]
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
                expected=f"{quoted(old[column][line], 120)}: rows in use stay as they are, new ones come after them",
                found=quoted(new[column][line], 120),
                hint="restore the row and append instead, or start a new run",
            )
    return len(new) - len(old)


def load(path: Path, lights: tuple[str, ...], image_ext: str) -> Pool:
    """Read a ``source_pool.csv`` back."""
    frame = read_changenet_csv(path, what="source pool")
    frame["featureless"] = frame["featureless"] == "true"
    real = frame[frame["provenance"] == "real"]
    return Pool(frame, lights, image_ext, len(real), {})


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

    _write_table(pa.Table.from_pandas(frame, preserve_index=False), path)


def _write_table(table: pa.Table, path: Path) -> None:
    import pyarrow.parquet as pq

    sink = io.BytesIO()
    pq.write_table(table, sink)
    atomic_write_bytes(path, sink.getvalue())


def row_keys(frame: pd.DataFrame) -> set[tuple[str, str, str]]:
    """Where rows point: identifies featureless rows, which have no content to be told by."""
    return set(frame[list(ROW_KEY)].itertuples(index=False, name=None))
