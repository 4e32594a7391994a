"""What stands behind the KPI: which samples decide it, which defect types and slices carry it, what it costs on the line."""

from __future__ import annotations

from typing import Any

import numpy as np

from deft_aoi.analysis.constants import DECIDED_ALONE_FACTOR, MAX_LISTED, MAX_SLICES, RECALL_WITHOUT_ODD_DEFECTS
from deft_aoi.analysis.intervals import clopper_pearson
from deft_aoi.analysis.operating_point import Floats, OperatingPoint, Sweep, at_defect_count, at_recall, defects_needed
from deft_aoi.analysis.scored import ScoredSet

SLICE_COLUMNS = ("part_type", "comp_type_1", "boardname", "light")
LOWEST = 5
DROP = (1, 2, 3)


def per_defect(s: ScoredSet, point: OperatingPoint, boards_effect: float = 1.0) -> list[dict[str, Any]]:
    """Recall and lowest scores of each defect type at the point, lowest recall first."""
    out = []
    defects = s.defects_ascending
    codes = s.label_codes[defects]
    for code in np.flatnonzero(np.bincount(codes)):
        name, rows = s.label_names[code], defects[codes == code]
        flagged = s.scores[rows] > point.threshold
        caught = int(flagged.sum())
        missed, n = s.distinct(rows[~flagged]), s.distinct(rows)
        out.append(
            {
                "label": name,
                "rows": len(rows),
                "distinct": n,
                "caught": caught,
                "missed": len(rows) - caught,
                "recall_fraction": caught / len(rows),
                "recall_interval": list(clopper_pearson(n - missed, n, effect=boards_effect)),
                "lowest": s.list_rows(rows, LOWEST),
            }
        )
    return sorted(out, key=lambda d: (d["recall_fraction"], d["label"]))


def deciding_defects(s: ScoredSet, all_scores: Sweep, recall_fraction: float, point: OperatingPoint) -> dict[str, Any]:
    """Up to three weakest defects, each with the false-alarm rate if it alone were caught by other means.

    ``decide_alone``: the false-alarm rate at the target recall is more than five times that at 99 %, so that one or two
    defects carry it.
    """
    needed = defects_needed(recall_fraction, all_scores.n_defect)
    listed = []
    for i, row in enumerate(s.defects_ascending[: len(DROP)]):
        rest = Sweep(all_scores.good, np.delete(all_scores.bad, i))
        if rest.n_defect == 0 or needed < 2:
            break
        without = at_defect_count(rest, needed - 1)
        listed.append({**s.describe(int(row)), "far_without_fraction": without.far_fraction, "fp_without": without.fp})
    at_99 = at_recall(all_scores, min(recall_fraction, RECALL_WITHOUT_ODD_DEFECTS))
    return {
        "decide_alone": point.fp > DECIDED_ALONE_FACTOR * at_99.fp,
        "far_at_99_fraction": at_99.far_fraction,
        "listed": listed,
    }


def setting_samples(s: ScoredSet, point: OperatingPoint) -> list[dict[str, Any]]:
    """The rows on both ends of the threshold interval: the lowest caught defects and the highest cleared parts."""
    out = []
    for role, score, rows in (
        ("lowest flagged", point.interval_high, np.flatnonzero(s.scores == point.interval_high)),
        ("highest passed", point.interval_low, np.flatnonzero(s.scores == point.interval_low)),
    ):
        if np.isfinite(score):
            out += [{"role": role, **row} for row in s.list_rows(rows, LOWEST)]
    return out


def drop_n(s: ScoredSet, all_scores: Sweep, recall_fraction: float) -> list[dict[str, Any]]:
    """FAR if the 1, 2, 3 hardest defects were caught by other means (a second inspection, a corrected label).

    They count as caught, so the recall still needed of the others is smaller by as many.
    """
    needed = defects_needed(recall_fraction, all_scores.n_defect)
    out = []
    for n in DROP:
        rest = Sweep(all_scores.good, all_scores.bad[n:])
        if rest.n_defect == 0 or needed - n < 1:
            break
        point = at_defect_count(rest, needed - n)
        out.append(
            {
                "dropped": n,
                "threshold": point.threshold,
                "fp": point.fp,
                "far_fraction": point.far_fraction,
                "samples": s.list_rows(s.defects_ascending[:n]),
            }
        )
    return out


