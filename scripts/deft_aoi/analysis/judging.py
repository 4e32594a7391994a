"""From counts to what a verdict rests on: bounds that allow for boards, sample size, both halves of the target."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from deft_aoi.analysis.constants import DESIGN_QUANTILE, INTERVAL_LEVEL, MIN_BOARDS, MIN_RECALL_SUPPORT
from deft_aoi.analysis.intervals import clopper_pearson, design_effect, misses_p_value, sample_size_for, upper_bound
from deft_aoi.analysis.operating_point import (
    OperatingPoint,
    Sweep,
    ThresholdRule,
    at_recall,
    defects_needed,
    parse_threshold_rule,
    tail_miss_fraction,
)
from deft_aoi.analysis.scored import Bools, ScoredSet
from deft_aoi.analysis.verdict import Facts, Holdout
from deft_aoi.contract.kpi_target import KpiTarget

SHOWN_RULES = ("low_end", "midpoint", "tail:0.002", "tail:0.001")


@dataclass(frozen=True)
class JudgingRules:
    """How a scored set is judged.

    Attributes:
        threshold: which threshold is handed over.
        min_recall_support: recall whose lower bound a plain MET needs; a target below it takes its place.
        judge_far: whether the false-alarm half is asked for (not where a primary metric of the user's own has none).
    """

    threshold: ThresholdRule = ThresholdRule()
    min_recall_support: float = MIN_RECALL_SUPPORT
    judge_far: bool = True


DEFAULT_RULES = JudgingRules()


@dataclass(frozen=True)
class Boards:
    """What the boards do to the bounds of a set.

    Attributes:
        known: whether the rows name their boards.
        far_effect: design effect of good parts; recall_effect: of defects. 1.0 where it is not corrected.
        good: boards with good parts; bad: boards with defects.
    """

    known: bool
    good: int
    bad: int
    far_effect: float
    recall_effect: float

    def as_dict(self) -> dict[str, Any]:
        """As JSON, with what is to be said about it."""
        return {
            "known": self.known,
            "boards_with_pass": self.good,
            "boards_with_defect": self.bad,
            "far_design_effect": self.far_effect,
            "recall_design_effect": self.recall_effect,
            "note": self.note,
        }

    @property
    def note(self) -> str:
        """What a reader must know of the bounds."""
        if not self.known:
            return "no boardname column: the bounds assume independent parts"
        few = [f"{n} with {what}" for n, what in ((self.good, "good parts"), (self.bad, "defects")) if n < MIN_BOARDS]
        if few:
            return f"too few boards to allow for parts of one board being alike ({', '.join(few)}; {MIN_BOARDS} are needed)"
        return "the bounds allow for parts of one board being alike"


def boards_of(units: ScoredSet, s: Sweep) -> Boards:
    """Design effects of a set of distinct contents, where its rows name their boards."""
    grouped = units.groups("boardname")
    if grouped is None:
        return Boards(False, 0, 0, 1.0, 1.0)
    code = np.asarray(grouped[0])
    good, bad = ~units.defect, units.defect
    flagged = units.scores > s.good[min(s.n_pass - 1, int((1 - DESIGN_QUANTILE) * s.n_pass))]
    missed = units.scores <= s.bad[int(DESIGN_QUANTILE * (s.n_defect - 1))]
    far, recall = (design_effect(event[side], code[side]) for event, side in ((flagged, good), (missed, bad)))
    return Boards(True, len(np.unique(code[good])), len(np.unique(code[bad])), far or 1.0, recall or 1.0)


def with_bounds(scored: ScoredSet, boards: Boards, point: OperatingPoint) -> dict[str, Any]:
    """A point over distinct contents with its bounds, and beside it the counts over rows, as TAO counts them."""
    far = clopper_pearson(point.fp, point.fp + point.tn, effect=boards.far_effect)
    return {
        **point.as_dict(),
        "far_interval": list(far),
        "far_upper_one_sided": far[1],
        "recall_interval": list(clopper_pearson(point.tp, point.tp + point.fn, effect=boards.recall_effect)),
        "interval_level": INTERVAL_LEVEL,
        "rows": _row_counts(scored, scored.scores > point.threshold),
    }


def _row_counts(scored: ScoredSet, flagged: Bools) -> dict[str, Any]:
    bad = int(scored.defect.sum())
    tp, fp = int((flagged & scored.defect).sum()), int((flagged & ~scored.defect).sum())
    good = len(scored) - bad
    return {"tp": tp, "fp": fp, "tn": good - fp, "fn": bad - tp, "far_fraction": fp / good, "recall_fraction": tp / bad}


def sample_size(point: dict[str, Any], boards: Boards, target: KpiTarget, rules: JudgingRules) -> dict[str, Any]:
    """What the sample supports on either side, and what it lacks."""
    good, bad = point["fp"] + point["tn"], point["tp"] + point["fn"]
    recall = min(rules.min_recall_support, target.recall_fraction)
    upper, lower = point["far_interval"][1], point["recall_interval"][0]
    far_supported, recall_supported = not rules.judge_far or target.is_met(upper), lower >= recall
    return {
        "level_one_sided": INTERVAL_LEVEL,
        "far_fraction": target.far_fraction,
        "min_recall_support_fraction": recall,
        "distinct_pass": good,
        "distinct_defect": bad,
        "required_distinct_pass": sample_size_for(target.far_fraction),
        "required_distinct_defect": sample_size_for(1 - recall) if recall < 1 else None,
        "best_supportable_far_fraction": upper_bound(0, good, effect=boards.far_effect),
        "best_supportable_recall_fraction": 1 - upper_bound(0, bad, effect=boards.recall_effect),
        "far_upper_fraction": upper,
        "recall_lower_fraction": lower,
        "far_supported": far_supported,
        "recall_supported": recall_supported,
        "supported": far_supported and recall_supported,
    }


def facts(point: dict[str, Any], size: dict[str, Any], estimate: dict[str, Any] | None, target: KpiTarget) -> Facts:
    """The facts of a KPI set alone."""
    return Facts(
        kpi=target.meets(point["fp"], point["fp"] + point["tn"], point["tp"], point["tp"] + point["fn"]),
        far_supported=size["far_supported"],
        recall_supported=size["recall_supported"],
        cross_validated=cross_validated(estimate, target),
    )


def cross_validated(estimate: dict[str, Any] | None, target: KpiTarget) -> bool:
    """Whether thresholds chosen on the other boards meet the target with at most one miss more than it allows.

    One miss is what the smallest of n scores is expected to cost: it promises a recall of n / (n + 1).
    """
    if estimate is None:
        return False
    bad = estimate["tp"] + estimate["fn"]
    allowed = bad - defects_needed(target.recall_fraction, bad)
    far = Fraction(estimate["fp"], estimate["fp"] + estimate["tn"])
    return target.is_met(far) and bool(estimate["fn"] <= allowed + 1)


def holdout_says(
    point: dict[str, Any], target: KpiTarget, kpi_point: dict[str, Any] | None, judge_far: bool = True
) -> tuple[Holdout, float | None]:
    """``(what the hold-out says, how probable so many misses are)`` at a threshold fixed on the KPI set.

    It contradicts when so many misses have a probability below 5 % for a threshold that n KPI defects chose, or when the
    lower bound of its false-alarm rate does not meet the target; it confirms when its own point meets the target.
    """
    good, bad = point["fp"] + point["tn"], point["tp"] + point["fn"]
    p_value = None
    if kpi_point is not None:
        p_value = misses_p_value(point["fn"], bad, kpi_point["tp"] + kpi_point["fn"], kpi_point["fn"])
    far_wrong = judge_far and not target.is_met(float(point["far_interval"][0]))
    if far_wrong or (p_value is not None and p_value < 1 - INTERVAL_LEVEL):
        return "contradicts", p_value
    tested = target if judge_far else KpiTarget("<=", 1.0, target.recall_fraction, target.text)
    return ("confirms" if tested.meets(point["fp"], good, point["tp"], bad) else "not_confirmed"), p_value


def rule_table(s: Sweep, recall_fraction: float, chosen: ThresholdRule) -> list[dict[str, Any]]:
    """Each threshold rule with its threshold, the false-alarm rate now, and the misses to expect in 1,000 defects.

    The misses are those of the exponential tail of the weakest defects, for every rule alike.
    """
    rules = [parse_threshold_rule(text, chosen.noise) for text in SHOWN_RULES]
    if chosen.text not in SHOWN_RULES:
        rules.append(chosen)
    rows = []
    for rule in rules:
        point = at_recall(s, recall_fraction, rule)
        rows.append(
            {
                "rule": rule.text,
                "threshold": point.threshold,
                "fp": point.fp,
                "far_fraction": point.far_fraction,
                "missed": point.fn,
                "expected_misses_per_1000": 1000 * tail_miss_fraction(s, point.threshold),
                "chosen": rule.text == chosen.text,
            }
        )
    return rows
