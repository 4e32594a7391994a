"""Exact intervals against scipy's independent implementation, and the sample sizes of the design."""

from __future__ import annotations

import pytest
from scipy.stats import binomtest

from deft_aoi.analysis.intervals import clopper_pearson, mcnemar_exact, sample_size_for, upper_bound


@pytest.mark.parametrize(("k", "n"), [(0, 1), (1, 1), (0, 400), (3, 400), (399, 400), (400, 400), (17, 299), (0, 2995)])
@pytest.mark.parametrize("level", [0.9, 0.95, 0.99])
def test_clopper_pearson_equals_scipys_exact_interval(k: int, n: int, level: float) -> None:
    expected = binomtest(k, n).proportion_ci(level, method="exact")
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
