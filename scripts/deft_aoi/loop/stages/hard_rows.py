"""Scoring the pool with the best model so far, and the hard rows that this proposes to mining."""

from __future__ import annotations

import io
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deft_aoi.analysis import spot_check
from deft_aoi.analysis.score_table import attach_scores, read_scores
from deft_aoi.contract import spec as specs
from deft_aoi.contract.changenet_csv import MANDATORY, csv_text
from deft_aoi.contract.errors import HardStop
from deft_aoi.contract.files import atomic_write_bytes, atomic_write_text, digest_json, sha256_file
from deft_aoi.loop import specs as derive
from deft_aoi.loop.context import RunContext
from deft_aoi.loop.launch import Job, run_job, write_spec
from deft_aoi.loop.registered import Rows, derive_rows, restore_goldens
from deft_aoi.loop.stages.embedding import Encoder, difference_encoder, embed
from deft_aoi.loop.stages.train import best_iteration, training_spec
from deft_aoi.mining import hard
from deft_aoi.mining import pool as pools
from deft_aoi.mining.distinct import Exclusions
from deft_aoi.mining.store import EmbeddingStore

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from deft_aoi.analysis.identity import Part

SUMMARY, LOOKED_AT, LEFT_OUT, SCORED = "hard_summary.csv", "hard_rows.csv", spot_check.LEFT_OUT, "pool_scores"


def proposers(ctx: RunContext) -> str:
    """``knn``, ``hard`` or ``both``; a plan from before there was a choice has ``knn``."""
    return str(ctx.config.values.get("mining", "knn"))


def best_model(ctx: RunContext) -> dict[str, Any]:
    """The best iteration so far, its checkpoint verified.

    Raises:
        HardStop: the checkpoint is not the one on record.
    """
    best = best_iteration(ctx.state())
    assert best is not None  # mining comes after an evaluated baseline
    if sha256_file(ctx.path(best["best_ckpt_path"])) != best["best_ckpt_sha256"]:
        raise HardStop(
            "the checkpoint that scores the pool is not the one on record",
            expected=f"sha256 {best['best_ckpt_sha256'][:16]}",
            found=str(best["best_ckpt_path"]),
            hint="restore it; verify_run.py tells what else does not hold",
        )
    return best


def inputs_of(ctx: RunContext) -> list[Any]:
    """What the hard rows hang on, beside what the k-NN hangs on; empty for ``knn``."""
    if proposers(ctx) == "knn":
        return []
    return [proposers(ctx), ctx.config.hard_rows, best_model(ctx)["best_ckpt_sha256"], sorted(_verdicts(ctx).items())]


def propose(
    ctx: RunContext,
    label: str,
    attempt: int,
    out: Path,
    *,
    frame: pd.DataFrame,
    training: Part,
    encoder: Encoder,
    exclusions: Exclusions,
    taken: frozenset[str],
) -> pd.DataFrame:
    """Score what is new, choose, and write the files of the hard rows into ``out``.

    Args:
        ctx: the run.
        label: iteration.
        attempt: attempt of the stage.
        out: the attempt's folder.
        frame: the identified pool.
        training: what the iteration starts from.
        encoder: of the k-NN; the guard against wrong labels compares its embeddings where it looks at pairs, else the
            difference image: by the test image alone a defect's neighbours are good parts of the same kind.
        exclusions: as for the k-NN.
        taken: contents that the k-NN has kept.

    Returns:
        The kept rows, as ``mining_pool.csv`` takes them.
    """
    import numpy as np
    import pandas as pd

    lights, ext = specs.lights(ctx.spec), specs.image_ext(ctx.spec)
    best = best_model(ctx)
    real = frame[frame["provenance"] == "real"]
    known = _score(ctx, label, attempt, out, real, best)
    base = training.frame.assign(
        sample_id=[f"training-{i}" for i in range(len(training.frame))],
        provenance="real",
        content_id=training.ids["content_id"].to_numpy(),
    )
    guard = encoder if encoder.pair else difference_encoder(ctx)
    store = EmbeddingStore(ctx.embedding_cache, guard.identity)
    both = pd.concat([real, base], ignore_index=True)
    embed(ctx, label, attempt, guard, store, pools.per_light(both, lights, ext), out, "training")
    (out / "training_input.parquet").unlink(missing_ok=True)
    (out / "training_embeddings.parquet").unlink(missing_ok=True)
    everything = pd.concat([real[["content_id", "label"]], base[["content_id", "label"]]]).drop_duplicates("content_id")
    ids = everything["content_id"].tolist()
    vectors = store.matrix(ids)
    found = hard.select_hard(
        frame,
        np.array([known.get(c, np.nan) for c in frame["content_id"]], dtype=np.float64),
        count=ctx.config.hard_rows,
        contents=(ids, everything["label"].tolist(), vectors if guard.spec["model"] == "difference" else hard.whitened(vectors)),
        exclusions=exclusions,
        taken=taken,
        verdicts=_verdicts(ctx),
    )
    model = f"{best['label']}:{best['best_ckpt_sha256'][:12]}"
    summary = pd.DataFrame([hard.summary_row(found, ctx.config.hard_rows, model)])
    for name, table in ((SUMMARY, summary), (LOOKED_AT, found.looked_at), (LEFT_OUT, found.left_out)):
        atomic_write_text(out / name, csv_text(table.astype(str)))
    return found.kept.assign(
        proposer="hard", encoder=f"score:{model}", model_score=[f"{s:.9g}" for s in found.kept["model_score"]]
    )


