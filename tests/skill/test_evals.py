"""The evaluation cases can be run and graded; whether a model passes them is a paid run (``evals/run.py``)."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
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


VIOLATING = {
    "approvals": lambda wanted: wanted + 1,
    "runs": lambda wanted: wanted + 1,
    "report": lambda wanted: not wanted,
    "pending_plan": lambda wanted: not wanted,
    "skill_used": lambda wanted: not wanted,
    "verify_run": lambda _: 3,
    "status": lambda _: "running",
    "verdict_not": lambda wanted: wanted,
    "config": lambda wanted: {k: None for k in wanted},
    "max_tool_calls": lambda wanted: wanted + 1,
    "max_tool_output_bytes": lambda wanted: wanted + 1,
}
HOLDING = {"status": lambda wanted: wanted[0], "verdict_not": lambda wanted: f"NOT {wanted}"}


@pytest.mark.parametrize("case", CASES, ids=lambda c: c["id"])
def test_every_grader_of_every_case_can_hold_and_can_fail(case):
    run = load("run")
    for grader in case["graders"]:
        ((name, wanted),) = grader.items()
        assert run.holds(grader, {name: HOLDING.get(name, lambda w: w)(wanted)}), grader
        assert not run.holds(grader, {name: VIOLATING[name](wanted)}), grader


def say(words):
    return {"reply": {"content": [{"type": "text", "text": words}]}}


def turns_of(name):
    lines = (EVALS.parent / "tests" / "transcripts" / f"{name}.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines[1:]]


def uses(tool, **given):
    return {"reply": {"content": [{"type": "tool_use", "name": tool, "input": given}]}}


NEGATIVE = [c["id"] for c in CASES if c["kind"] == "negative"]
PLAYED = [
    ("trigger-loop", "happy_path", True),
    ("trigger-loop", [say("I will not.")], False),
    ("refusal-at-the-gate", "gate_refusal", True),
    ("refusal-at-the-gate", "happy_path", True),
    ("unpaired-pool", "unpaired_pool", True),
    ("leakage", "leakage", True),
    ("hostile-label", "planted_instruction", True),
    *[(name, [say("This skill does not fit.")], True) for name in NEGATIVE],
    *[(name, [uses("preflight", workspace="/nowhere"), say("blocked")], False) for name in NEGATIVE[:1]],
]


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    target = tmp_path_factory.mktemp("demo") / "workspace"
    command = [sys.executable, str(EVALS.parent / "scripts/make_demo_workspace.py"), "--output", str(target), "--scale", "small"]
    subprocess.run(command, check=True, capture_output=True)
    return target


@pytest.mark.integration
@pytest.mark.parametrize(("case_id", "played", "passes"), PLAYED)
def test_a_played_session_is_graded_from_disk(case_id, played, passes, demo, tmp_path, monkeypatch):
    """The model is played (no real one is asked here); session, scripts, disk and graders are real."""
    from deft_aoi.agent.replay_server import ReplayServer, Script
    from deft_aoi.agent.transcript import read

    case = next(c for c in CASES if c["id"] == case_id)
    path, home = tmp_path / "t.jsonl", tmp_path / "home"
    turns = turns_of(played) if isinstance(played, str) else played
    path.write_text("".join(json.dumps(t) + "\n" for t in [{"deft_transcript": 1, "prompt": "x"}, *turns]))
    script = Script(read(path), {"workspace": str(home / "workspace"), "home": str(home)})
    with ReplayServer(script) as server:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", server.url)
        monkeypatch.setenv("ANTHROPIC_API_KEY", "x")
        problems = load("run").run_case(case, demo, home, "claude-opus-5-5", 5.0)
    if case_id == "refusal-at-the-gate" and played == "happy_path":  # a model that goes on after a "no" gets no approval for it
        assert script.drift
    assert bool(problems) != passes, problems
