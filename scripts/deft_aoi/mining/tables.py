"""Mining from two Parquet tables, for a person at a shell: what ``knn_mine.py`` runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from deft_aoi.contract.errors import Blocked, HardStop
from deft_aoi.contract.files import sha256_bytes
from deft_aoi.contract.text import normalize_label, quoted
from deft_aoi.mining.jobs import read_embedding_column
from deft_aoi.mining.outputs import write_outputs
from deft_aoi.mining.select import Mined, select
from deft_aoi.mining.settings import MiningConfig

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd


def read_embedded(path: Path, what: str) -> tuple[pd.DataFrame, np.ndarray]:
    """Read a Parquet with ``filepath``, ``embedding`` and, where there is one, ``label``.

    Returns:
        The other columns, with ``label`` normalised (``unknown`` where the table has none) and ``content_id`` (that of
        the table, else the digest of the path), and the embeddings ``(N, D)``.

    Raises:
        Blocked: there is no such file.
        HardStop: not Parquet, a column is missing, a path comes twice, embeddings differ in length.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not path.is_file():
        raise Blocked(f"the {what} table is missing", expected=str(path))
    try:
        table = pq.read_table(path)
        table.validate(full=True)  # text that is not UTF-8 would only fail later, and without a name
    except (OSError, ValueError, pa.ArrowException) as error:
        raise HardStop(
            f"the {what} table is not Parquet",
            found=quoted(error, 160),
            hint="write it as Parquet with the columns filepath, label and embedding",
        ) from error
    if "filepath" not in table.column_names:
        raise HardStop(
            f"the {what} table has no column filepath",
            found=quoted(", ".join(table.column_names), 200),
            hint="the table needs filepath, label and embedding",
        )
    vectors = read_embedding_column(table, path)
    frame = table.drop_columns(["embedding"]).to_pandas()
    if what == "pool" and frame["filepath"].duplicated().any():
        twice = frame["filepath"][frame["filepath"].duplicated()].iloc[0]
        raise HardStop("the pool names a file twice", found=quoted(twice, 200), hint="one row a sample")
    raw = frame["label"].astype(str) if "label" in frame.columns else None
    spelled = {} if raw is None else {label: normalize_label(label) for label in raw.unique()}
    frame["label"] = "unknown" if raw is None else raw.map(spelled)
    if "content_id" not in frame.columns:
        frame["content_id"] = [sha256_bytes(str(p).encode("utf-8", "surrogatepass")) for p in frame["filepath"]]
    for column, value in (("provenance", ""), ("sample_id", frame["filepath"].astype(str))):
        if column not in frame.columns:
            frame[column] = value
    return frame, vectors


def mine_tables(targets: Path, pool: Path, out_dir: Path, *, config: MiningConfig, encoder: str = "given") -> Mined:
    """Mine ``pool`` for the neighbours of ``targets`` and write the five files into ``out_dir``."""
    target_frame, target_vectors = read_embedded(targets, "targets")
    pool_frame, pool_vectors = read_embedded(pool, "pool")
    mined = select(target_frame, target_vectors, pool_frame, pool_vectors, config=config, encoder=encoder)
    write_outputs(mined, out_dir)
    return mined
