"""The KPI of one scored set: operating points, exact intervals, verdict (docs/verdict.md)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from deft_aoi.analysis import kpi_details, operating_point
from deft_aoi.analysis.constants import DEFAULT_RECALLS, MAX_LISTED, RECALL_WITHOUT_ODD_DEFECTS, SECONDS_PER_CALL
from deft_aoi.analysis.holdout import split_estimate
from deft_aoi.analysis.judging import (
    DEFAULT_RULES,
    JudgingRules,
    boards_of,
    facts,
    holdout_says,
    rule_table,
    sample_size,
    with_bounds,
)
from deft_aoi.analysis.reference import Untrained, reference_row
from deft_aoi.analysis.scored import ScoredSet, check_scored
from deft_aoi.analysis.verdict import sentence, verdict_of
from deft_aoi.contract.errors import HardStop
from deft_aoi.contract.kpi_target import KpiTarget
from deft_aoi.contract.text import PASS

if TYPE_CHECKING:
    import pandas as pd

RULE = "score > threshold means NO_PASS (defect); FAR = FP / (FP + TN); recall = TP / (TP + FN)"


def analyze(
    frame: pd.DataFrame,
    *,
    target: KpiTarget | None = None,
    recalls: Sequence[float] = DEFAULT_RECALLS,
    label_column: str = "label",
    score_column: str = "siamese_score",
    pass_label: str = PASS,
    content_ids: Any = None,
    featureless: Any = None,
    seconds_per_call: float = SECONDS_PER_CALL,
    rules: JudgingRules = DEFAULT_RULES,
    untrained: Untrained | None = None,
) -> dict[str, Any]:
    """Analyze a scored set.

    Args:
        frame: N rows: label, score and, where they exist, the ChangeNet columns.
        target: the KPI to judge; without one there is no verdict and the target point is at the highest recall asked for.
        recalls: recall fractions in (0, 1] to report; the target's is added.
        label_column: the label column.
        score_column: the score column; higher = more defective.
        pass_label: the good label, compared exactly.
        content_ids: (N,) identities by content (:class:`deft_aoi.analysis.identity.ContentIndex`); intervals and sample
            size then count distinct contents. ``None``: every row counts as one observation.
        featureless: (N,) booleans that go with them.
        seconds_per_call: operator seconds for one call at the review station.
        rules: which threshold is handed over, and what must be supported.
        untrained: what comparing pixels says of the rows, where the pictures are at hand.

    Returns:
        The report, as ``kpi.json`` holds it (schema ``kpi``). Counts, rates and intervals are over distinct contents; beside
        them ``rows`` counts as TAO does.

    Raises:
        HardStop: whatever :func:`deft_aoi.analysis.scored.check_scored` refuses.
    """
    scored, wanted = checked(frame, target, recalls, label_column, score_column, pass_label, content_ids, featureless)
    return report_of(scored, target, wanted, seconds_per_call, rules, untrained)


def checked(
    frame: pd.DataFrame,
    target: KpiTarget | None,
    recalls: Sequence[float],
    label_column: str,
    score_column: str,
    pass_label: str,
    content_ids: Any,
    featureless: Any,
) -> tuple[ScoredSet, list[float]]:
    wanted = sorted({*recalls, *([target.recall_fraction] if target else [])}, reverse=True)
    if not wanted:
        raise ValueError("recalls is empty: at least one recall fraction is needed")
    scored = check_scored(
        frame,
        label_column=label_column,
        score_column=score_column,
        pass_label=pass_label,
        content_ids=content_ids,
        featureless=featureless,
    )
    return scored, wanted


def report_of(
    scored: ScoredSet,
    target: KpiTarget | None,
    wanted: list[float],
    seconds_per_call: float,
    rules: JudgingRules,
    untrained: Untrained | None = None,
) -> dict[str, Any]:
    units = scored.distinct_contents()
    sweep = units.sweep()
    boards = boards_of(units, sweep)
    goal = target.recall_fraction if target else wanted[0]
    columns = scored.columns
    points = {r: operating_point.at_recall(sweep, r, rules.threshold) for r in wanted}
    rows = [{"recall_target_fraction": r, **with_bounds(scored, boards, p)} for r, p in points.items()]
    best = operating_point.best_f1(sweep)
    point, target_point = points[goal], next(r for r in rows if r["recall_target_fraction"] == goal)
    at_99 = [r for r in wanted if r == RECALL_WITHOUT_ODD_DEFECTS != goal]
    size = None if target is None else sample_size(target_point, boards, target, rules)
    estimate = split_estimate(units, sweep, goal, rules.threshold)
    own = None if target is None or size is None else facts(target_point, size, estimate, target)
    report: dict[str, Any] = {
        "schema_version": 2,
        "rule": RULE,
        "threshold_rule": rules.threshold.text,
        "columns": {"label": columns[0], "score": columns[1], "pass_label": scored.label_names[0]},
        "counts": _counts(scored, units),
        "labels": scored.label_counts(),
        "score_min": float(min(sweep.good[0], sweep.bad[0])),
        "score_max": float(max(sweep.good[-1], sweep.bad[-1])),
        "auroc": operating_point.auroc(sweep),
        "aupr": operating_point.average_precision(sweep),
        "operating_points": rows,
        "best_f1": with_bounds(scored, boards, best),
        "target": None if target is None else kpi_target_dict(target),
        "target_point": target_point,
        "sample_size": size,
        "boards": boards.as_dict(),
        "threshold_rules": rule_table(sweep, goal, rules.threshold),
        "drop_n": kpi_details.drop_n(units, sweep, goal),
        "deciding_defects": kpi_details.deciding_defects(units, sweep, goal, point),
        "setting_samples": kpi_details.setting_samples(units, point),
        "per_defect": kpi_details.per_defect(units, point, boards.recall_effect),
        "slices": kpi_details.slices(units, point),
        "aoi_units": kpi_details.aoi_units(scored, target_point["rows"], seconds_per_call),
        "suspected_label_errors": kpi_details.suspects(units, sweep, goal),
        "estimate": estimate,
        "reference": None if untrained is None else reference_row(scored, untrained, {r: points[r] for r in (goal, *at_99)}),
        "facts": None if own is None else own.as_dict(),
        "verdict": None if own is None else verdict_of(own),
    }
    report["verdict_sentence"] = sentence(report)
    return report


def kpi_target_dict(target: KpiTarget) -> dict[str, Any]:
    """The target as JSON."""
    return {
        "text": target.text,
        "far_op": target.far_op,
        "far_fraction": target.far_fraction,
        "recall_fraction": target.recall_fraction,
    }


def _counts(s: ScoredSet, units: ScoredSet) -> dict[str, Any]:
    good, distinct_defect = ~s.defect, int(units.defect.sum())
    return {
        "rows": len(s),
        "pass_rows": int(good.sum()),
        "defect_rows": int(s.defect.sum()),
        "distinct_pass": len(units) - distinct_defect,
        "distinct_defect": distinct_defect,
        "distinct_by_content": s.content is not None,
        "featureless_rows": None if s.featureless is None else int(s.featureless.sum()),
    }


def apply_threshold(
    frame: pd.DataFrame,
    threshold: float,
    *,
    target: KpiTarget | None = None,
    label_column: str = "label",
    score_column: str = "siamese_score",
    pass_label: str = PASS,
    content_ids: Any = None,
    featureless: Any = None,
    kpi_point: dict[str, Any] | None = None,
    rules: JudgingRules = DEFAULT_RULES,
) -> dict[str, Any]:
    """Judge a scored set at a threshold that was fixed elsewhere: the hold-out set, scored once, at the end.

    Args:
        frame: see :func:`analyze`, as the columns, identities and rules.
        threshold: the threshold.
        target: the KPI.
        label_column: see above.
        score_column: see above.
        pass_label: see above.
        content_ids: see above.
        featureless: see above.
        kpi_point: the operating point of the KPI set that chose the threshold: how many misses are improbable depends on it.
        rules: see above.

    Returns:
        The report of schema ``holdout``: counts, point, per-defect recall, missed defects, and whether the point meets the
        target (``None`` without one).

    Raises:
        HardStop: see :func:`analyze`; also a threshold that is not finite.
    """
    if not np.isfinite(threshold):
        raise HardStop("the threshold is not finite", found=repr(float(threshold)), hint="take the threshold that kpi.json names")
    scored = check_scored(
        frame,
        label_column=label_column,
        score_column=score_column,
        pass_label=pass_label,
        content_ids=content_ids,
        featureless=featureless,
    )
    units = scored.distinct_contents()
    sweep = units.sweep()
    boards = boards_of(units, sweep)
    at = operating_point.at_threshold(sweep, threshold)
    point = with_bounds(scored, boards, at)
    missed = np.flatnonzero(scored.defect & (scored.scores <= threshold))
    says, p_value = (None, None) if target is None else holdout_says(point, target, kpi_point, rules.judge_far)
    return {
        "schema_version": 2,
        "rule": RULE,
        "threshold_source": "fixed",
        "counts": _counts(scored, units),
        "boards": boards.as_dict(),
        "auroc": operating_point.auroc(sweep),
        "point": point,
        "per_defect": kpi_details.per_defect(units, at, boards.recall_effect),
        "missed": scored.list_rows(missed[np.argsort(scored.scores[missed], kind="stable")], MAX_LISTED),
        "missed_count": len(missed),
        "target": None if target is None else kpi_target_dict(target),
        "met": None if says is None else says == "confirms",
        "says": says,
        "misses_p_value": p_value,
    }
