"""The hand-written check of a line against its schema: equal on every value of a large corpus."""

from __future__ import annotations

import copy
import gc
import itertools
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from deft_aoi.contract.errors import HardStop
from deft_aoi.contract.schema import schema_path
from deft_aoi.record import log_event

GOOD: dict[str, Any] = {
    "seq": 4,
    "ts": "2026-01-01T12:00:00.123Z",
    "iter": "iter1",
    "stage": "train",
    "status": "ok",
    "summary": "done",
    "duration_sec": 1.5,
    "context_tokens": 0,
    "data": {"state": {"far_fraction": 0.1}},
    "op_id": "iter1/train/1",
    "prev": "a" * 64,
    "crc": "0" * 8,
}

ODD: tuple[Any, ...] = (
    None,
    True,
    False,
    0,
    1,
    -1,
    1.0,
    1.5,
    0.0,
    -0.5,
    1e400,
    10**30,
    "",
    "a",
    "ok",
    "error",
    "run",
    "iter0",
    "iter1",
    "iter01",
    "iter1\n",
    "baseline",
    "note",
    "train\n",
    "approve",
    "loop_stop",
    [],
    {},
    [1],
    {"a": 1},
    "a" * 64,
    "a" * 64 + "\n",
    "A" * 64,
    "0" * 8,
    "0" * 9,
    "2026-01-01T12:00:00Z",
    "2026-01-01T12:00:00Z\n",
    "2026-01-01T12:00:00",
    "2026-01-01 12:00:00Z",
    "x" * 400,
    "x" * 401,
    "\u00e4" * 400,
    "a\nb",
    "a\x00",
    "a\x1b[2J",
    "\u202e",
    "\u200b",
    "\u2028",
    "\ufeff",
    "\ud800",
    "a/b.c_d-e",
    "/a",
    "a b",
    "x" * 128,
    "x" * 129,
    {"state": 1},
    {"state": {}},
    {"state": {"stages": 1}},
    {"state": {"stage_completed": 1}},
    {"reason": "kpi_met"},
    {"reason": "done"},
    {"reason": None},
    {"reason": ["kpi_met"]},
    {"config": 1},
    {"config": {}},
    {"plan_digest": 3},
    {"plan_digest": "d"},
    {"plan_digest": None},
    {"state": None},
)


@pytest.fixture(scope="module")
def schema() -> Draft202012Validator:
    return Draft202012Validator(json.loads(schema_path("log_event").read_text(encoding="utf-8")))


def agree(schema: Draft202012Validator, event: Any) -> bool:
    by_schema, by_hand = schema.is_valid(event), not log_event.check_event(event)
    assert by_schema == by_hand, f"schema says {by_schema}, by hand {log_event.check_event(event)!r}: {event!r}"
    return by_hand


def test_schema_and_check_agree_on_every_field_and_odd_value(schema):
    assert agree(schema, GOOD)
    verdicts = []
    for field, value in itertools.product(log_event.FIELDS, ODD):
        if value == 1e400 and field == "duration_sec":
            continue  # infinity is no JSON; the check refuses it, a schema cannot see it
        for stage in ("train", "loop_stop", "approve"):
            event = {**copy.deepcopy(GOOD), "stage": stage, field: value}
            if field != "data" and stage == "loop_stop":
                event["data"] = {"reason": "kpi_met"}
            verdicts.append(agree(schema, event))
    assert 100 < sum(verdicts) < len(verdicts) - 500


def test_schema_and_check_agree_on_missing_and_further_fields(schema):
    for field in log_event.FIELDS:
        assert not agree(schema, {k: v for k, v in GOOD.items() if k != field})
    assert not agree(schema, {**GOOD, "more": 1})
    for other in (None, [], "x", 3):
        assert not agree(schema, other)


JSON_VALUE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=150, deadline=None)
@given(field=st.sampled_from(log_event.FIELDS), value=JSON_VALUE)
def test_schema_and_check_agree_on_random_values(schema, field, value):
    agree(schema, {**GOOD, field: value})


@settings(max_examples=100, deadline=None)
@given(data=st.dictionaries(st.text(max_size=8), JSON_VALUE, max_size=4), summary=st.text(max_size=500))
def test_what_is_encoded_decodes_to_itself(data, summary):
    data.pop("state", None)
    event = {
        **GOOD,
        "seq": 1,
        "prev": log_event.GENESIS,
        "data": log_event.plain(data),
        "summary": log_event.one_line_summary(summary),
    }
    event["crc"] = log_event.crc_of(event)
    raw = log_event.encode(event)
    assert raw.count(b"\n") == 1
    assert raw.isascii()
    assert log_event.decode(raw, 1, log_event.GENESIS) == event


@pytest.mark.parametrize(
    "change",
    [
        lambda raw: raw.replace(b'"seq":1', b'"seq":2'),
        lambda raw: raw.replace(b'"train"', b'"rca"'),
        lambda raw: raw.replace(b",", b", ", 1),
        lambda raw: raw.replace(b'{"', b'{"seq":1,"', 1),
        lambda raw: raw[:-1] + b" \n",
        lambda raw: b"\x00" * (len(raw) - 1) + b"\n",
        lambda raw: b"[" * 3000 + b"\n",
    ],
)
def test_a_changed_line_is_refused(change):
    event = {**GOOD, "seq": 1, "prev": log_event.GENESIS}
    event["crc"] = log_event.crc_of(event)
    gc.disable()  # other tests' garbage, finalised while the parser is at its deepest, has no room left to say what it is
    try:
        with pytest.raises(HardStop, match="damaged at line 1"):
            log_event.decode(change(log_event.encode(event)), 1, log_event.GENESIS)
    finally:
        gc.enable()
