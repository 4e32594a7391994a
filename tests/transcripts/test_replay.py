"""Every transcript in this folder holds: only the model is played, the SDK, the runner and the scripts are real.

``make replay`` runs these. The workspace is rendered once (``make_demo_workspace.py --scale small``); each transcript
gets a copy, prepared by the function that its header names under ``setup``.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import deft_aoi
from deft_aoi.agent.replay import replay
from deft_aoi.agent.transcript import read

pytestmark = pytest.mark.integration  # minutes: `make replay` and CI run them

SCRIPTS = Path(deft_aoi.__file__).parents[1]
HERE = Path(__file__).parent
TRANSCRIPTS = sorted(HERE.glob("*.jsonl"))
REQUIRED = {
    "happy_path",
    "max_iterations",
    "gate_urgent_prompt",
    "gate_question",
    "gate_changed_parameter",
    "gate_refusal",
    "resume_after_compaction",
    "resume_after_kill",
    "preseeded_baseline",
    "unpaired_pool",
    "leakage",
    "job_failure",
    "overloaded_api",
    "skips_gate",
    "hand_writes_log",
    "invents_path",
    "retries_hard_stop",
    "planted_instruction",
}


def load_setups():
    """The functions of ``evals/setups.py``, which evaluation cases use too."""
    specification = importlib.util.spec_from_file_location("evals_setups", SCRIPTS.parent / "evals" / "setups.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module.SETUPS


SETUPS = load_setups()


@pytest.fixture(scope="session")
def demo(tmp_path_factory):
    """A small rendered workspace, made once."""
    target = tmp_path_factory.mktemp("demo") / "workspace"
    subprocess.run(
        [sys.executable, str(SCRIPTS / "make_demo_workspace.py"), "--output", str(target), "--scale", "small"],
        check=True,
        capture_output=True,
    )
    return target


@pytest.fixture(scope="session")
def recordings():
    """The transcripts that the sessions below wrote, by name."""
    return {}


@pytest.mark.parametrize("path", TRANSCRIPTS, ids=lambda p: p.stem)
def test_transcript_holds(path, demo, tmp_path, recordings):
    transcript = read(path)
    workspace, home = tmp_path / "workspace", tmp_path / "home"
    shutil.copytree(demo, workspace)
    home.mkdir(parents=True)
    for name in transcript.header.get("setup", []):
        SETUPS[name](workspace, home)
    outcome = replay(transcript, workspace, home=home, timeout_sec=900)
    print(outcome.line())
    assert not outcome.problems, "\n".join(outcome.problems)
    recordings[path.stem] = (home / "session.jsonl").read_text()


def test_no_required_transcript_is_missing():
    assert {p.stem for p in TRANSCRIPTS} >= REQUIRED


def test_a_transcript_that_proves_nothing_is_refused(tmp_path):
    from deft_aoi.contract.errors import HardStop

    empty = tmp_path / "x.jsonl"
    for text in ("", '{"deft_transcript": 1, "prompt": "x"}\n', '{"prompt": "x"}\n{"reply": {}}\n'):
        empty.write_text(text)
        with pytest.raises(HardStop):
            read(empty)


def replay_lines(tmp_path, demo, *turns, **header):
    path = tmp_path / "t.jsonl"
    lines = [{"deft_transcript": 1, "prompt": "look at ${workspace}", **header}, *turns]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return replay(read(path), demo, home=tmp_path / "home")


TEXT = {"reply": {"content": [{"type": "text", "text": "done"}]}}


def call(tool, **given):
    return {"reply": {"content": [{"type": "tool_use", "name": tool, "input": given}]}}


def test_drift_unused_and_missing_turns_fail_loudly(tmp_path, demo):
    (tmp_path / "home").mkdir()
    drift = replay_lines(tmp_path, demo, {"expect": {"user": {"contains": ["another prompt"]}}, **TEXT})
    assert any("another prompt" in p for p in drift.problems)
    unused = replay_lines(tmp_path, demo, TEXT, TEXT)
    assert any("unused" in p for p in unused.problems)
    missing = replay_lines(tmp_path, demo, call("next_stage", results_dir="/nowhere"))
    assert any("only 1 turns" in p for p in missing.problems)
    wrong_end = replay_lines(tmp_path, demo, TEXT, ends={"exit": 5})
    assert any("exit code 0, expected 5" in p for p in wrong_end.problems)
    uncaptured = replay_lines(tmp_path, demo, call("next_stage", results_dir="${nothing}"))
    assert uncaptured.problems


def test_a_session_ends_at_its_budget_at_a_refusal_and_not_at_a_cut_turn(tmp_path, demo):
    (tmp_path / "home").mkdir()
    spent = replay_lines(tmp_path, demo, call("status", results_dir="/nowhere"), args=["--max-turns=1"], ends={"exit": 4})
    assert not spent.problems, spent.problems
    unspent = replay_lines(tmp_path, demo, call("status", results_dir="/nowhere"), TEXT, args=["--max-turns=2"], ends={"exit": 2})
    assert not unspent.problems, unspent.problems
    refused = {"reply": {**TEXT["reply"], "stop_reason": "refusal"}}
    assert not replay_lines(tmp_path, demo, refused, ends={"exit": 3}).problems
    cut = {"reply": {**TEXT["reply"], "stop_reason": "max_tokens"}}
    goes_on = {"expect": {"user": {"contains": ["cut at its length limit"]}}, **TEXT}
    assert not replay_lines(tmp_path, demo, cut, goes_on, ends={"exit": 0}).problems


def test_a_call_that_was_cut_is_not_run_and_is_asked_for_again(tmp_path, demo):
    (tmp_path / "home").mkdir()
    call_cut = {"reply": {**call("status", results_dir="/now")["reply"], "stop_reason": "max_tokens"}}
    not_run = {"expect": {"results": [{"tool": "status", "contains": ["not run: your turn was cut"]}]}, **TEXT}
    done = replay_lines(tmp_path, demo, call_cut, not_run, ends={"exit": 0})
    assert not done.problems, done.problems
    assert done.tool_calls == 0


def test_an_empty_turn_does_not_end_the_session(tmp_path, demo):
    (tmp_path / "home").mkdir()
    empty = {"reply": {"content": [], "stop_reason": "end_turn"}}
    goes_on = {"expect": {"user": {"contains": ["Your turn was empty"]}}, **TEXT}
    done = replay_lines(tmp_path, demo, empty, goes_on, ends={"exit": 0})
    assert not done.problems, done.problems


def test_nothing_but_loopback_can_be_reached(tmp_path):
    from deft_aoi.agent.replay import _environment

    environment = _environment(tmp_path, "http://127.0.0.1:1")
    for code in (
        "import socket; socket.create_connection(('192.0.2.1', 80), 1)",
        "import urllib.request as u; u.build_opener(u.ProxyHandler({})).open('http://example.com', timeout=1)",
        "import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('192.0.2.1', 53))",
    ):
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
        assert "nothing but loopback" in done.stderr, done.stderr
    listening = "import socket; s=socket.create_server(('127.0.0.1',0)); socket.create_connection(s.getsockname()).close()"
    assert subprocess.run([sys.executable, "-c", listening], env=environment).returncode == 0


@pytest.mark.parametrize("name", ["gate_changed_parameter", "max_iterations"])
def test_a_recorded_session_replays(name, demo, tmp_path, recordings):
    """What ``run_agent.py`` wrote is itself a transcript that holds, on another copy of the workspace.

    The second is a whole session of three iterations: the run's folder, pictures and digests of the replay are its own, and it
    stays within the bar of 25 tool calls and 20,000 bytes of tool output.
    """
    if name not in recordings:
        test_transcript_holds(HERE / f"{name}.jsonl", demo, tmp_path / "first", recordings)
    recorded, workspace, home = tmp_path / "recorded.jsonl", tmp_path / "again", tmp_path / "home"
    recorded.write_text(recordings[name])
    shutil.copytree(demo, workspace)
    home.mkdir()
    header = read(recorded).header
    assert set(header["ends"]) >= {"exit", "conversations"}
    outcome = replay(read(recorded), workspace, home=home, timeout_sec=900)
    print(outcome.line())
    assert not outcome.problems, "\n".join(outcome.problems)
    if name == "max_iterations":
        assert header["ends"]["status"] == "max_iterations"
        assert outcome.tool_calls <= 25
        assert outcome.tool_bytes <= 20_000
        assert len(list((workspace / "results").glob("run_*/iter*_summary.md"))) == 3


def test_a_recording_that_ended_otherwise_does_not_hold(tmp_path, demo):
    (tmp_path / "home").mkdir()
    outcome = replay_lines(tmp_path, demo, TEXT, ends={"exit": 0, "conversations": 1, "status": "max_iterations"})
    assert any("status None" in p for p in outcome.problems)
