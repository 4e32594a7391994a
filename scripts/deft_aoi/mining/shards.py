"""Embedding a large table in shards: one atomic file a shard, so that a re-run does only what is missing.

The worker is a plain command, so that a SLURM array or Ray can drive it as well as a shell loop::

    python -m deft_aoi.mining.shards --input in.parquet --output-dir DIR --shards 16 --shard 3 --encoder siglip

Rows are cut by the prefix of their ``content_id``; a shard's file is valid when its metadata name the encoder and its
rows are the shard's.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deft_aoi.contract.errors import DeftError, HardStop, UsageError
from deft_aoi.contract.files import atomic_write_bytes
from deft_aoi.contract.text import quoted
from deft_aoi.mining.encoders import encode_table, make_encoder, read_identity, write_embedded

if TYPE_CHECKING:
    import numpy as np

MAX_SHARDS = 99_999


@dataclass(frozen=True)
class ShardJob:
    """One table to embed.

    Attributes:
        source: Parquet with ``filepath`` (absolute) and ``content_id``.
        out_dir: where shards' files go; made if absent.
        shards: number of shards; fixed for a folder.
        encoder: ``siglip`` or ``pixels``.
        model_path: SigLIP's folder, else the Hugging Face cache.
    """

    source: Path
    out_dir: Path
    shards: int
    encoder: str
    model_path: str | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.shards <= MAX_SHARDS:
            raise UsageError("wrong number of shards", expected=f"1 to {MAX_SHARDS}", found=str(self.shards))

    def path(self, shard: int) -> Path:
        """The file of a shard."""
        return self.out_dir / f"shard-{shard:05d}-of-{self.shards:05d}.parquet"


def shard_of(content_ids: list[str], shards: int) -> np.ndarray:
    """Shard of each content: its first eight hexadecimal digits modulo ``shards``."""
    import numpy as np

    return np.array([int(cid[:8], 16) % shards for cid in content_ids], dtype=np.int64)


def shard_rows(job: ShardJob, shard: int) -> Any:
    """The rows of a shard, as an Arrow table.

    Raises:
        HardStop: the input lacks ``filepath`` or ``content_id``.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pq.read_table(job.source)
    if not {"filepath", "content_id"} <= set(table.column_names):
        raise HardStop(
            "the shard input lacks filepath or content_id",
            found=quoted(", ".join(table.column_names)),
            hint="make the shard's table with prestage_pregen.py",
        )
    return table.filter(pa.array(shard_of(table.column("content_id").to_pylist(), job.shards) == shard))


def is_done(job: ShardJob, shard: int, identity: dict[str, str]) -> bool:
    """Whether the shard's file is there, by this encoder, with the shard's rows."""
    import pyarrow.parquet as pq

    path = job.path(shard)
    if not path.is_file() or read_identity(path) != identity:
        return False
    return bool(pq.read_table(path, columns=["filepath"]).column(0).equals(shard_rows(job, shard).column("filepath")))


def run_shard(job: ShardJob, shard: int) -> int:
    """Embed one shard unless that is done.

    Returns:
        Images embedded; 0 when the file was there.

    Raises:
        UsageError: no such shard.
    """
    if not 0 <= shard < job.shards:
        raise UsageError("no such shard", expected=f"0 to {job.shards - 1}", found=str(shard))
    job.out_dir.mkdir(parents=True, exist_ok=True)
    encoder = make_encoder(job.encoder, job.model_path)
    if is_done(job, shard, encoder.identity.as_dict()):
        return 0
    rows = shard_rows(job, shard)
    return write_embedded(rows, encode_table(rows, encoder), job.path(shard), encoder.identity)


def run_all(job: ShardJob) -> int:
    """Embed every shard, one after the other, in this process."""
    return sum(run_shard(job, shard) for shard in range(job.shards))


def collect(job: ShardJob, result: Path) -> int:
    """Join all shards into one table, in the input's order.

    Returns:
        The number of rows.

    Raises:
        HardStop: a shard is missing or is of another encoder.
    """
    import io

    import pyarrow as pa
    import pyarrow.parquet as pq

    identity = make_encoder(job.encoder, job.model_path).identity.as_dict()
    missing = [shard for shard in range(job.shards) if not is_done(job, shard, identity)]
    if missing:
        raise HardStop(
            f"{len(missing)} of {job.shards} shards are not embedded", found=f"shards {missing[:20]}", hint="run them again"
        )
    shards = shard_of(pq.read_table(job.source, columns=["content_id"]).column(0).to_pylist(), job.shards)
    parts = [pq.read_table(job.path(shard)) for shard in range(job.shards)]
    table = pa.concat_tables([part for part in parts if len(part)] or parts[:1])
    # Rows lie shard by shard; a stable sort of the input's shards is that order, its inverse leads back.
    table = table.take(pa.array(shards.argsort(kind="stable").argsort(kind="stable")))
    sink = io.BytesIO()
    pq.write_table(table.replace_schema_metadata(parts[0].schema.metadata), sink)
    atomic_write_bytes(result, sink.getvalue())
    return len(table)


def build_parser() -> argparse.ArgumentParser:
    """The worker's arguments."""
    parser = argparse.ArgumentParser(prog="deft_aoi.mining.shards", description="Embed one shard of a table.")
    parser.add_argument("--input", required=True, metavar="FILE", help="Parquet with filepath and content_id")
    parser.add_argument("--output-dir", required=True, metavar="DIR", help="one file a shard")
    parser.add_argument("--shards", required=True, type=int, metavar="N", help="number of shards")
    parser.add_argument("--shard", required=True, type=int, metavar="I", help="which one, from 0 (for SLURM: the array index)")
    parser.add_argument("--encoder", required=True, choices=("siglip", "pixels"))
    parser.add_argument("--model-path", metavar="DIR", help="SigLIP's folder (default: the Hugging Face cache)")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Embed one shard; exit codes as everywhere."""
    args = build_parser().parse_args(argv)
    try:
        run_shard(ShardJob(Path(args.input), Path(args.output_dir), args.shards, args.encoder, args.model_path), args.shard)
    except DeftError as error:
        sys.stderr.write(error.render() + "\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
