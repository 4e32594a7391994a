"""A percent target is a decimal, never the nearest binary float."""

from __future__ import annotations

import pytest

from deft_aoi.contract.kpi_target import parse_kpi_target


@pytest.mark.parametrize("n", [1000, 2000, 10_000])
@pytest.mark.parametrize("tenths", range(1, 40))
def test_a_share_that_lies_on_the_bound_is_at_most_it_and_not_below_it(tenths: int, n: int) -> None:
    count = tenths * n // 1000
    below, most = (parse_kpi_target(f"FAR {op} {tenths / 10}% at recall=100%") for op in ("<", "<="))
    assert not below.meets(count, n, 5, 5)
    assert most.meets(count, n, 5, 5)
    assert below.meets(count - 1, n, 5, 5)
    assert not most.meets(count + 1, n, 5, 5)


@pytest.mark.parametrize(("recall", "tp", "n"), [("99.5", 199, 200), ("66.7", 667, 1000), ("98.3", 983, 1000)])
def test_recall_is_compared_exactly_too(recall: str, tp: int, n: int) -> None:
    target = parse_kpi_target(f"FAR < 1% at recall>={recall}%")
    assert target.meets(0, 10, tp, n)
    assert not target.meets(0, 10, tp - 1, n)
