"""The sorted sweep against a straightforward O(N^2) definition, on thousands of small sets full of ties."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.conftest import LONG

from deft_aoi.analysis import kpi
from deft_aoi.analysis.constants import DEFAULT_RECALLS
from deft_aoi.analysis.operating_point import (
    MIDPOINT,
    OperatingPoint,
    at_recall,
    at_threshold,
    auroc,
    average_precision,
    best_f1,
    candidate_thresholds,
    sweep,
)


def confusion(scores: list[float], defect: list[bool], threshold: float) -> tuple[int, int, int, int]:
    """TP, FP, TN, FN by counting, row by row."""
    tp = sum(d and s > threshold for s, d in zip(scores, defect, strict=True))
    fp = sum(not d and s > threshold for s, d in zip(scores, defect, strict=True))
    return tp, fp, defect.count(False) - fp, defect.count(True) - tp


def brute_candidates(scores: list[float]) -> list[float]:
    return [math.nextafter(min(scores), -math.inf), *sorted(set(scores))]


def brute_at_recall(scores: list[float], defect: list[bool], recall: float) -> tuple[int, int, int, int]:
    """Fewest false alarms among thresholds that reach the recall, then the highest recall."""
    points = [confusion(scores, defect, t) for t in brute_candidates(scores)]
    n = defect.count(True)
    return min((p for p in points if p[0] / n >= recall - 1e-12), key=lambda p: (p[1], -p[0]))


def brute_best_f1(scores: list[float], defect: list[bool]) -> tuple[int, int, int, int]:
    def key(p: tuple[int, int, int, int]) -> tuple[float, float]:
        tp, fp, _tn, fn = p
        return 2 * tp / (2 * tp + fp + fn), tp / (tp + fp) if tp + fp else 0.0

    return max((confusion(scores, defect, t) for t in brute_candidates(scores)), key=key)


def check_interval(scores: list[float], defect: list[bool], point: OperatingPoint) -> None:
    """Every threshold in [low, high) decides as the one handed over does, none outside, single precision included."""
    counts = (point.tp, point.fp, point.tn, point.fn)
    inside = [point.threshold, math.nextafter(point.interval_high, -math.inf)]
    outside = [point.interval_high]
    if math.isfinite(point.interval_low):
        inside.append(point.interval_low)
        outside.append(math.nextafter(point.interval_low, -math.inf))
        assert point.interval_low in scores
    assert point.interval_high in scores
    assert [confusion(scores, defect, t) for t in inside] == [counts] * len(inside)
    assert counts not in [confusion(scores, defect, t) for t in outside]
    flagged = np.asarray(scores, dtype=np.float32) > np.float32(point.threshold)  # as TAO compares
    assert int((flagged & np.asarray(defect)).sum()) == point.tp
    assert int((flagged & ~np.asarray(defect)).sum()) == point.fp


def check(scores: list[float], defect: list[bool], recalls: tuple[float, ...]) -> None:
    curve = sweep(scores, defect)
    for recall in recalls:
        point = at_recall(curve, recall)
        assert (point.tp, point.fp, point.tn, point.fn) == brute_at_recall(scores, defect, recall)
        check_interval(scores, defect, point)
    best = best_f1(curve)
    assert (best.tp, best.fp, best.tn, best.fn) == brute_best_f1(scores, defect)
    check_interval(scores, defect, best)
    for t in brute_candidates(scores):  # on top of an observed score: that row is not flagged
        given = at_threshold(curve, t)
        assert (given.tp, given.fp, given.tn, given.fn) == confusion(scores, defect, t)
        assert given.interval_low <= t < given.interval_high
        for end, decides_so in ((given.interval_low, True), (given.interval_high, False)):
            if math.isfinite(end):
                assert (confusion(scores, defect, end) == confusion(scores, defect, t)) == decides_so
    good = [s for s, d in zip(scores, defect, strict=True) if not d]
    bad = [s for s, d in zip(scores, defect, strict=True) if d]
    pairs = sum((b > g) + 0.5 * (b == g) for b in bad for g in good)
    assert auroc(curve) == pytest.approx(pairs / len(good) / len(bad), abs=1e-12)
    steps, last = 0.0, 0.0
    for t in sorted({*bad}, reverse=True):
        tp, fp = sum(b >= t for b in bad), sum(g >= t for g in good)
        steps += (tp / len(bad) - last) * tp / (tp + fp)
        last = tp / len(bad)
    assert average_precision(curve) == pytest.approx(steps, abs=1e-12)


def test_random_sets_with_ties_equal_the_brute_force_definition() -> None:
    rng = np.random.default_rng(20)
    for _case in range(3000 if LONG else 300):
        n = int(rng.integers(2, 24))
        grid = int(rng.integers(1, 12))  # a coarse grid makes ties, within and across the classes
        scores = (rng.integers(0, grid + 1, n) / np.float32(grid)).astype(np.float32).astype(float).tolist()
        defect = (rng.random(n) < rng.random()).tolist()
        defect[0], defect[1] = True, False
        check(scores, defect, (*DEFAULT_RECALLS, float(rng.uniform(0.05, 1.0))))


def test_the_report_says_what_the_brute_force_definition_says(scored_rows) -> None:
    rng = np.random.default_rng(21)
    for _case in range(150):
        good, bad = ((rng.integers(0, 9, int(n)) / 8).tolist() for n in rng.integers(1, 40, 2))
        frame = scored_rows(good, bad).sample(frac=1, random_state=3, ignore_index=True)
        scores, defect = frame["siamese_score"].tolist(), (frame["label"] != "PASS").tolist()
        report = kpi.analyze(frame, recalls=(*DEFAULT_RECALLS, 0.4))
        found = [(p["recall_target_fraction"], *(p[k] for k in ("tp", "fp", "tn", "fn"))) for p in report["operating_points"]]
        assert found == [(r, *brute_at_recall(scores, defect, r)) for r in (*DEFAULT_RECALLS, 0.4)]
        assert tuple(report["best_f1"][k] for k in ("tp", "fp", "tn", "fn")) == brute_best_f1(scores, defect)
        by_score = sorted((s, i) for i, s in enumerate(scores) if defect[i])
        assert [row["line"] - 2 for row in report["per_defect"][0]["lowest"]] == [i for _s, i in by_score[:5]]


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.tuples(st.floats(-1e6, 1e6, width=32, allow_subnormal=False), st.booleans()), min_size=2, max_size=16).filter(
        lambda rows: len({d for _s, d in rows}) == 2
    ),
    st.floats(0.01, 1.0),
)
def test_any_float32_scores_equal_the_brute_force_definition(rows: list[tuple[float, bool]], recall: float) -> None:
    check([s for s, _d in rows], [d for _s, d in rows], (1.0, recall))


def test_neighbouring_scores_hand_over_the_lower_one_and_say_so() -> None:
    low = float(np.float32(0.3))
    high = float(np.nextafter(np.float32(0.3), np.float32(1)))
    point = at_recall(sweep([low, high], [False, True]), 1.0)
    assert point.threshold == np.nextafter(low, 1)
    assert np.float32(point.threshold) == np.float32(low)
    assert (point.tp, point.fp) == (1, 0)
    assert "no room" in point.note


def test_the_midpoint_has_a_margin_on_both_sides() -> None:
    point = at_recall(sweep([0.1, 0.2, 0.6, 0.9], [False, False, True, True]), 1.0, MIDPOINT)
    assert (point.interval_low, point.interval_high) == (0.2, 0.6)
    assert point.threshold == pytest.approx(0.4)
    assert point.note == ""


def test_threshold_below_every_score_flags_everything_in_single_precision_too() -> None:
    point = at_recall(sweep([0.5, 0.25], [False, True]), 1.0)
    assert (point.tp, point.fp) == (1, 1)
    assert np.float32(0.25) > np.float32(point.threshold)


def test_at_threshold_counts_and_interval() -> None:
    curve = sweep([0.1, 0.2, 0.6, 0.9], [False, True, False, True])
    point = at_threshold(curve, 0.3)
    assert (point.tp, point.fp, point.tn, point.fn) == (1, 1, 1, 1)
    assert (point.interval_low, point.interval_high) == (0.2, 0.6)
    assert at_threshold(curve, 5.0).interval_high == math.inf


def test_decimated_thresholds_keep_the_operating_points_and_both_ends() -> None:
    scores = np.linspace(0, 1, 50_000)
    curve = sweep(scores, scores > 0.7)
    keep = (0.123456789, 0.7)
    found = candidate_thresholds(curve, 100, keep)
    assert len(found) <= 102
    assert set(keep) <= set(found.tolist())
    assert found[0] < 0 < found[-1] == 1.0


@pytest.mark.parametrize(
    ("scores", "defect"),
    [([0.1, math.nan], [True, False]), ([0.1, math.inf], [True, False]), ([0.1, 0.2], [True, True]), ([0.1], [True, False])],
)
def test_sweep_refuses_what_has_no_operating_point(scores: list[float], defect: list[bool]) -> None:
    with pytest.raises(ValueError, match=r"finite|both classes|one size"):
        sweep(scores, defect)
