"""Mining the one pool of real and synthetic rows for the neighbours of the weak samples."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from deft_aoi.analysis.gaps import read_gaps
from deft_aoi.analysis.identity import ContentIndex
from deft_aoi.contract import spec as specs
from deft_aoi.contract.changenet_csv import read_changenet_csv
from deft_aoi.contract.files import atomic_write_bytes, digest_json, digests_below, sha256_file
from deft_aoi.contract.stages import POOL_FILES
from deft_aoi.loop.context import RunContext, StageResult
from deft_aoi.loop.stages import hard_rows
from deft_aoi.loop.stages.dataset import previous_training
from deft_aoi.loop.stages.embedding import embed, encoder_for
from deft_aoi.mining import outputs, pool, pregen_staging, select
from deft_aoi.mining.settings import MiningConfig
from deft_aoi.mining.store import EmbeddingStore
from deft_aoi.record import provenance, publish
from deft_aoi.record.publish import publish_digest

if TYPE_CHECKING:
    import pandas as pd


def mine(ctx: RunContext, label: str, attempt: int) -> StageResult:
    """Refresh the pool, embed what is new, search, judge every row, publish ``mining_filter/``."""
    lights, ext = specs.lights(ctx.spec), specs.image_ext(ctx.spec)
    final = ctx.run.stage_dir(label, "data_mining")
    targets_file = ctx.path(ctx.iteration(label)["routing_dir"]) / "mining_gaps.parquet"
    encoder = encoder_for(ctx, label)
    config = MiningConfig(
        top_k=ctx.config.top_k_per_target,
        metric=ctx.config.metric,
        min_similarity=ctx.config.min_similarity,
        search_eligible=True,
    )
    training = previous_training(ctx, label)
    inputs = digest_json(
        [
            sha256_file(targets_file),
            sha256_file(ctx.workspace.pool_csv),
            encoder.identity.digest,
            config.as_dict(),
            sorted(training.ids["content_id"].unique()),
            *hard_rows.inputs_of(ctx),
        ]
    )
    if publish.adopt(final, inputs_digest=inputs) is None:
        out = Path(publish.attempt_dir(final, inputs_digest=inputs))
        built = refresh_pool(ctx, out)
        targets = _targets(ctx, targets_file)
        store = EmbeddingStore(ctx.embedding_cache, encoder.identity)
        decoded = embed(ctx, label, attempt, encoder, store, pool.per_light(built.frame, lights, ext), out, "pool")
        embed(ctx, label, attempt, encoder, store, targets, out, "targets")
        samples = targets.drop_duplicates("sample_id").reset_index(drop=True)
        embedded = store.matrix(samples["content_id"].tolist())
        if hard_rows.proposers(ctx) == "hard":
            samples, embedded = samples.iloc[:0], embedded[:0]
        exclusions = select.Exclusions(
            training_ids=frozenset(training.ids.loc[~training.ids["featureless"], "content_id"]),
            training_keys=frozenset(pool.row_keys(training.frame)),
            leaks=pool.leaking_contents(built.frame),
        )
        mined = select.select(
            samples,
            embedded,
            select.with_filepath(built.frame, lights[0], ext),
            store,
            config=config,
            encoder=f"{encoder.identity.name}:{encoder.identity.digest[:12]}",
            exclusions=exclusions,
            previous_kept=_previous_kept(ctx, label),
        )
        outputs.write_outputs(mined, out)
        if hard_rows.proposers(ctx) != "knn":
            further = hard_rows.propose(
                ctx,
                label,
                attempt,
                out,
                frame=built.frame,
                training=training,
                encoder=encoder,
                exclusions=exclusions,
                taken=frozenset(mined.kept["content_id"]),
            )
            outputs.add_rows(mined, further, out)
        log = out / "pool_embed.log"
        if log.exists():
            atomic_write_bytes(ctx.run.synth_pool / "source_embed.log", log.read_bytes())
        for name in ("pool_input.parquet", "targets_input.parquet", "pool_embeddings.parquet", "targets_embeddings.parquet"):
            (out / name).unlink(missing_ok=True)  # the store has them, and they name the attempt's folder or nothing new
        _keep_pool_embeddings(ctx, built, store)
        extra = {
            "decoded": decoded,
            "warnings": [*pool.near_warning(built.frame), *mined.warnings],
            "mining_config": config.as_dict(),
            "rejected": {reason: count for reason, count in mined.rejected.items() if count},
            "leaks": mined.leaks,
            "pool_leaks": {name: len(rows) for name, rows in mined.pool_leaks.items()},
        }
        publish.publish(out, final, inputs_digest=inputs, extra=extra)
    return _outcome(ctx, label, final, encoder.identity.name, encoder.identity.digest)


def refresh_pool(ctx: RunContext, out: Path) -> pool.Pool:
    """The pool as it is now: its old rows must still be there, new ones join.

    Today's table replaces ``synth_pool/source_pool.*``, which the next refresh is compared with.
    """
    staged = pregen_staging.load_staged(ctx.run.synth_pool)
    previous = ctx.run.synth_pool / pool.CSV
    lights, ext, index = specs.lights(ctx.spec), specs.image_ext(ctx.spec), ContentIndex(ctx.digest_cache)
    built = pool.build(ctx.workspace, lights, ext, index=index, out_dir=out, sdg_rows=staged.rows)
    built = pool.identify(built, ctx.workspace, index=index, out_dir=out, previous=previous, held_out=ctx.held_out)
    for name in (pool.CSV, pool.PARQUET):
        data = (out / name).read_bytes()
        if (ctx.run.synth_pool / name).read_bytes() != data:
            atomic_write_bytes(ctx.run.synth_pool / name, data)
        (out / name).unlink()
    return built


def _targets(ctx: RunContext, file: Path) -> pd.DataFrame:
    """One row a weak sample and light, with workspace-relative paths and the sample's content identity."""
    found = read_gaps(file)
    ids = ctx.identities["kpi"]["content_id"].to_numpy()
    root = f"{ctx.workspace.root}/"
    paths = {c: [p.removeprefix(root) for p in found[c].astype(str)] for c in ("filepath", "golden_path")}
    return found.assign(**paths, golden_filepath=paths["golden_path"], content_id=ids[found["row"].to_numpy()])