def counts(folder: Path) -> dict[str, Any] | None:
    """The row of a published ``hard_summary.csv``; ``None`` where nobody asked for hard rows."""
    import csv

    path = folder / SUMMARY
    if not path.is_file():
        return None
    with path.open(encoding="utf-8", newline="") as handle:
        return next(csv.DictReader(handle))


def _verdicts(ctx: RunContext) -> dict[str, str]:
    return {e["sample_id"]: e["verdict"] for e in spot_check.load(ctx.run.run / spot_check.FILE_NAME)["verdicts"]}


def _score(
    ctx: RunContext, label: str, attempt: int, out: Path, real: pd.DataFrame, best: dict[str, Any]
) -> dict[str, np.float64]:
    """Content → score by the best checkpoint; only contents that it has not scored yet go to a job."""
    import pandas as pd

    trained = training_spec(ctx, best["label"])
    how = ctx.config.preprocessing
    model = {key: value for key, value in trained.items() if key == "model"}
    size = [specs.get(ctx.spec, f"dataset.classify.image_{side}") for side in ("width", "height")]
    key = digest_json([best["best_ckpt_sha256"], model, size, list(specs.lights(ctx.spec)), how.digest if how else ""])
    cache = ctx.workspace.cache_dir / "pool_scores" / f"{key}.parquet"
    known: dict[str, Any] = {}
    if cache.is_file():
        table = pd.read_parquet(cache)
        known = dict(zip(table["content_id"], table["score"], strict=True))
    missing = real[~real["content_id"].isin(list(known))].drop_duplicates("content_id").reset_index(drop=True)
    if missing.empty:
        return known
    csv = ctx.run.run / "specs" / f"{label}-pool.csv"
    csv.parent.mkdir(exist_ok=True)
    atomic_write_text(csv, csv_text(missing[list(MANDATORY)]))
    layout = specs.layout(ctx.spec, ctx.workspace.root)
    given = Rows(csv, ctx.workspace.root, missing[list(MANDATORY)], (csv,))
    rows = derive_rows(ctx, f"{label}-pool", given, layout, missing)
    path = write_spec(ctx, label, "score-pool", derive.inference_spec(trained, csv=rows.csv, images=rows.images))
    folder = out / SCORED
    folder.mkdir(exist_ok=True)
    run_job(
        ctx,
        Job(
            label,
            "data_mining",
            "score",
            attempt,
            "inference",
            path,
            (f"inference.results_dir={folder}", f"inference.checkpoint={ctx.path(best['best_ckpt_path'])}"),
            folder,
            folder,
            out / "score.log",
            rows=len(missing),
            reads=(csv, *rows.files) if rows.csv != csv else (csv,),
        ),
    )
    restore_goldens(folder / "inference.csv", rows)
    scored = attach_scores(missing, read_scores(folder / "inference.csv"))
    known |= dict(zip(scored["content_id"], scored["siamese_score"], strict=True))
    cache.parent.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()
    pd.DataFrame({"content_id": list(known), "score": list(known.values())}).to_parquet(buffer, index=False)
    atomic_write_bytes(cache, buffer.getvalue())
    shutil.rmtree(folder)
    return known
