"""Which threshold is taken from an interval of equal decisions."""

from __future__ import annotations

import numpy as np
import pytest

from deft_aoi.analysis.operating_point import MIDPOINT, ThresholdRule, at_recall, parse_threshold_rule, sweep, tail_threshold
from deft_aoi.contract.errors import UsageError

GOOD, BAD = [0.1, 0.2, 0.7], [0.5, 0.6, 0.9]
SWEEP = sweep(GOOD + BAD, [False] * 3 + [True] * 3)


def test_the_low_end_stays_one_noise_above_the_last_good_part_and_below_the_middle() -> None:
    assert at_recall(SWEEP, 1.0, ThresholdRule(noise=0.01)).threshold == pytest.approx(0.21)
    assert at_recall(SWEEP, 1.0, ThresholdRule(noise=0.4)).threshold == at_recall(SWEEP, 1.0, MIDPOINT).threshold


def test_no_threshold_lies_on_a_score() -> None:
    near = sweep([0.3, float(np.nextafter(np.float32(0.3), np.float32(1)))], [False, True])
    for rule in (ThresholdRule(), ThresholdRule(noise=0.0), MIDPOINT, ThresholdRule("tail", miss_fraction=0.01)):
        for s in (SWEEP, near, sweep([0.5, 0.2, 0.9], [False, True, True])):
            assert at_recall(s, 1.0, rule).threshold not in (*s.good, *s.bad)


def test_where_no_good_part_lies_below_the_margin_is_one_noise() -> None:
    point = at_recall(sweep([0.5, 0.2, 0.9], [False, True, True]), 1.0, ThresholdRule(noise=0.01))
    assert point.threshold == pytest.approx(0.19)
    assert (point.fp, point.fn) == (1, 0)


def test_an_exponential_tail_of_log_odds_is_found_again() -> None:
    odds = 4.0 - np.random.default_rng(0).exponential(1.5, 20_000)
    bad = 1 / (1 + np.exp(-odds))
    threshold = tail_threshold(sweep([0.0, *bad], [False] + [True] * len(bad)), 0.001)
    fresh = 1 / (1 + np.exp(-(4.0 - np.random.default_rng(1).exponential(1.5, 200_000))))
    assert 0.0007 < (fresh <= threshold).mean() < 0.0013


@pytest.mark.parametrize("text", ["tail", "tail:0", "tail:1", "tail:x", "low_end:1", "middle", "tail:nan", ""])
def test_other_rules_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="threshold rule"):
        parse_threshold_rule(text)
    assert parse_threshold_rule("tail:0.002").text == "tail:0.002"
    assert parse_threshold_rule(" low_end").text == "low_end"
