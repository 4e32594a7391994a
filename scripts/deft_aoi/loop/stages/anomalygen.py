"""``anomalygen`` in this edition: the staged synthetic pairs are checked and read, nothing is generated."""

from __future__ import annotations

from pathlib import Path

from deft_aoi.contract.files import digest_json, sha256_file
from deft_aoi.contract.schema import write_checked
from deft_aoi.loop.context import RunContext, StageResult
from deft_aoi.mining import pregen_staging
from deft_aoi.record import publish
from deft_aoi.record.publish import publish_digest


def ingest(ctx: RunContext, label: str, _attempt: int) -> StageResult:
    """Verify that neither the staged pairs nor the customer's folder changed since staging.

    Raises:
        HardStop: a pair changed, vanished or appeared during the run.
    """
    final = ctx.run.stage_dir(label, "anomalygen")
    manifest = ctx.run.synth_pool / pregen_staging.MANIFEST
    inputs = digest_json([label, sha256_file(manifest)])
    checked = pregen_staging.check_unchanged(ctx.workspace, ctx.run.synth_pool)
    if publish.adopt(final, inputs_digest=inputs) is None:
        out = Path(publish.attempt_dir(final, inputs_digest=inputs))
        write_checked(out / "ingest_summary.json", checked, "ingest_summary")
        publish.publish(out, final, inputs_digest=inputs)
    staged = pregen_staging.load_staged(ctx.run.synth_pool)
    counts = staged.manifest["counts_by_type"]
    return StageResult(
        f"{label}: {staged.manifest['pairs']} staged pairs unchanged",
        {"sdg_pairs": staged.manifest["pairs"]},
        {"manifest": publish_digest(final), "pairs_by_type": dict(list(counts.items())[:20])},
    )
