"""How a threshold chosen on the KPI set does on rows that did not choose it.

The honest answer is a hold-out set (:func:`deft_aoi.analysis.kpi.apply_threshold`). Without one, each fold of boards is
judged at the threshold that the other folds choose; the spread says how much one board decides.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from deft_aoi.analysis.constants import SPLIT_FOLDS
from deft_aoi.analysis.operating_point import Ints, defects_needed, midpoint
from deft_aoi.analysis.scored import Scored, name_group

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
    groups, kind = _groups(s, folds)
    fold = groups % folds
    per_fold = []
    for k in range(folds):
        inside = fold == k
        outside = ~inside
        bad = s.scores[s.defect & outside]
        good_mask = ~s.defect & inside
        if not len(bad) or not good_mask.any() or not (s.defect & inside).any():
            continue
        threshold = _threshold(bad, s.scores[~s.defect & outside], recall_fraction)
        flagged = s.scores > threshold
        per_fold.append(
            (threshold, int((good_mask & flagged).sum()), int(good_mask.sum()),
             int((s.defect & inside & flagged).sum()), int((s.defect & inside).sum()))
        )  # fmt: skip
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


def _groups(s: Scored, folds: int) -> tuple[Ints, str]:
    """A shuffled group number for each row; the same on every machine."""
    boards = name_group(s.frame, "boardname")
    rng = np.random.default_rng(SEED)
    if boards is None or int(boards.max()) + 1 < folds:
        return rng.permutation(len(s)).astype(np.int64), "split_by_row"
    return rng.permutation(int(boards.max()) + 1)[boards].astype(np.int64), "split_by_board"


def _threshold(bad: Any, good: Any, recall_fraction: float) -> float:
    limit = np.partition(bad, len(bad) - defects_needed(recall_fraction, len(bad)))[
        len(bad) - defects_needed(recall_fraction, len(bad))
    ]
    below = good[good < limit]
    low = float(below.max()) if len(below) else -np.inf
    return midpoint(low, float(bad[bad > low].min()))[0]
