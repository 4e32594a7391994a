"""The rule without training beside a model: comparing pixels, judged over the same distinct contents at the same recalls."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from deft_aoi.analysis.constants import INTERVAL_LEVEL
from deft_aoi.analysis.intervals import mcnemar_exact
from deft_aoi.analysis.operating_point import Floats, OperatingPoint, at_recall, auroc
from deft_aoi.analysis.scored import ScoredSet


@dataclass(frozen=True)
class Untrained:
    """What comparing pixels says of the rows of a set.

    Attributes:
        scores: (N,) grey levels, as ``registration.reference_score`` defines them.
        registered: whether goldens were registered first, as the model's were.
    """

    scores: Floats
    registered: bool


def reference_row(scored: ScoredSet, untrained: Untrained, points: Mapping[float, OperatingPoint]) -> dict[str, Any]:
    """The untrained rule at each recall, and by McNemar's exact test on the same good parts whether the model is better.

    Args:
        scored: the set with the model's scores.
        untrained: the rule's scores of its rows.
        points: recall -> the model's operating point there.
    """
    rule, rule_order = replace(scored, scores=untrained.scores).in_order_of_content()
    model, order = scored.in_order_of_content()
    sweep, good = rule.sweep(), ~model.defect[order]
    rows = []
    for recall, point in points.items():
        own = at_recall(sweep, recall)
        by_rule = (rule.scores > own.threshold)[rule_order] & good
        by_model = (model.scores > point.threshold)[order] & good
        more, fewer = int((by_model & ~by_rule).sum()), int((by_rule & ~by_model).sum())
        p_value = mcnemar_exact(more, fewer)
        says = "no better shown" if p_value >= 1 - INTERVAL_LEVEL else "better" if fewer > more else "worse"
        rows.append(
            {
                "recall_target_fraction": recall,
                "threshold": own.threshold,
                "fp": own.fp,
                "far_fraction": own.far_fraction,
                "model_fp": int(np.count_nonzero(by_model)),
                "p_value": p_value,
                "says": says,
            }
        )
    return {"registered": untrained.registered, "auroc": auroc(sweep), "points": rows}
