"""Routing: every gap goes to mining (this edition generates nothing inline)."""

from __future__ import annotations

from pathlib import Path

from deft_aoi.analysis.gaps import read_gaps
from deft_aoi.analysis.metric import best_iteration
from deft_aoi.contract.files import atomic_write_text, digest_json, sha256_file
from deft_aoi.contract.text import shown_label
from deft_aoi.loop.context import RunContext, StageResult
from deft_aoi.loop.stages.rca import excluded_samples
from deft_aoi.mining.pool import write_parquet
from deft_aoi.record import publish
from deft_aoi.record.publish import publish_digest


def routing(ctx: RunContext, label: str, _attempt: int) -> StageResult:
    """Hand the gaps of the best model so far to mining, minus what a spot-check has since called a bad sample.

    A model that was refused asks for nothing: the next training starts from the best one, not from it.
    """
    best = best_iteration(ctx.state())
    assert best is not None  # an iteration starts after an evaluated baseline
    rca_dir = ctx.path(best["rca_dir"])
    source = rca_dir / "kpi_gaps.parquet"
    excluded = excluded_samples(ctx.run)
    final = ctx.run.stage_dir(label, "routing")
    inputs = digest_json([sha256_file(source), sorted(excluded)])
    if publish.adopt(final, inputs_digest=inputs) is None:
        out = Path(publish.attempt_dir(final, inputs_digest=inputs))
        route(source, out / rca_dir.name, excluded)
        publish.publish(out, final, inputs_digest=inputs)
    targets = read_gaps(final / rca_dir.name / "mining_gaps.parquet")
    samples = targets.drop_duplicates("sample_id")
    counts = {str(k): int(v) for k, v in samples["label"].value_counts().items()}
    state = {"routing_dir": ctx.run.rel(final / rca_dir.name), "targets": len(samples)}
    evidence = {"manifest": publish_digest(final), "by_label": dict(list(counts.items())[:20]), "excluded": len(excluded)}
    return StageResult(f"{label}: {len(samples)} weak samples go to mining", state, evidence)


def route(source: Path, out: Path, excluded: set[str] | None = None) -> dict[str, int]:
    """Write ``mining_gaps.parquet``, an empty ``anomalygen_gaps.parquet`` and ``routing_summary.txt``.

    Returns:
        Samples by label.
    """
    found = read_gaps(source)
    kept = found[~found["sample_id"].isin(excluded or set())].reset_index(drop=True)
    out.mkdir(parents=True, exist_ok=True)
    write_parquet(kept, out / "mining_gaps.parquet")
    write_parquet(kept.iloc[0:0], out / "anomalygen_gaps.parquet")
    counts = {str(k): int(v) for k, v in kept.drop_duplicates("sample_id")["label"].value_counts().items()}
    lines = [f"to mining: {sum(counts.values())} samples", "to inline generation: 0 (this edition mines pre-generated pairs)"]
    lines += [f"  {shown_label(name)}: {number}" for name, number in sorted(counts.items())]
    atomic_write_text(out / "routing_summary.txt", "\n".join(lines) + "\n")
    return counts
