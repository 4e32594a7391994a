from __future__ import annotations

import json
from pathlib import Path

import pytest

from deft_aoi.contract.stages import END_REASONS, NAMES, STAGES
from deft_aoi.loop.stages import stage_functions
from deft_aoi.record import state
from deft_aoi.report.sections import PHASES

SCHEMAS = Path(__file__).resolve().parents[2] / "schemas"
WITHOUT_WORK = {"approve", "loop_stop", "usage", "note"}
"""Stages that are only recorded."""


def enums(schema: str) -> list[list[str]]:
    """Every list of allowed values in a schema."""
    found: list[list[str]] = []

    def walk(node: object) -> None:
        if isinstance(node, dict):
            if isinstance(node.get("enum"), list):
                found.append(node["enum"])
            for value in node.values():
                walk(value)
        elif isinstance(node, list):
            for value in node:
                walk(value)

    walk(json.loads((SCHEMAS / f"{schema}.schema.json").read_text()))
    return found


def test_the_table_the_functions_and_the_schema_name_the_same_stages():
    assert list(NAMES) in enums("log_event")
    assert set(stage_functions()) == set(NAMES) - WITHOUT_WORK
    assert len(NAMES) == len(STAGES)


@pytest.mark.parametrize("schema", ["log_event", "deft_state"])
def test_the_reasons_for_an_end_are_those_of_the_schemas(schema):
    assert any(set(END_REASONS) <= set(values) for values in enums(schema))


def test_each_stage_has_one_place_in_the_order():
    order = (*state.BEGIN, *state.ITERATION)
    assert len(order) == len(set(order))
    assert set(order) == {spec.name for spec in STAGES if spec.follows}
    assert state.BASELINE == ("train", "inference", "evaluate", "rca")
    assert {spec.phase for spec in STAGES} == set(PHASES)
