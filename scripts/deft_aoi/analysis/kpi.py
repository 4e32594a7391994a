"""The KPI of one scored set: operating points, exact intervals, verdict."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from deft_aoi.analysis import kpi_details, operating_point
from deft_aoi.analysis.constants import DEFAULT_RECALLS, INTERVAL_LEVEL, MAX_LISTED, SECONDS_PER_CALL
from deft_aoi.analysis.holdout import split_estimate
from deft_aoi.analysis.intervals import clopper_pearson, sample_size_for, upper_bound
from deft_aoi.analysis.operating_point import OperatingPoint, Sweep
from deft_aoi.analysis.scored import ScoredSet, check_scored
from deft_aoi.contract.errors import HardStop
from deft_aoi.contract.kpi_target import KpiTarget
from deft_aoi.contract.text import PASS

if TYPE_CHECKING:
    import pandas as pd

MET = "MET"
UNSUPPORTED = "MET (not yet supported by the sample size)"
NOT_MET = "NOT MET"

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

    Returns:
        The report, as ``kpi.json`` holds it (schema ``kpi``). Rates are over rows, as TAO scores them; intervals are over
        distinct contents.

    Raises:
        HardStop: whatever :func:`deft_aoi.analysis.scored.check_scored` refuses.
    """
    scored, wanted = checked(frame, target, recalls, label_column, score_column, pass_label, content_ids, featureless)
    return report_of(scored, scored.sweep(), target, wanted, seconds_per_call)


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
    scored: ScoredSet, sweep: Sweep, target: KpiTarget | None, wanted: list[float], seconds_per_call: float
) -> dict[str, Any]:
    goal = target.recall_fraction if target else wanted[0]
    columns = scored.columns
    points = {r: operating_point.at_recall(sweep, r) for r in wanted}
    rows = [{"recall_target_fraction": r, **_with_intervals(scored, p)} for r, p in points.items()]
    best = operating_point.best_f1(sweep)
    point = points[goal]
    report: dict[str, Any] = {
        "schema_version": 1,
        "rule": RULE,
        "columns": {"label": columns[0], "score": columns[1], "pass_label": scored.label_names[0]},
        "counts": _counts(scored),
        "labels": scored.label_counts(),
        "score_min": float(min(sweep.good[0], sweep.bad[0])),
        "score_max": float(max(sweep.good[-1], sweep.bad[-1])),
        "auroc": operating_point.auroc(sweep),
        "aupr": operating_point.average_precision(sweep),
        "operating_points": rows,
        "best_f1": _with_intervals(scored, best),
        "target": None if target is None else kpi_target_dict(target),
        "target_point": next(r for r in rows if r["recall_target_fraction"] == goal),
        "sample_size": None if target is None else _sample_size(scored, point, target),
        "drop_n": kpi_details.drop_n(scored, sweep, goal),
        "setting_samples": kpi_details.setting_samples(scored, point),
        "per_defect": kpi_details.per_defect(scored, point),
        "slices": kpi_details.slices(scored, point),
        "aoi_units": kpi_details.aoi_units(scored, point, seconds_per_call),
        "suspected_label_errors": kpi_details.suspects(scored, sweep, goal),
        "estimate": split_estimate(scored, sweep, goal),
        "verdict": None,
    }
    if target is not None:
        report["verdict"] = _verdict(report, target)
    report["verdict_sentence"] = verdict_sentence(report)
    return report


def is_met(report: dict[str, Any]) -> bool:
    """Whether the verdict ends the loop: both spellings of MET do."""
    return report["verdict"] in (MET, UNSUPPORTED)


def kpi_target_dict(target: KpiTarget) -> dict[str, Any]:
    """The target as JSON."""
    return {
        "text": target.text,
        "far_op": target.far_op,
        "far_fraction": target.far_fraction,
        "recall_fraction": target.recall_fraction,
    }


def _counts(s: ScoredSet) -> dict[str, Any]:
    good = ~s.defect
    return {
        "rows": len(s),
        "pass_rows": int(good.sum()),
        "defect_rows": int(s.defect.sum()),
        "distinct_pass": s.distinct(good),
        "distinct_defect": s.distinct(s.defect),
        "distinct_by_content": s.content is not None,
        "featureless_rows": None if s.featureless is None else int(s.featureless.sum()),
    }


