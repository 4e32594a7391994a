"""Two models on the same KPI parts: what changed, part by part, and whether the better rate hides new escapes.

Each model is judged at its own operating point, over distinct contents as the verdict is. Rows are paired by position and
checked by name, so the comparison needs no assumption that the two sets are independent (McNemar, Psychometrika 12, 1947;
the exact form).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from deft_aoi.analysis import operating_point
from deft_aoi.analysis.constants import MAX_LISTED, RECALL_WITHOUT_ODD_DEFECTS
from deft_aoi.analysis.intervals import mcnemar_exact
from deft_aoi.analysis.metric import Evaluation, FarRank, far_rank
from deft_aoi.analysis.scored import ScoredSet, check_scored
from deft_aoi.contract.errors import HardStop
from deft_aoi.contract.kpi_target import KpiTarget
from deft_aoi.contract.text import quoted

if TYPE_CHECKING:
    import pandas as pd


def compare(
    before: pd.DataFrame,
    after: pd.DataFrame,
    threshold_before: float,
    threshold_after: float,
    *,
    score_column: str = "siamese_score",
    target: KpiTarget | None = None,
    max_new_escapes: int | None = None,
    judged: tuple[Evaluation, Evaluation] | None = None,
    estimates: tuple[Mapping[str, Any], Mapping[str, Any]] | None = None,
    content_ids: Any = None,
    featureless: Any = None,
) -> dict[str, Any]:
    """Compare two scored frames of the same rows.

    Args:
        before: N scored rows of the incumbent.
        after: N scored rows of the challenger, same rows in the same order.
        threshold_before: the incumbent's operating point.
        threshold_after: the challenger's operating point.
        score_column: the score column of both.
        target: the KPI; a challenger that is the first to meet it is promoted whatever it exchanges, because the target
            itself says how many defects may pass.
        max_new_escapes: defects that may be missed now though they were caught before; ``None``: at most as many as are
            newly caught.
        estimates: ``kpi_met``, ``far_fraction``, ``cross_validated_far_fraction`` and ``far_at_99_fraction`` of both, over
            distinct contents, where a run has them: the lower cross-validated false-alarm rate is the better model, ties by
            the point; where both flag half of the good parts or more, the lower rate at recall 99 %.
        judged: what the user's own primary metric says of both; it then decides instead of the KPI, escapes apart.
        content_ids: (N,) identities by content; ``None``: every row counts as one part.
        featureless: (N,) booleans that go with them.

    Returns:
        The record of schema ``comparison``: FAR and recall of both, discordant counts and exact p-values for good parts and
        defects, the new escapes (all counted, 20 listed), and ``promote`` with the reason.

    Raises:
        HardStop: the frames are not the same rows.
    """
    known: dict[str, Any] = {"score_column": score_column, "content_ids": content_ids, "featureless": featureless}
    rows_old, rows_new = check_scored(before, **known), check_scored(after, **known)
    _refuse_other_rows(rows_old, rows_new)
    (old, at_old), (new, at_new) = rows_old.in_order_of_content(), rows_new.in_order_of_content()
    flag_old, flag_new = (old.scores > threshold_before)[at_old], (new.scores > threshold_after)[at_new]
    defect = old.defect[at_old]
    escapes = np.flatnonzero(defect & flag_old & ~flag_new)
    caught = np.flatnonzero(defect & ~flag_old & flag_new)
    alarms = np.flatnonzero(~defect & ~flag_old & flag_new)
    cleared = np.flatnonzero(~defect & flag_old & ~flag_new)
    far = [float(f[~defect].mean()) for f in (flag_old, flag_new)]
    recall = [float(f[defect].mean()) for f in (flag_old, flag_new)]
    escapes = escapes[np.argsort(new.scores[at_new[escapes]], kind="stable")]
    good, bad = int((~defect).sum()), int(defect.sum())
    met = [
        target is not None and target.meets(int((f & ~defect).sum()), good, int((f & defect).sum()), bad)
        for f in (flag_old, flag_new)
    ]
    cross, point = far, far
    at_99 = [operating_point.at_recall(s.sweep(), RECALL_WITHOUT_ODD_DEFECTS).far_fraction for s in (old, new)]
    if estimates is not None:
        met = [bool(e["kpi_met"]) for e in estimates]
        found = [e.get("cross_validated_far_fraction") for e in estimates]
        cross = [float(f) for f in found if f is not None] if None not in found else far
        point = [float(e.get("far_fraction", rows)) for e, rows in zip(estimates, far, strict=True)]
        found = [e.get("far_at_99_fraction") for e in estimates]
        at_99 = [float(f) for f in found if f is not None] if None not in found else at_99
    better = None
    if judged is not None:
        met, better = [e.met for e in judged], judged[1].rank < judged[0].rank
    first = met[1] and not met[0]
    promote, reason = decide(
        (far_rank(point[0], cross[0], at_99[0]), far_rank(point[1], cross[1], at_99[1])),
        recall,
        len(escapes),
        len(caught),
        max_new_escapes=max_new_escapes,
        first_to_meet=first,
        better_metric=better,
    )
    return {
        "schema_version": 1,
        "rows": len(rows_old),
        "parts": len(old),
        "threshold_before": float(threshold_before),
        "threshold_after": float(threshold_after),
        "far_before_fraction": far[0],
        "far_after_fraction": far[1],
        "recall_before_fraction": recall[0],
        "recall_after_fraction": recall[1],
        "new_false_alarms": len(alarms),
        "cleared_false_alarms": len(cleared),
        "new_escapes": len(escapes),
        "newly_caught": len(caught),
        "mcnemar_p_good_parts": mcnemar_exact(len(alarms), len(cleared)),
        "mcnemar_p_defects": mcnemar_exact(len(escapes), len(caught)),
        "new_escapes_listed": [
            {**new.describe(int(at_new[k])), "score_before": float(old.scores[at_old[k]])} for k in escapes[:MAX_LISTED]
        ],
        "promote": promote,
        "reason": reason,
    }


def decide(
    ranks: tuple[FarRank, FarRank],
    recall: list[float],
    new_escapes: int,
    newly_caught: int,
    *,
    max_new_escapes: int | None = None,
    first_to_meet: bool = False,
    better_metric: bool | None = None,
) -> tuple[bool, str]:
    """Whether the challenger replaces the incumbent.

    A lower false-alarm rate is never bought with escapes. At a target of 100 % recall neither model misses a defect; below
    it both may, and two trainings seldom miss the same ones: refusing every exchange kept a model with 38 % false alarms
    where its successor had 1 % and missed one defect less. So new escapes are weighed against what is newly caught, all of
    them are listed, and a line that knows better sets its own limit.

    Args:
        ranks: of the false-alarm rates before and after.
        recall: recall before and after, fractions.
        new_escapes: defects caught before and missed now.
        newly_caught: defects missed before and caught now.
        max_new_escapes: how many new escapes are acceptable; ``None``: as many as are newly caught.
        first_to_meet: the challenger meets the KPI (or the primary metric) and the incumbent does not.
        better_metric: whether the user's primary metric is better; ``None``: there is none, FAR and recall decide.

    Returns:
        ``(promote, reason)``.
    """
    exchanged = f"{new_escapes} defect(s) newly missed, {newly_caught} newly caught"
    if first_to_meet:
        return True, f"promoted: the first to meet the target; {exchanged}"
    limit = newly_caught if max_new_escapes is None else max_new_escapes
    if new_escapes > limit:
        return False, f"refused: {exchanged} (allowed {limit})"
    if better_metric is not None:
        words = ("promoted: the primary metric is better", "kept: the primary metric is not better")
        return better_metric, f"{words[not better_metric]}; {exchanged}"
    before, after = ranks
    where = " at recall 99 % (both flag half of the good parts or more at the target recall)" if before[0] and after[0] else ""
    if after < before:
        return True, f"promoted: fewer false alarms{where}; {exchanged}"
    if after == before and recall[1] > recall[0]:
        return True, f"promoted: higher recall; {exchanged}"
    return False, f"kept: the new model has no fewer false alarms{where}; {exchanged}"


def _refuse_other_rows(old: ScoredSet, new: ScoredSet) -> None:
    if len(old) != len(new):
        raise HardStop(
            "the two sets have different numbers of rows",
            expected="the same KPI rows, scored by two models",
            found=f"{len(old)} and {len(new)}",
            hint="compare inference.csv files of one KPI set",
        )
    for column in ("object_name", "input_path", "label"):
        if column in old.frame.columns and column in new.frame.columns:
            differs = old.frame[column].astype(str).to_numpy() != new.frame[column].astype(str).to_numpy()
            if differs.any():
                line = int(differs.argmax())
                raise HardStop(
                    f"line {line + 2}: the two sets are not the same rows",
                    expected=f"{column} {quoted(old.frame[column].iat[line])}",
                    found=quoted(new.frame[column].iat[line]),
                    hint="compare inference.csv files of one KPI set",
                )
