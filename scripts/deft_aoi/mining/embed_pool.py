"""Embedding a staged pool with an encoder that needs no training, in this process, in shards, or on Ray."""

from __future__ import annotations

import shutil
from pathlib import Path

from deft_aoi.contract.errors import UsageError
from deft_aoi.contract.paths import Workspace
from deft_aoi.mining import jobs, shards
from deft_aoi.mining.encoders import make_encoder
from deft_aoi.mining.pool import load, per_light
from deft_aoi.mining.store import EmbeddingStore

EXECUTORS = ("local", "ray")


def embed_pool(
    workspace: Workspace,
    source_pool: Path,
    lights: tuple[str, ...],
    image_ext: str,
    *,
    cache_dir: Path,
    encoder: str,
    model_path: str | None = None,
    executor: str = "local",
    shard_count: int = 1,
    address: str | None = None,
) -> tuple[int, int]:
    """Embed what the store lacks of a pool.

    Args:
        workspace: paths in the pool are relative to it.
        source_pool: ``source_pool.csv``.
        lights: keys of ``input_map``.
        image_ext: the spec's extension.
        cache_dir: where the store lives; shards are kept beside it until all are done, so a killed call continues.
        encoder: ``siglip`` or ``pixels``.
        model_path: SigLIP's folder, else the Hugging Face cache.
        executor: ``local`` or ``ray``.
        shard_count: files that the work is cut into.
        address: of a Ray cluster.

    Returns:
        Images embedded now, and contents in the store.

    Raises:
        Blocked: the encoder or Ray is not at hand, or the cluster is too small.
    """
    if executor not in EXECUTORS:
        raise UsageError("unknown executor", expected=" or ".join(EXECUTORS), found=executor)
    identity = make_encoder(encoder, model_path).identity
    store = EmbeddingStore(cache_dir, identity)
    rows = jobs.missing_rows(per_light(load(source_pool, lights, image_ext).frame, lights, image_ext), store)
    if rows.empty:
        return 0, len(store)
    work = store.dir / "work"
    work.mkdir(exist_ok=True)
    jobs.write_job_input(rows, work / "input.parquet", root=workspace.root, pair=False)
    job = shards.ShardJob(work / "input.parquet", work / "shards", shard_count, encoder, model_path)
    if executor == "ray":
        from deft_aoi.mining.shards_ray import run_ray

        done = run_ray(job, address=address)
    else:
        done = shards.run_all(job)
    shards.collect(job, work / "output.parquet")
    ids, vectors = jobs.read_job_output(rows, work / "output.parquet", root=workspace.root, lights=lights, pair=False)
    store.add(ids, vectors)
    shutil.rmtree(work)
    return done, len(store)
