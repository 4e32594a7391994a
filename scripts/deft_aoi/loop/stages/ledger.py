"""The gap ledger of the run, and the list of data to collect: views of what the iterations left, written again at will."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deft_aoi.analysis import data_requests, gap_ledger, gaps
from deft_aoi.contract import spec as specs
from deft_aoi.contract.files import atomic_write_bytes, digests_below
from deft_aoi.contract.schema import write_checked
from deft_aoi.contract.stages import LEDGER_FILES
from deft_aoi.loop.context import RunContext
from deft_aoi.loop.stages.inference import scored_frame
from deft_aoi.loop.stages.train import training_spec

if TYPE_CHECKING:
    import pandas as pd

LEDGER, REQUESTS = LEDGER_FILES
_PAIRS = ["target_filepath", "source_filepath", "similarity", "provenance", "decision"]


def write(ctx: RunContext) -> int:
    """Write ``run/gap_ledger.parquet`` over all evaluated iterations and ``run/data_requests.json``.

    Both are pure functions of published files, so a killed write is simply done again; what the ledger says already is not
    believed.

    Returns:
        Rows of the ledger.
    """
    import pandas as pd

    iterations = ctx.state().get("iterations", {})
    closed = [
        label for label, it in iterations.items() if label != "baseline" and it.get("inference_csv") and it.get("routing_dir")
    ]
    path = ctx.run.root / LEDGER
    parts = [_of(ctx, label, iterations[label]) for label in closed]
    table = pd.concat(parts, ignore_index=True) if parts else None
    if table is not None:
        buffer = io.BytesIO()
        table.to_parquet(buffer, index=False)
        atomic_write_bytes(path, buffer.getvalue())
    _write_requests(ctx, iterations, table)
    return 0 if table is None else len(table)


def digests(ctx: RunContext) -> dict[str, str]:
    """Path → digest of what :func:`write` has just written: the event of the stage that called it vouches for them."""
    return digests_below(ctx.run.root, LEDGER_FILES)


def _of(ctx: RunContext, label: str, it: dict[str, Any]) -> pd.DataFrame:
    spec = training_spec(ctx, label)
    band = gaps.margin_band(
        it["threshold"],
        str(specs.get(spec, "model.classify.difference_module") or "euclidean"),
        float(specs.get(spec, "model.classify.eval_margin") or 2.0),
    )
    return gap_ledger.gap_ledger(
        _read(ctx.path(it["routing_dir"]) / "mining_gaps.parquet"),
        _pairs(ctx, label),
        scored_frame(ctx, ctx.path(it["inference_csv"]), "kpi"),
        it["threshold"],
        iteration=int(label.removeprefix("iter")),
        band=band,
    )


def _write_requests(ctx: RunContext, iterations: dict[str, Any], table: pd.DataFrame | None) -> None:
    """What is open now: the newest gaps, the targets for which the newest mining found nothing, and what stayed open."""
    with_gaps = [it["rca_dir"] for it in iterations.values() if it.get("rca_dir")]
    mined = [label for label, it in iterations.items() if it.get("mined_rows") is not None]
    if not with_gaps or not mined:
        return
    asked = _read(ctx.path(iterations[mined[-1]]["routing_dir"]) / "mining_gaps.parquet")
    pairs = _pairs(ctx, mined[-1])
    answered = set(pairs.loc[pairs["decision"] == "kept", "target_filepath"])
    unanswered = sorted(set(asked["sample_id"]) - set(asked.loc[asked["filepath"].isin(answered), "sample_id"]))
    found = data_requests.build(_read(ctx.path(with_gaps[-1]) / "kpi_gaps.parquet"), unanswered, table, ctx.splits["kpi"].frame)
    write_checked(ctx.run.root / REQUESTS, found, "open_gaps")


def _pairs(ctx: RunContext, label: str) -> pd.DataFrame:
    import pandas as pd

    pairs = pd.read_parquet(ctx.run.stage_dir(label, "data_mining") / "mined_pairs.parquet", columns=_PAIRS)
    # Gaps name their images absolutely, mined pairs relative to the workspace.
    pairs["target_filepath"] = [p if p.startswith("/") else f"{ctx.workspace.root}/{p}" for p in pairs["target_filepath"]]
    return pairs


def _read(path: Path) -> pd.DataFrame:
    from deft_aoi.analysis.gaps import read_gaps

    return read_gaps(path)