def _with_intervals(s: ScoredSet, point: OperatingPoint) -> dict[str, Any]:
    fp, missed, n_pass, n_defect = point.fp, point.fn, point.fp + point.tn, point.tp + point.fn
    if s.content is not None:
        # A content counts as a false alarm when any of its copies is one, and as missed when any copy is missed.
        flagged, good = s.scores > point.threshold, ~s.defect
        fp, missed = s.distinct(good & flagged), s.distinct(s.defect & ~flagged)
        n_pass, n_defect = s.distinct(good), s.distinct(s.defect)
    return {
        **point.as_dict(),
        "false_alarm_contents": fp,
        "far_interval": list(clopper_pearson(fp, n_pass)),
        "far_upper_one_sided": upper_bound(fp, n_pass),
        "recall_interval": list(clopper_pearson(n_defect - missed, n_defect)),
        "interval_level": INTERVAL_LEVEL,
    }


def _sample_size(s: ScoredSet, point: OperatingPoint, target: KpiTarget) -> dict[str, Any]:
    n = s.distinct(~s.defect)
    upper = upper_bound(s.distinct(~s.defect & (s.scores > point.threshold)), n)
    return {
        "level_one_sided": INTERVAL_LEVEL,
        "distinct_pass": n,
        "required_distinct_pass": sample_size_for(target.far_fraction),
        "best_supportable_far_fraction": upper_bound(0, n),
        "far_upper_fraction": upper,
        "supported": target.is_met(upper),
    }


def _verdict(report: dict[str, Any], target: KpiTarget) -> str:
    if not target.is_met(report["target_point"]["far_fraction"]):
        return NOT_MET
    return MET if report["sample_size"]["supported"] else UNSUPPORTED


def verdict_sentence(report: dict[str, Any]) -> str:
    """The one sentence for the console, from typed values only."""
    p, counts = report["target_point"], report["counts"]
    distinct = "" if counts["distinct_pass"] == counts["pass_rows"] else f" ({counts['distinct_pass']:,} distinct)"
    text = (
        f"{p['fp']:,} false alarm{'' if p['fp'] == 1 else 's'} in {counts['pass_rows']:,} good parts{distinct} with "
        f"{p['tp']:,} of {counts['defect_rows']:,} defects caught: FAR {_pct(p['far_fraction'])} at recall "
        f"{_pct(p['recall_fraction'])}; the true FAR may be up to {_pct(p['far_interval'][1])}"
    )
    size = report["sample_size"]
    if size is None:
        return text
    if not size["supported"]:
        far = report["target"]["far_fraction"]
        text += f"; {_pct(far)} needs {size['required_distinct_pass']:,} distinct good parts without a false alarm"
    return f"{report['verdict']}: {text} (target {report['target']['text']})"


def _pct(fraction: float) -> str:
    """A fraction as a percent with three significant digits, never rounded to a bare 0 or 100."""
    if fraction in (0.0, 1.0):
        return f"{fraction * 100:.0f} %"
    digits = f"{fraction * 100:.3g}"
    return f"{fraction * 100:.6g} %" if float(digits) == 100 else f"{float(digits):g} %"


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
) -> dict[str, Any]:
    """Judge a scored set at a threshold that was fixed elsewhere: the hold-out set, scored once, at the end.

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
    point = operating_point.at_threshold(scored.sweep(), threshold)
    missed = np.flatnonzero(scored.defect & (scored.scores <= threshold))
    met = None
    if target is not None:
        met = target.is_met(point.far_fraction) and point.recall_fraction >= target.recall_fraction * (1 - 1e-12)
    return {
        "schema_version": 1,
        "rule": RULE,
        "threshold_source": "fixed",
        "counts": _counts(scored),
        "point": _with_intervals(scored, point),
        "per_defect": kpi_details.per_defect(scored, point),
        "missed": scored.list_rows(missed[np.argsort(scored.scores[missed], kind="stable")], MAX_LISTED),
        "missed_count": len(missed),
        "target": None if target is None else kpi_target_dict(target),
        "met": met,
    }
