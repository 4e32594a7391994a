"""How a threshold chosen on the KPI set does on rows that did not choose it.

The honest answer is a hold-out set (:func:`deft_aoi.analysis.kpi.apply_threshold`). Without one, each fold of boards is
judged at the threshold that the other folds choose; the spread says how much one board decides.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
import numpy.typing as npt

from deft_aoi.analysis.constants import SPLIT_FOLDS
from deft_aoi.analysis.operating_point import LOW_END, Floats, Sweep, ThresholdRule, defects_needed
from deft_aoi.analysis.scored import ScoredSet

SEED = 20_260_101

NEAR = 1000
"""Good parts looked at below the lowest limit before all of them are."""


def split_estimate(
    s: ScoredSet, sweep: Sweep, recall_fraction: float, rule: ThresholdRule = LOW_END, folds: int = SPLIT_FOLDS
) -> dict[str, Any] | None:
    """Cross-validated FAR and recall of the rule "the threshold that gives this recall".

    Args:
        s: the distinct contents of the scored set.
        sweep: its sweep.
        recall_fraction: recall at which each threshold is chosen.
        rule: which threshold of the interval.
        folds: folds; boards (``boardname``), where the column has at least ``folds`` values, stay together.

    Returns:
        ``kind`` (``split_by_board``, ``split_by_content`` or ``split_by_row``), counts, FAR and recall over all
        out of fold, their range over the folds and the range of thresholds; ``None`` when a class is too small to split.
    """
    fold, kind = _folds(s, folds)
    fold_of_bad = fold[s.defects_ascending]
    good = [s.scores[(fold == k) & ~s.defect] for k in range(folds)]
    outside = [sweep.bad[fold_of_bad != k] for k in range(folds)]
    judged = [k for k in range(folds) if len(good[k]) and 0 < len(outside[k]) < sweep.n_defect]
    limits = {k: float(outside[k][len(outside[k]) - defects_needed(recall_fraction, len(outside[k]))]) for k in judged}
    near = _just_below(limits.values(), good, sweep)
    per_fold = []
    for k, limit in limits.items():
        low = _highest_below(limit, near[:k] + near[k + 1 :])
        if low == -np.inf:  # all good parts there are of this fold
            low = _highest_below(limit, good[:k] + good[k + 1 :])
        others = Sweep(np.sort(np.concatenate(good[:k] + good[k + 1 :])), outside[k]) if rule.name == "tail" else sweep
        threshold = rule.threshold(others, low, float(outside[k][np.searchsorted(outside[k], low, side="right")]))[0]
        flagged = [int((scores > threshold).sum()) for scores in (good[k], sweep.bad[fold_of_bad == k])]
        per_fold.append((threshold, flagged[0], len(good[k]), flagged[1], sweep.n_defect - len(outside[k])))
    if len(per_fold) < 2:
        return None
    thresholds, fp, n_pass, tp, n_defect = (np.array(c) for c in zip(*per_fold, strict=True))
    far, recall = fp / n_pass, tp / n_defect
    return {
        "kind": kind,
        "folds": len(per_fold),
        "fp": int(fp.sum()),
        "tn": int(n_pass.sum() - fp.sum()),
        "tp": int(tp.sum()),
        "fn": int(n_defect.sum() - tp.sum()),
        "far_fraction": float(fp.sum() / n_pass.sum()),
        "far_min_fraction": float(far.min()),
        "far_max_fraction": float(far.max()),
        "recall_fraction": float(tp.sum() / n_defect.sum()),
        "recall_min_fraction": float(recall.min()),
        "recall_max_fraction": float(recall.max()),
        "threshold_min": float(thresholds.min()),
        "threshold_max": float(thresholds.max()),
    }


def _just_below(limits: Collection[float], good: list[Floats], sweep: Sweep) -> list[Floats]:
    """Each fold's good parts from a little below the lowest limit to the highest: few, and nearly always enough."""
    if not limits:
        return good
    start = sweep.good[max(0, int(np.searchsorted(sweep.good, min(limits))) - NEAR)]
    return [scores[(scores >= start) & (scores < max(limits))] for scores in good]


def _highest_below(limit: float, parts: list[Floats]) -> float:
    """The highest score below a limit in any of the parts; ``-inf`` when there is none."""
    return max(float(scores[scores < limit].max(initial=-np.inf)) for scores in parts)


def _folds(s: ScoredSet, folds: int) -> tuple[npt.NDArray[np.uint8], str]:
    """A fold for each row, shuffled, the same on every machine."""
    boards = s.groups("boardname")
    rng = np.random.default_rng(SEED)
    if boards is None or len(boards[1]) < folds:
        return (rng.permutation(len(s)) % folds).astype(np.uint8), "split_by_row" if s.content is None else "split_by_content"
    return (rng.permutation(len(boards[1])) % folds).astype(np.uint8)[boards[0]], "split_by_board"
