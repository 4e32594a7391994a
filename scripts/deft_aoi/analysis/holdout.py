"""How a threshold chosen on the KPI set does on rows that did not choose it.

The honest answer is a hold-out set (:func:`deft_aoi.analysis.kpi.apply_threshold`). Without one, each fold of boards is
judged at the threshold that the other folds choose; the spread says how much one board decides.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from deft_aoi.analysis.constants import SPLIT_FOLDS
from deft_aoi.analysis.operating_point import defects_needed, midpoint
from deft_aoi.analysis.scored import Scored

SEED = 20_260_101


def split_estimate(s: Scored, recall_fraction: float, folds: int = SPLIT_FOLDS) -> dict[str, Any] | None:
    """Cross-validated FAR and recall of the rule "the threshold that gives this recall".

    Args:
        s: the scored set.
        recall_fraction: recall at which each threshold is chosen.
        folds: folds; boards (``boardname``), where the column has at least ``folds`` values, stay together.

    Returns:
        ``kind`` (``split_by_board`` or ``split_by_row``), FAR and recall over all rows out of fold, their range over the
        folds and the range of thresholds; ``None`` when a class is too small to split.
    """
    fold, kind = _folds(s, folds)
    cell = 2 * fold + s.defect.view(np.uint8)
    order = np.argsort(cell, kind="stable")  # one counting sort, then folds are slices
    parts = np.split(s.scores[order], np.cumsum(np.bincount(cell, minlength=2 * folds))[:-1])
    good, bad = parts[0::2], parts[1::2]
    below: dict[tuple[int, float], float] = {}  # most folds leave the same limit: one look at each fold's good parts

    def highest_below(fold: int, limit: float) -> float:
        if (fold, limit) not in below:
            scores = good[fold]
            below[fold, limit] = float(np.where(scores < limit, scores, -np.inf).max(initial=-np.inf))
        return below[fold, limit]

    per_fold = []
    for k in range(folds):
        others = [j for j in range(folds) if j != k]
        outside = np.concatenate([bad[j] for j in others])
        if not len(outside) or not len(good[k]) or not len(bad[k]):
            continue
        place = len(outside) - defects_needed(recall_fraction, len(outside))
        limit = float(np.partition(outside, place)[place])
        low = max(highest_below(j, limit) for j in others)
        threshold = midpoint(low, float(outside[outside > low].min()))[0]
        flagged = [int((scores > threshold).sum()) for scores in (good[k], bad[k])]
        per_fold.append((threshold, flagged[0], len(good[k]), flagged[1], len(bad[k])))
    if len(per_fold) < 2:
        return None
    thresholds, fp, n_pass, tp, n_defect = (np.array(c) for c in zip(*per_fold, strict=True))
    far, recall = fp / n_pass, tp / n_defect
    return {
        "kind": kind,
        "folds": len(per_fold),
        "far_fraction": float(fp.sum() / n_pass.sum()),
        "far_min_fraction": float(far.min()),
        "far_max_fraction": float(far.max()),
        "recall_fraction": float(tp.sum() / n_defect.sum()),
        "recall_min_fraction": float(recall.min()),
        "recall_max_fraction": float(recall.max()),
        "threshold_min": float(thresholds.min()),
        "threshold_max": float(thresholds.max()),
    }


def _folds(s: Scored, folds: int) -> tuple[npt.NDArray[np.uint8], str]:
    """A fold for each row, shuffled, the same on every machine."""
    boards = s.groups("boardname")
    rng = np.random.default_rng(SEED)
    if boards is None or len(boards[1]) < folds:
        return (rng.permutation(len(s)) % folds).astype(np.uint8), "split_by_row"
    return (rng.permutation(len(boards[1])) % folds).astype(np.uint8)[boards[0]], "split_by_board"
