"""Four facts, six strings: each combination, and the precedence written down once more."""

from __future__ import annotations

from itertools import product

import pytest

from deft_aoi.analysis import verdict as v
from deft_aoi.analysis.judging import holdout_says
from deft_aoi.contract.kpi_target import parse_kpi_target


def facts(kpi: bool = True, far: bool = True, recall: bool = True, cv: bool = True, holdout: str = "confirms") -> v.Facts:
    return v.Facts(kpi, far, recall, cv, holdout)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (facts(kpi=False, holdout="contradicts"), "NOT MET"),
        (facts(holdout="contradicts", recall=False), "MET on the KPI set, NOT on the hold-out"),
        (facts(far=False), "MET (not yet supported by the sample size)"),
        (facts(recall=False, holdout="not_confirmed"), "MET (not yet supported by the sample size)"),
        (facts(cv=False, holdout="none"), "MET (not yet supported by the sample size)"),
        (facts(holdout="not_confirmed"), "MET (the hold-out does not confirm it)"),
        (facts(holdout="none"), "MET on the KPI set only"),
        (facts(), "MET"),
    ],
)
def test_the_first_that_applies_is_the_verdict(given: v.Facts, expected: str) -> None:
    assert v.verdict_of(given) == expected


def test_every_combination_has_one_of_six_and_a_plain_met_needs_everything() -> None:
    seen = set()
    for *flags, holdout in product(*[(True, False)] * 4, ("confirms", "not_confirmed", "contradicts", "none")):
        one = v.Facts(*flags, holdout)  # type: ignore[arg-type]
        seen.add(v.verdict_of(one))
        assert (v.verdict_of(one) == v.MET) == (all(flags) and holdout == "confirms")
        assert v.fails(v.verdict_of(one)) == (not one.kpi or holdout == "contradicts")
    assert seen == set(v.VERDICTS)


@pytest.mark.parametrize(
    ("operator", "lower", "missed", "says"),
    [
        ("<", 0.01, 0, "contradicts"),
        ("<=", 0.01, 0, "not_confirmed"),
        ("<", 0.0099, 0, "not_confirmed"),
        ("<", 0.0, 3, "not_confirmed"),
        ("<", 0.0, 4, "contradicts"),
    ],
)
def test_a_holdout_contradicts_where_its_lower_bound_or_so_many_misses_do(
    operator: str, lower: float, missed: int, says: str
) -> None:
    alarms = 12 if lower else 0
    point = {"fp": alarms, "tn": 300 - alarms, "tp": 150 - missed, "fn": missed, "far_interval": [lower, 0.5]}
    kpi_point = {"tp": 180, "fn": 0}
    assert holdout_says(point, parse_kpi_target(f"FAR {operator} 1% at recall=100%"), kpi_point)[0] == says