def _previous_kept(ctx: RunContext, label: str) -> int | None:
    before = ctx.previous(label)
    return None if before == "baseline" else int(ctx.iteration(before).get("mined_rows", 0))


def _keep_pool_embeddings(ctx: RunContext, built: pool.Pool, store: EmbeddingStore) -> None:
    """``synth_pool/source_embeddings.parquet``: the pool as it was mined.

    Left alone where it is the file on record and says the same already: this stage's event will vouch for it.
    """
    import pandas as pd

    target = ctx.run.synth_pool / "source_embeddings.parquet"
    ids = list(dict.fromkeys(built.frame["content_id"]))
    known = provenance.digests(ctx.run, ctx.events()).get(ctx.run.rel(target))
    kept = known is not None and provenance.is_on_record(target, known)
    if not kept or _kept_embeddings(target) != (ids, {store.encoder.digest}):
        table = pd.DataFrame({"content_id": ids, "encoder": store.encoder.digest, "embedding": list(store.matrix(ids))})
        pool.write_parquet(table, target)


def _kept_embeddings(path: Path) -> tuple[list[str], set[str]] | None:
    """Contents and encoders of the table at ``path``; ``None`` where there is none that can be read."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path, columns=["content_id", "encoder"])
    except (OSError, KeyError, ValueError, pa.ArrowException):
        return None
    return table.column("content_id").to_pylist(), set(table.column("encoder").to_pylist())


def _outcome(ctx: RunContext, label: str, final: Path, encoder: str, digest: str) -> StageResult:
    import csv

    from deft_aoi.contract.manifests import read_manifest

    with (final / "knn_summary.csv").open(encoding="utf-8", newline="") as handle:
        row = next(csv.DictReader(handle))
    found = hard_rows.counts(final)
    kept_count = int(row["kept_count"]) + (int(found["kept_count"]) if found else 0)
    real = defects = sdg = 0
    if kept_count:
        kept = read_changenet_csv(final / "mining_pool.csv", what="mined rows")
        is_real = kept["provenance"] == "real"
        real, sdg = int(is_real.sum()), int((~is_real).sum())
        defects = int((is_real & (kept["label"] != "PASS")).sum())
    extra = read_manifest(final)["extra"]
    for warning in extra.get("warnings", []):
        ctx.say(f"warning: {warning}")
    state = {
        "mined_rows": kept_count,
        "mined_real": real,
        "mined_real_defects": defects,
        "mined_sdg": sdg,
        "encoder": f"{encoder}:{digest[:12]}",
    }
    evidence = {
        "manifest": publish_digest(final),
        "candidates": int(row["candidate_count"]),
        "rejected": int(row["rejected_count"]),
        "similarity_threshold": row["similarity_threshold"],
        "mining_config": extra.get("mining_config", {}),
        "rejected_by_reason": extra.get("rejected", {}),
        "leaks": extra.get("leaks", {}),
        "pool_leaks": extra.get("pool_leaks", {}),
        "decoded": extra.get("decoded", 0),
        "warnings": [w[:200] for w in extra.get("warnings", [])][:5],
        "files": digests_below(ctx.run.root, POOL_FILES),
    }
    said = f"{row['kept_count']} of {row['candidate_count']} candidates kept"
    if found:
        evidence["hard_rows"] = found
        state |= {"mined_hard": int(found["kept_count"]), "label_in_doubt": int(found["rejected_label_in_doubt"])}
        said += f", {found['kept_count']} hard rows ({found['rejected_label_in_doubt']} left out: the label is in doubt)"
    return StageResult(
        f"{label}: {said} ({real} real, {defects} of them defects; {sdg} synthetic)",
        state,
        evidence,
    )
