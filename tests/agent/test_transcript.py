"""What a recorder makes of values that flow from a tool's result into a later call."""

from __future__ import annotations

import json

from deft_aoi.agent.transcript import Recorder, captured

PRINTED = """run /w/results/run_20260101_120000
baseline rca             3.0 s  baseline: 8 weak samples in /w/results/run_20260101_120000
review needed: open /w/results/run_20260101_120000/baseline/rca_results/2026/weak_overview.png (numbered)
then: python scripts/run_loop.py --results-dir /w/results/run_20260101_120000 --until-agent"""


def recorded(tmp_path, **given):
    recorder = Recorder(tmp_path / "t.jsonl", {"prompt": "x"})
    recorder.result("run_loop", PRINTED)
    recorder.turn({}, {"content": [{"type": "tool_use", "name": "t", "input": given}]})
    entry = json.loads((tmp_path / "t.jsonl").read_text().splitlines()[1])
    return entry["reply"]["content"][0]["input"], entry.get("capture", {})


def test_a_path_becomes_a_reference_that_gives_the_next_runs_path(tmp_path):
    given, capture = recorded(tmp_path, results_dir="/w/results/run_20260101_120000")
    ((name, rule),) = capture.items()
    assert given == {"results_dir": f"${{{name}}}"}
    again = PRINTED.replace("120000", "130000").replace("3.0 s", "17.2 s")
    assert captured(rule, [("run_loop", again)]) == "/w/results/run_20260101_130000"


def test_a_plain_word_stays_what_the_model_said(tmp_path):
    given, capture = recorded(tmp_path, iteration="baseline")
    assert given == {"iteration": "baseline"}
    assert not capture


def test_no_mark_holds_a_number_that_another_run_has_not(tmp_path):
    _, capture = recorded(tmp_path, path="/w/results/run_20260101_120000/baseline/rca_results/2026/weak_overview.png")
    assert [rule["after"] for rule in capture.values()] == ["review needed: open "]


def test_billed_tokens_come_from_recorded_usage_only(tmp_path):
    from deft_aoi.agent.replay import billed_tokens
    from deft_aoi.agent.transcript import Transcript, Turn

    def recorded(*usages):
        turns = [Turn(n, {}, {"usage": usage} if usage else {"text": "x"}, {}) for n, usage in enumerate(usages)]
        return Transcript(tmp_path / "t.jsonl", {}, turns)

    usage = {"input_tokens": 5, "cache_read_input_tokens": 100, "cache_creation_input_tokens": 20, "output_tokens": 7}
    assert billed_tokens(recorded(usage, usage)) == 264
    assert billed_tokens(recorded(usage, None)) is None
    assert billed_tokens(recorded()) is None
