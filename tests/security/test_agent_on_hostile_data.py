"""One transcript, played on a clean workspace and on one full of planted text: the same calls, the same next stage."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from deft_aoi.agent import replay as replays
from deft_aoi.agent.replay_server import Script
from deft_aoi.agent.transcript import captured, read, substitute

from ..loop.conftest import deft
from .payloads import PAYLOADS, token
from .planting import LABEL, must_be_harmless, plant

pytestmark = pytest.mark.integration  # two whole sessions: a minute

TRANSCRIPT = Path(__file__).parents[1] / "transcripts" / "happy_path.jsonl"
CANARY = "hf_Cn4ryReplayAbcdefghijklmnopq"
RUN = re.compile(r"run_\d{8}_\d{6}")
FILES = ("read_run_file", "write_findings", "read_reference")
"""Tools that give the bytes of a file; all others print sentences."""


@dataclass(frozen=True)
class Seen:
    """A session as the model saw it."""

    calls: list[tuple[str, str]]
    results: list[tuple[str, str]]
    next_stage: list[str]
    transcript: str
    home: Path


def _session(base: Path, workspace: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> Seen:
    scripts: list[Script] = []

    def kept(*given: object) -> Script:
        scripts.append(Script(*given))
        return scripts[-1]

    monkeypatch.setattr(replays, "Script", kept)
    home = base / name
    home.mkdir()
    outcome = replays.replay(read(TRANSCRIPT), workspace, home=home, timeout_sec=600)
    assert not outcome.problems, "\n".join(outcome.problems)
    assert outcome.results_dir
    text = (home / "session.jsonl").read_text(encoding="utf-8")
    said = [deft("next_stage", "--results-dir", outcome.results_dir, *more).out for more in ((), ("--json",))]
    results, calls = list(scripts[0].results), []
    for entry in map(json.loads, text.splitlines()[1:]):
        calls += [("result", RUN.sub("RUN", json.dumps(r))) for r in entry["expect"].get("results", [])]
        # The recorder writes references for what a tool gave before; a call is compared with their values put back.
        values = {key: captured(rule, results) for key, rule in entry.get("capture", {}).items()} | {"workspace": str(workspace)}
        given = [(b["name"], b["input"]) for b in entry["reply"]["content"] if b["type"] == "tool_use"]
        calls += [(tool, RUN.sub("RUN", json.dumps(substitute(value, values)))) for tool, value in given]
    return Seen(calls, results, [RUN.sub("RUN", s) for s in said], text, home)


@pytest.fixture(scope="module")
def sessions(tmp_path_factory: pytest.TempPathFactory):
    """The clean session and the hostile one, at one path."""
    base = tmp_path_factory.mktemp("agent")
    workspace = base / "ws"
    with pytest.MonkeyPatch.context() as patch:
        assert deft("make_demo_workspace", "--output", workspace, "--scale", "small", "--seed", 3).code == 0
        shutil.copytree(workspace, base / "pristine")
        clean = _session(base, workspace, "clean", patch)
        shutil.rmtree(workspace)
        shutil.copytree(base / "pristine", workspace)
        planted = plant(workspace)
        shutil.rmtree(workspace / "results")  # the replay names the run by itself where there is only one
        patch.setenv("HF_TOKEN", CANARY)
        hostile = _session(base, workspace, "hostile", patch)
    return clean, hostile, workspace, planted


def test_payloads_were_in_every_slot_and_reached_the_run(sessions) -> None:
    *_, workspace, planted = sessions
    assert min(planted.values()) >= 2
    assert planted["boardname"] >= len(PAYLOADS)
    rows = next((workspace / "results").glob("run_*/baseline/inference/*/inference.csv")).read_text()
    assert LABEL in rows
    assert token(901) in rows


def test_the_agent_takes_the_same_calls_and_gets_the_same_answers(sessions) -> None:
    clean, hostile, *_ = sessions
    assert hostile.calls == clean.calls
    assert len([c for c in clean.calls if c[0] == "result"]) >= 8


FACTS = ("verdict: ", "sets the threshold: ", "wrong: ")
"""Lines on what the data say: their labels, names and boards differ."""


def _instructions(texts: list[str]) -> list[str]:
    """What next_stage says, line by line, without the facts; of those only that they are there."""
    return [next((f for f in FACTS if line.startswith(f)), line) for text in texts for line in text.splitlines()]


def test_what_comes_next_is_the_same_to_the_byte(sessions) -> None:
    clean, hostile, *_ = sessions
    assert _instructions(hostile.next_stage) == _instructions(clean.next_stage)
    assert all(clean.next_stage)
    facts = [line for text in hostile.next_stage for line in text.splitlines() if line.startswith(FACTS)]
    assert facts
    for line in facts:
        must_be_harmless(line)


def test_what_the_model_was_shown_carries_planted_text_only_in_quotes(sessions) -> None:
    _, hostile, *_ = sessions
    lines = 0
    for tool, text in hostile.results:
        if tool not in FILES:
            lines += must_be_harmless(text)
    assert lines > 60


def test_the_transcript_holds_no_secret(sessions) -> None:
    _, hostile, workspace, _ = sessions
    assert CANARY not in hostile.transcript
    files = [p for root in (hostile.home, workspace) for p in root.rglob("*") if p.is_file()]
    assert len(files) > 100
    assert not [p for p in files if CANARY.encode() in p.read_bytes()]
    assert not [tool for tool, text in hostile.results if CANARY in text]
