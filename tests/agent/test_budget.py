"""What a session may cost."""

from __future__ import annotations

import pytest

from deft_aoi.agent.budget import Limits, Meter, load_prices, rates
from deft_aoi.contract.errors import Blocked, UsageError

CHEAP = {"input": 1.0, "output": 10.0, "cache_write": 2.0, "cache_read": 0.1}
DEAR = dict.fromkeys(CHEAP, 9.0)
TABLE = {"as_of": "2026-01-01", "models": {"m-1": CHEAP, "m-1-5": DEAR}}
USAGE = {
    "input_tokens": 1_000_000,
    "output_tokens": 100_000,
    "cache_creation_input_tokens": 500_000,
    "cache_read_input_tokens": None,
}


def test_money_is_counted_by_the_longest_listed_prefix():
    assert rates("m-1-20260101", TABLE)["input"] == 1.0
    assert rates("m-1-5", TABLE)["input"] == 9.0
    assert rates("m-10", TABLE) is None
    meter = Meter(Limits(), "m-1", TABLE)
    meter.add(USAGE)
    assert meter.usd == pytest.approx(1.0 + 1.0 + 1.0)
    assert meter.tokens == 1_600_000


@pytest.mark.parametrize("limits", [Limits(turns=1), Limits(tokens=1_600_000), Limits(usd=3.0)])
def test_each_limit_stops_the_session(limits):
    meter = Meter(limits, "m-1", TABLE)
    meter.check()
    meter.add(USAGE)
    with pytest.raises(Blocked):
        meter.check()


def test_a_money_limit_without_a_price_is_refused():
    with pytest.raises(UsageError):
        Meter(Limits(usd=1.0), "unknown", TABLE)
    assert Meter(Limits(), "unknown", TABLE).usd is None


def test_the_shipped_table_is_dated_and_complete():
    table = load_prices()
    assert len(table["as_of"]) == 10
    assert table["source"].startswith("https://")
    for name, row in table["models"].items():
        assert set(row) == {"input", "output", "cache_write", "cache_read"}, name
        assert row["output"] > row["input"] > row["cache_read"] > 0
