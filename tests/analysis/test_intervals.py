"""Exact intervals against scipy's independent implementation, and the sample sizes of docs/verdict.md."""

from __future__ import annotations

import pytest
from scipy.stats import binomtest

from deft_aoi.analysis.intervals import (
    clopper_pearson,
    design_effect,
    mcnemar_exact,
    misses_p_value,
    sample_size_for,
    upper_bound,
)


@pytest.mark.parametrize(("k", "n"), [(0, 1), (1, 1), (0, 400), (3, 400), (399, 400), (400, 400), (17, 299), (0, 2995)])
@pytest.mark.parametrize("level", [0.9, 0.95, 0.99])
def test_clopper_pearson_equals_scipys_exact_interval(k: int, n: int, level: float) -> None:
    expected = binomtest(k, n).proportion_ci(2 * level - 1, method="exact")
    assert clopper_pearson(k, n, level) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_no_trials_say_nothing() -> None:
    assert clopper_pearson(0, 0) == (0.0, 1.0)
    with pytest.raises(ValueError, match="k must be"):
        clopper_pearson(3, 2)


@pytest.mark.parametrize(("far", "n"), [(0.001, 2995), (0.01, 299), (0.005, 598), (1.0, 1)])
def test_sample_size_is_the_smallest_that_supports_the_target(far: float, n: int) -> None:
    assert sample_size_for(far) == n
    if far < 1:
        assert upper_bound(0, n) < far <= upper_bound(0, n - 1)


def test_299_clean_parts_support_one_percent_and_298_do_not() -> None:
    assert upper_bound(0, 299) < 0.01 < upper_bound(0, 298)


def test_mcnemar_is_the_exact_sign_test() -> None:
    assert mcnemar_exact(0, 0) == 1.0
    assert mcnemar_exact(0, 5) == pytest.approx(2 * 0.5**5)
    assert mcnemar_exact(4, 4) == 1.0


def test_parts_of_one_board_that_fail_together_count_as_one() -> None:
    board = [b for b in range(20) for _ in range(10)]
    together = [b == 3 for b in board]
    assert design_effect(together, board) == pytest.approx(20 / 19 * (0.95**2 + 19 * 0.05**2) * 100 / 200**2 / (0.0475 / 200))
    spread = [i % 20 == 0 for i in range(200)]
    assert design_effect(spread, board) == 1.0
    low, high = clopper_pearson(10, 200, effect=10)
    assert (low, high) == clopper_pearson(1, 20)


def test_few_boards_are_not_corrected() -> None:
    assert design_effect([True] + [False] * 17, [i % 9 for i in range(18)]) is None
    assert design_effect([False] * 20, range(20)) == 1.0


def test_misses_on_new_boards_against_all_orders() -> None:
    def product(k: int, m: int, n: int) -> float:
        out = 1.0
        for i in range(k):
            out *= (m - i) / (n + m - i)
        return out

    for k in range(6):
        assert misses_p_value(k, 150, 180) == pytest.approx(product(k, 150, 180))
    assert misses_p_value(4, 150, 180) < 0.05 < misses_p_value(3, 150, 180)
    # two KPI defects and one new one: the new one is below the second smallest in 2 of 3 orders
    assert misses_p_value(1, 1, 2, allowed=1) == pytest.approx(2 / 3)