def slices(s: ScoredSet, point: OperatingPoint) -> dict[str, Any]:
    """False alarms and misses by part type, board and light, for each such column that the set has."""
    state = 2 * s.defect.view(np.uint8) + (s.scores > point.threshold).view(np.uint8)
    out: dict[str, Any] = {}
    for column in SLICE_COLUMNS:
        grouped = s.groups(column)
        if grouped is None or len(grouped[1]) < 2:
            continue
        codes, n = grouped[0], len(grouped[1])
        tn, fp, fn, tp = np.bincount(codes * 4 + state, minlength=4 * n).reshape(n, 4).T
        good, bad = tn + fp, fn + tp
        worst = np.lexsort((np.arange(n), -(good + bad), -fp, -fn))[:MAX_SLICES]
        out[column] = {
            "groups": n,
            "listed": [
                {
                    "value": grouped[1][g],
                    "pass_rows": int(good[g]),
                    "fp": int(fp[g]),
                    "far_fraction": float(fp[g] / good[g]) if good[g] else None,
                    "defect_rows": int(bad[g]),
                    "fn": int(fn[g]),
                    "recall_fraction": float(1 - fn[g] / bad[g]) if bad[g] else None,
                }
                for g in worst
            ],
        }
    return out


def aoi_units(s: ScoredSet, rows: dict[str, Any], seconds_per_call: float) -> dict[str, Any]:
    """The point over rows (copies cost their calls, too) in the units of a line: false calls, escapes, operator minutes.

    ppm = per million inspected components of this set. Its share of defects is not that of a line, so escapes and
    operator time are those of this set.
    """
    boards = s.groups("boardname")
    n_boards = None if boards is None else len(boards[1])
    return {
        "boards": n_boards,
        "false_calls_per_board": None if not n_boards else rows["fp"] / n_boards,
        "false_calls_ppm": 1e6 * rows["fp"] / len(s),
        "escapes_ppm": 1e6 * rows["fn"] / len(s),
        "seconds_per_call": float(seconds_per_call),
        "operator_minutes": (rows["tp"] + rows["fp"]) * seconds_per_call / 60.0,
        "operator_minutes_on_false_calls": rows["fp"] * seconds_per_call / 60.0,
    }


def suspects(s: ScoredSet, all_scores: Sweep, recall_fraction: float) -> dict[str, Any]:
    """Rows whose score belongs to the other class, and the KPI if their labels were the other way round.

    A good part that scores above the median defect and a defect that scores below the median good part are suspects: not
    proof, a reason to look. Nothing is relabelled.
    """
    median_bad = float(np.median(all_scores.bad))
    median_good = float(np.median(all_scores.good))
    empty: dict[str, Any] = {"count": 0, "listed": [], "far_fraction_if_relabelled": None, "threshold_if_relabelled": None}
    if median_good >= median_bad:
        return empty  # the model does not separate: its scores say nothing about labels
    n_low = int(np.searchsorted(all_scores.bad, median_good, side="right"))
    n_high = int(np.searchsorted(all_scores.good, median_bad, side="left"))
    if n_low == 0 and n_high == all_scores.n_pass:
        return empty
    high = np.flatnonzero(s.scores >= median_bad)
    rows = np.sort(np.concatenate([s.defects_ascending[:n_low], high[~s.defect[high]]]))
    good = _merged(all_scores.good[:n_high], all_scores.bad[:n_low])
    bad = _merged(all_scores.bad[n_low:], all_scores.good[n_high:])
    point = at_recall(Sweep(good, bad), recall_fraction)
    depth = np.where(s.defect[rows], median_good - s.scores[rows], s.scores[rows] - median_bad)
    return {
        "count": len(rows),
        "listed": s.list_rows(rows[np.argsort(-depth, kind="stable")], MAX_LISTED),
        "far_fraction_if_relabelled": point.far_fraction,
        "threshold_if_relabelled": point.threshold,
    }


def _merged(one: Floats, other: Floats) -> Floats:
    """Two sorted runs as one."""
    if not len(other):
        return one
    both = np.concatenate([one, other])
    both.sort(kind="stable")
    return both
