"""Embedding what the store does not know yet: pool rows and weak KPI rows, by the encoder on record."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deft_aoi.contract import spec as specs
from deft_aoi.contract.errors import HardStop
from deft_aoi.contract.files import sha256_file
from deft_aoi.loop.context import RunContext
from deft_aoi.loop.launch import Job, run_job, write_spec
from deft_aoi.loop.stages.train import best_iteration
from deft_aoi.mining import jobs
from deft_aoi.mining.store import EmbeddingStore, EncoderIdentity

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Encoder:
    """The encoder of one mining.

    Attributes:
        identity: enters the store's key and every mined row.
        pair: whether it looks at test and golden together.
        spec: what the ``embedding`` command is given beside input and output.
        model: a local folder that the job reads, if it lies outside the workspace.
    """

    identity: EncoderIdentity
    pair: bool
    spec: dict[str, Any]
    model: Path | None = None


def encoder_for(ctx: RunContext, label: str) -> Encoder:
    """The encoder that mines for iteration ``label``.

    ``baseline`` keeps the baseline's checkpoint for the whole run (the pool is embedded once); ``latest`` takes the best
    one so far.

    Raises:
        Blocked: the SigLIP model is not at hand.
        HardStop: the checkpoint that encodes is not the one on record.
    """
    if ctx.config.encoder == "pair_feature":
        it = best_iteration(ctx.state()) if ctx.config.encoder_checkpoint == "latest" else None
        source = "baseline" if it is None else it["label"]
        it = it or ctx.iteration("baseline")
        checkpoint = ctx.path(it["best_ckpt_path"])
        digest = sha256_file(checkpoint)
        if digest != it["best_ckpt_sha256"]:
            raise HardStop(
                f"{it['best_ckpt_path']} is not the file on record",
                expected=f"sha256 {it['best_ckpt_sha256'][:16]}, which encodes since {source}",
                found=f"sha256 {digest[:16]}",
                hint="restore it; verify_run.py tells what else does not hold",
            )
        size = [specs.get(ctx.spec, f"dataset.classify.image_{side}") for side in ("width", "height")]
        seen = f"{size[0]}x{size[1]} {','.join(specs.lights(ctx.spec))}{_registered_as(ctx)}"
        identity = EncoderIdentity("pair_feature", digest, seen)
        return Encoder(identity, True, {"model": "pair_feature", "model_path": str(checkpoint)})
    from deft_aoi.mining import encoders

    if ctx.config.encoder == "pixels":
        return Encoder(encoders.make_encoder("pixels").identity, False, {"model": "pixels"})
    if ctx.config.encoder == "difference":
        return difference_encoder(ctx)
    folder = encoders.find_siglip(ctx.config.model_path)
    if folder is None:
        raise encoders.siglip_absent()
    spec = {"model": "SigLIP", "model_path": str(folder)}
    return Encoder(encoders.siglip_identity(folder), False, spec, encoders.seen_root(folder))


def difference_encoder(ctx: RunContext) -> Encoder:
    """The difference image: it needs no model, so it is at hand in every run."""
    from deft_aoi.mining.encoders import DifferenceEncoder

    plain = DifferenceEncoder().identity
    return Encoder(replace(plain, preprocessing=plain.preprocessing + _registered_as(ctx)), True, {"model": "difference"})


def _registered_as(ctx: RunContext) -> str:
    how = ctx.config.preprocessing
    return f" registered {how.digest}" if how else ""


def embed(
    ctx: RunContext, label: str, attempt: int, encoder: Encoder, store: EmbeddingStore, rows: pd.DataFrame, out: Path, job: str
) -> int:
    """Embed the rows that the store lacks.

    Args:
        ctx: the run.
        label: iteration.
        attempt: attempt of the stage.
        encoder: of :func:`encoder_for`.
        store: its store.
        rows: one a sample and light: ``sample_id, light, filepath, golden_filepath, content_id``.
        out: the attempt's folder.
        job: ``pool`` or ``targets``; enters the job's name.

    Returns:
        Images that had to be embedded; 0 when the store knew them all.
    """
    lights = specs.lights(ctx.spec)
    missing = jobs.missing_rows(rows, store)
    if missing.empty:
        return 0
    if encoder.pair and ctx.config.preprocessing is not None:
        missing = _registered(ctx, missing)
    source, result = out / f"{job}_input.parquet", out / f"{job}_embeddings.parquet"
    count = jobs.write_job_input(missing, source, root=ctx.workspace.root, pair=encoder.pair)
    kind = str(encoder.spec["model"]).lower()
    if kind in ("pixels", "difference") or (kind == "siglip" and ctx.config.engine == "embedded"):
        from deft_aoi.mining import encoders

        encoders.embed_table(source, result, encoders.make_encoder(kind, encoder.spec.get("model_path")))
    else:
        path = write_spec(ctx, label, f"embed-{job}", encoder.spec)
        run_job(
            ctx,
            Job(
                label,
                "data_mining",
                job,
                attempt,
                "embedding",
                path,
                (f"input_parquet={source}", f"output_parquet={result}"),
                result,
                out,
                out / f"{job}_embed.log",
                rows=count,
                model=encoder.model,
            ),
        )
    ids, vectors = jobs.read_job_output(missing, result, root=ctx.workspace.root, lights=lights, pair=encoder.pair)
    store.add(ids, vectors)
    return count


def _registered(ctx: RunContext, rows: pd.DataFrame) -> pd.DataFrame:
    """The rows (one a sample and light) with registered goldens, for an encoder that looks at both pictures."""
    from deft_aoi.analysis.registered_goldens import Pair
    from deft_aoi.loop import registered

    def absolute(path: str) -> str:
        return path if path.startswith("/") else f"{ctx.workspace.root}/{path}"

    samples = list(rows.groupby("sample_id", sort=False))
    pairs = [
        Pair(g["content_id"].iloc[0], tuple(map(absolute, g["filepath"])), tuple(map(absolute, g["golden_filepath"])))
        for _, g in samples
    ]
    folders = dict(zip((name for name, _ in samples), registered.place(ctx, pairs)[0], strict=True))
    files = [f"{folders[s]}/{Path(p).name}" for s, p in zip(rows["sample_id"], rows["golden_filepath"], strict=True)]
    return rows.assign(golden_filepath=files)
