"""Root-cause analysis: which KPI rows are on the wrong side or nearly so, and how wide the gap is."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deft_aoi.analysis import gaps, gaps_output
from deft_aoi.analysis.gaps import read_gaps
from deft_aoi.contract import spec as specs
from deft_aoi.contract.files import digest_json, sha256_file
from deft_aoi.contract.paths import RunPaths
from deft_aoi.loop.context import RunContext, StageResult
from deft_aoi.loop.stages import ledger
from deft_aoi.loop.stages.inference import scored_frame
from deft_aoi.loop.stages.train import training_spec
from deft_aoi.record import publish
from deft_aoi.record.publish import publish_digest

if TYPE_CHECKING:
    pass


def rca(ctx: RunContext, label: str, _attempt: int) -> StageResult:
    """Find the weakest rows of the chosen scoring; the next iteration mines for them, and nothing decides twice."""
    it, kpi = ctx.iteration(label), ctx.splits["kpi"]
    final = ctx.run.stage_dir(label, "rca")
    excluded = excluded_samples(ctx.run)
    inputs = digest_json(
        [sha256_file(ctx.path(it["inference_csv"])), it["threshold"], ctx.config.top_k_per_label, sorted(excluded)]
    )
    # The folder's name is the evaluation's time, so that a repeated RCA writes the same tree.
    stamp = _stamp(ctx, label)
    if publish.adopt(final, inputs_digest=inputs) is None:
        out = Path(publish.attempt_dir(final, inputs_digest=inputs))
        folder = out / stamp
        folder.mkdir(exist_ok=True)
        spec = training_spec(ctx, label)
        frame = scored_frame(ctx, ctx.path(it["inference_csv"]), "kpi")
        module = str(specs.get(spec, "model.classify.difference_module") or "euclidean")
        margin = float(specs.get(spec, "model.classify.eval_margin") or 2.0)
        common = {"top_k_per_label": ctx.config.top_k_per_label, "excluded": excluded}
        found = gaps.find_gaps(frame, it["threshold"], layout=kpi.layout, difference_module=module, eval_margin=margin, **common)
        gaps_output.write_outputs(
            found,
            frame,
            it["threshold"],
            folder,
            band=gaps.margin_band(it["threshold"], module, margin),
            recall_fraction=ctx.config.target.recall_fraction,
            **common,
        )
        publish.publish(out, final, inputs_digest=inputs)
    found = read_gaps(final / stamp / "kpi_gaps.parquet")
    by_label = {str(k): int(v) for k, v in found.drop_duplicates("sample_id")["label"].value_counts().items()}
    wrong = int((found.drop_duplicates("sample_id")["weakness"] > 0).sum())
    folder = final / stamp
    state = {"rca_dir": ctx.run.rel(folder), "weak_samples": sum(by_label.values())}
    evidence: dict[str, Any] = {
        "manifest": publish_digest(final),
        "by_label": dict(list(by_label.items())[:20]),
        "wrong_side": wrong,
    }
    if label != "baseline":
        evidence |= {"ledger_rows": ledger.write(ctx), "files": ledger.digests(ctx)}
    return StageResult(f"{label}: {sum(by_label.values())} weak samples, {wrong} of them on the wrong side", state, evidence)


def _stamp(ctx: RunContext, label: str) -> str:
    event = next(e for e in reversed(ctx.events()) if e["iter"] == label and e["stage"] == "evaluate" and e["status"] == "ok")
    return datetime.fromisoformat(event["ts"].replace("Z", "+00:00")).strftime("%Y%m%d_%H%M%S")


def excluded_samples(run: RunPaths) -> set[str]:
    """Samples that a person or the agent called mislabeled or bad data: they ask for no neighbours."""
    from deft_aoi.analysis import spot_check

    return set(spot_check.excluded_ids(run.run / "spot_check.json"))
