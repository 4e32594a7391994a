"""What happens once, after approval and before the baseline: the staging of synthetic pairs and pool."""

from __future__ import annotations

from pathlib import Path

from deft_aoi.analysis.identity import ContentIndex
from deft_aoi.contract import spec as specs
from deft_aoi.contract.files import digest_json, sha256_file
from deft_aoi.loop.context import RunContext, StageResult
from deft_aoi.loop.stages.embedding import encoder_for
from deft_aoi.mining import pool, pregen_scan, pregen_staging
from deft_aoi.record import publish
from deft_aoi.record.publish import publish_digest


def prestage(ctx: RunContext, _label: str, _attempt: int) -> StageResult:
    """Stage the synthetic pairs and build the first pool."""
    final = ctx.run.synth_pool
    lights, ext = specs.lights(ctx.spec), specs.image_ext(ctx.spec)
    found = pregen_scan.scan(ctx.workspace, lights, ext)
    inputs = digest_json([ctx.plan["digest"], sha256_file(ctx.workspace.pool_csv), found.counts_by_type])
    if publish.adopt(final, inputs_digest=inputs) is None:
        out = Path(publish.attempt_dir(final, inputs_digest=inputs))
        # A pair feature has no identity before the baseline is trained; every mined row names it then.
        encoder = None if ctx.config.encoder == "pair_feature" else encoder_for(ctx, "iter1").identity.as_dict()
        staged = pregen_staging.stage(found, out, workspace=ctx.workspace, final_dir=final, encoder=encoder)
        index = ContentIndex(ctx.digest_cache)
        built = pool.build(ctx.workspace, lights, ext, index=index, out_dir=out, sdg_rows=staged.rows, synth_now=out)
        # Here rather than before the first mining: a damaged image is found while somebody looks, not after the training.
        pool.identify(built, ctx.workspace, index=index, out_dir=out, synth_now=out, held_out=ctx.held_out)
        publish.publish(out, final, inputs_digest=inputs)
    built = pool.load(final / pool.CSV, lights, ext)
    state = {"pool": built.counts, "pairs": len(found.pairs)}
    evidence = {"manifest": publish_digest(final), "pairs_by_type": dict(list(found.counts_by_type.items())[:20])}
    return StageResult(
        f"{len(found.pairs)} synthetic pairs staged; pool of {built.counts['real']} real and {built.counts['sdg']} synthetic "
        "rows",
        state,
        evidence,
    )
