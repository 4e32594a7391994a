"""The evaluation cases can be run and graded; whether a model passes them is a paid run (``evals/run.py``)."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

import deft_aoi

EVALS = Path(deft_aoi.__file__).parents[2] / "evals"
CASES = json.loads((EVALS / "evals.json").read_text())["evals"]


def load(name):
    specification = importlib.util.spec_from_file_location(f"evals_{name}", EVALS / f"{name}.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def test_every_kind_of_case_is_there():
    assert {"positive", "negative", "resume", "hostile"} == {c["kind"] for c in CASES}
    assert len({c["id"] for c in CASES}) == len(CASES) >= 18


@pytest.mark.parametrize("case", CASES, ids=lambda c: c["id"])
def test_graders_read_facts_that_exist_and_setups_are_known(case, tmp_path):
    run = load("run")
    assert case["graders"]
    (tmp_path / "w").mkdir()
    facts = run.observe(tmp_path / "w", tmp_path, {}, 0)
    for grader in case["graders"]:
        run.holds(grader, facts)
    assert case.get("setup", "open_run") in load("setups").SETUPS


def test_a_misspelt_grader_is_an_error_and_an_empty_disk_fails_the_positive_cases(tmp_path):
    run = load("run")
    facts = run.observe(tmp_path, tmp_path, {}, 0)
    with pytest.raises(KeyError):
        run.holds({"raport": True}, facts)
    for case in CASES:
        if case["kind"] == "positive" and {"report": True} in case["graders"]:
            assert not all(run.holds(g, facts) for g in case["graders"]), case["id"]
