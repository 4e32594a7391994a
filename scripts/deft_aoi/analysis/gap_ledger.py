"""The gap ledger: for each weak sample, what was mined for it and how its margin moved one iteration later."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from deft_aoi.analysis.scored import check_scored, sample_ids, weakness

if TYPE_CHECKING:
    import pandas as pd

LEDGER_COLUMNS = (
    "iteration",
    "sample_id",
    "label",
    "weakness_before",
    "mined_rows",
    "mined_real",
    "mined_sdg",
    "best_similarity",
    "weakness_after",
    "margin_gain",
    "outcome",
)
OUTCOMES = ("closed", "improved", "unchanged_or_worse")


def gap_ledger(
    gaps: pd.DataFrame,
    mined_pairs: pd.DataFrame,
    scored_after: pd.DataFrame,
    threshold_after: float,
    *,
    iteration: int,
    band: tuple[float, float],
) -> pd.DataFrame:
    """What an iteration did for the gaps it set out to close.

    Args:
        gaps: ``kpi_gaps`` of the model before (a row for each sample x light).
        mined_pairs: ``mined_pairs`` of the iteration: ``target_sample_id`` or ``target_filepath``, ``source_filepath``,
            ``similarity``, ``provenance`` and ``decision`` (pairs whose decision is ``kept`` count).
        scored_after: the KPI set, scored by the model after.
        threshold_after: that model's operating point.
        iteration: the iteration, from 1.
        band: lowest and highest marginal score around that operating point (:func:`deft_aoi.analysis.gaps.margin_band`).

    Returns:
        One row for each weak sample, weakest first (:data:`LEDGER_COLUMNS`). ``margin_gain`` is weakness before minus
        after, positive = better. ``outcome``: ``closed`` (right side and outside the band), ``improved``, or
        ``unchanged_or_worse``. A sample that is not in ``scored_after`` has no row.
    """
    import pandas as pd

    samples = gaps.drop_duplicates("sample_id").sort_values("weakness", ascending=False, kind="stable")
    scored = check_scored(scored_after)
    clear = np.where(scored.defect, scored.scores >= band[1], scored.scores <= band[0])
    state = pd.DataFrame({"weakness": weakness(scored, threshold_after), "clear": clear}, index=sample_ids(scored_after))
    state = state[~state.index.duplicated()]
    after, clear_of = state["weakness"].to_dict(), state["clear"].to_dict()
    samples = samples[samples["sample_id"].isin(list(after))]
    mined = _mined(gaps, mined_pairs)
    rows = []
    for sample, label, before in zip(samples["sample_id"], samples["label"], samples["weakness"], strict=True):
        now, pairs = float(after[sample]), mined.get(sample)
        rows.append(
            {
                "iteration": iteration,
                "sample_id": sample,
                "label": label,
                "weakness_before": float(before),
                "mined_rows": 0 if pairs is None else len(pairs),
                "mined_real": 0 if pairs is None else int((pairs["provenance"] == "real").sum()),
                "mined_sdg": 0 if pairs is None else int((pairs["provenance"] == "sdg").sum()),
                "best_similarity": float("nan") if pairs is None else float(pairs["similarity"].astype(float).max()),
                "weakness_after": now,
                "margin_gain": float(before) - now,
                "outcome": OUTCOMES[0] if clear_of[sample] else OUTCOMES[1] if now < before else OUTCOMES[2],
            }
        )
    return pd.DataFrame(rows, columns=list(LEDGER_COLUMNS))


def _mined(gaps: pd.DataFrame, pairs: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Kept pairs by target sample, each source once."""
    if pairs.empty:
        return {}
    kept = pairs[pairs["decision"] == "kept"] if "decision" in pairs.columns else pairs
    if "target_sample_id" in kept.columns:
        target = kept["target_sample_id"]
    else:
        target = kept["target_filepath"].map(dict(zip(gaps["filepath"], gaps["sample_id"], strict=True)))
    kept = kept.assign(_target=target).dropna(subset=["_target"])
    once = kept.sort_values("similarity", ascending=False, kind="stable").drop_duplicates(["_target", "source_filepath"])
    return {str(name): part for name, part in once.groupby("_target")}
