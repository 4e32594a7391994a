"""The ``embedding image_embeddings`` command's tables: what it is given, and what it gave.

Mining starts no jobs: it writes the input, somebody launches the command, it reads the output. Input columns:
``sample_id, light, filepath, golden_filepath`` with absolute paths (and ``content_id``, by which shards are cut); output: the
same and ``embedding``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deft_aoi.contract.errors import HardStop
from deft_aoi.contract.text import quoted
from deft_aoi.mining.pool import write_parquet
from deft_aoi.mining.store import EmbeddingStore, normalize_rows

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

COLUMNS = ("sample_id", "light", "filepath", "golden_filepath")


def missing_rows(per_light: pd.DataFrame, store: EmbeddingStore) -> pd.DataFrame:
    """Rows (one a sample and light) that must be embedded: one sample for each content that the store lacks.

    Args:
        per_light: as :func:`deft_aoi.mining.pool.per_light` gives: needs :data:`COLUMNS` and ``content_id``.
        store: of the encoder in question.
    """
    missing = set(store.missing(per_light["content_id"].tolist()))
    first = per_light.drop_duplicates("content_id")
    wanted = first[first["content_id"].isin(missing)]["sample_id"]
    return per_light[per_light["sample_id"].isin(set(wanted))].drop_duplicates(["sample_id", "light"]).reset_index(drop=True)


def write_job_input(rows: pd.DataFrame, path: Path, *, root: Path, pair: bool) -> int:
    """Write the command's input.

    Args:
        rows: of :func:`missing_rows`.
        path: the Parquet file.
        root: folder that relative paths are under (the workspace).
        pair: ``True`` for the pair feature (one row a sample and light), ``False`` for an encoder that looks at the
            test image alone: then each path comes once, since TAO's merge squares duplicates.

    Returns:
        The number of rows written; 0 means that nothing has to be launched (the file is written all the same).
    """
    table = rows[[*COLUMNS, "content_id"]].copy()
    for column in ("filepath", "golden_filepath"):
        table[column] = [p if p.startswith("/") else f"{root}/{p}" for p in table[column]]
    if not pair:
        table = table.drop_duplicates("filepath")
    write_parquet(table.reset_index(drop=True), path)
    return len(table)


def read_job_output(
    rows: pd.DataFrame, path: Path, *, root: Path, lights: Sequence[str], pair: bool
) -> tuple[list[str], np.ndarray]:
    """Read the command's output as one embedding a content.

    The features of a sample's lights are concatenated in ``input_map`` order and normalised again.

    Args:
        rows: what :func:`write_job_input` was given.
        path: the command's output Parquet: ``filepath``, ``embedding`` and, for pairs, ``sample_id`` and ``light``.
        root: as in :func:`write_job_input`.
        lights: keys of ``input_map`` in order.
        pair: as in :func:`write_job_input`.

    Returns:
        Content ids and their ``(N, D * lights)`` embeddings.

    Raises:
        HardStop: a row is missing, comes twice, or embeddings differ in length.
    """
    import numpy as np

    keys, vectors = _read_embeddings(path, ("sample_id", "light") if pair else ("filepath",))
    at = {key: i for i, key in enumerate(keys)}
    if len(at) != len(keys):
        raise HardStop(
            "the embedding job gave a row twice",
            expected=f"{len(at)} rows",
            found=f"{len(keys)} rows in {path.name}",
            hint="read the job's log; an encoder of your own gives one row for each it was given",
        )
    samples = rows.drop_duplicates("sample_id")
    blocks = []
    for light in lights:
        mine = rows[rows["light"] == light].set_index("sample_id").loc[samples["sample_id"]]
        wanted: list[tuple[str, ...]]
        if pair:
            wanted = [(sid, light) for sid in samples["sample_id"]]
        else:
            wanted = [(p if p.startswith("/") else f"{root}/{p}",) for p in mine["filepath"]]
        absent = [w for w in wanted if w not in at]
        if absent:
            raise HardStop(
                f"the embedding job left out {len(absent)} of {len(wanted)} rows",
                found=quoted(absent[0]),
                expected=str(path),
                hint="read the job's log: which image could it not take?",
            )
        blocks.append(normalize_rows(vectors[[at[w] for w in wanted]]))
    return samples["content_id"].tolist(), normalize_rows(np.concatenate(blocks, axis=1))


def read_embedding_column(table: Any, path: Path) -> np.ndarray:
    """The ``embedding`` column of a Parquet table as ``(N, D)`` float32.

    Raises:
        HardStop: there is none, or its lists differ in length.
    """
    import numpy as np
    import pyarrow as pa

    if "embedding" not in table.column_names:
        raise HardStop(
            f"{path.name} has no column embedding",
            found=quoted(", ".join(table.column_names)),
            hint="read the job's log; its output needs that column",
        )
    column = table.column("embedding").combine_chunks()
    count = len(column)
    if isinstance(column, pa.ChunkedArray):
        column = pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)
    values = np.asarray(column.flatten().to_numpy(zero_copy_only=False), dtype=np.float32)
    lengths = np.unique(
        np.asarray(column.value_lengths() if not pa.types.is_fixed_size_list(column.type) else [column.type.list_size])
    )
    if count and (len(lengths) != 1 or column.null_count or len(values) != count * lengths[0]):
        raise HardStop(
            f"the embeddings in {path.name} differ in length or are missing",
            expected="one length for all rows",
            hint="read the job's log: was the model exchanged while it ran?",
        )
    return values.reshape(count, -1) if count else np.empty((0, 0), dtype=np.float32)


def _read_embeddings(path: Path, columns: tuple[str, ...]) -> tuple[list[tuple[str, ...]], np.ndarray]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise HardStop(
            "the embedding job's output cannot be read",
            expected=str(path),
            found=quoted(error, 160),
            hint="read the job's log, then run the stage again",
        ) from error
    absent = [c for c in columns if c not in table.column_names]
    if absent:
        raise HardStop(
            f"{path.name} lacks the column {', '.join(absent)}",
            found=quoted(", ".join(table.column_names)),
            hint="read the job's log; its output needs that column",
        )
    keys = list(zip(*(table.column(c).to_pylist() for c in columns), strict=True))
    return keys, read_embedding_column(table, path)
