"""Token usage: each API message once, each in its stage."""

from __future__ import annotations

import json

import pytest

from deft_aoi.agent import usage
from deft_aoi.contract.errors import Blocked, UsageError


def event(seq, stage, minute, iteration="run", status="ok"):
    return {"seq": seq, "iter": iteration, "stage": stage, "status": status, "ts": f"2026-01-01T10:{minute:02d}:00Z"}


EVENTS = [
    event(1, "approve", 10), event(2, "assets", 11), event(3, "train", 12, "baseline", "started"),
    event(4, "train", 20, "baseline"), event(5, "evaluate", 30, "baseline"), event(6, "note", 31), event(7, "loop_stop", 40),
]  # fmt: skip


def line(message_id, minute, out=10, model="m", second=0, **more):
    message = {
        "id": message_id,
        "model": model,
        "usage": {"input_tokens": 5, "output_tokens": out, "cache_read_input_tokens": 100},
    }
    return {"type": "assistant", "timestamp": f"2026-01-01T10:{minute:02d}:{second:02d}.500Z", "message": message, **more}


def write(path, *entries, tail=""):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(e) + "\n" for e in entries) + tail)
    return path


def test_a_message_on_three_lines_and_in_two_files_counts_once_with_its_largest_values(tmp_path):
    a = write(tmp_path / "a.jsonl", line("m1", 15, out=1), line("m1", 15, out=7, second=1), line("m1", 15, out=3, second=2))
    b = write(tmp_path / "b.jsonl", line("m1", 15, out=7))
    found = usage.align(EVENTS, usage.collect([a, b]))
    assert found["stages"]["baseline/train"] == {
        "input_tokens": 5, "output_tokens": 7, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 100, "messages": 1,
    }  # fmt: skip


def test_what_lies_outside_the_run_is_not_the_runs(tmp_path):
    path = write(tmp_path / "a.jsonl", line("early", 5), line("in", 15), line("late", 55))
    found = usage.align(EVENTS, usage.collect([path]))
    assert found["total"]["messages"] == 1
    assert found["outside"] == {"before": 1, "after": 1}


def test_windows_end_with_the_stages_ok_event_and_notes_have_none(tmp_path):
    path = write(tmp_path / "a.jsonl", line("x", 10), line("y", 25), line("z", 31), line("started", 13))
    stages = usage.align(EVENTS, usage.collect([path]))["stages"]
    assert {k: v["messages"] for k, v in stages.items()} == {
        "run/assets": 1,
        "baseline/train": 1,
        "baseline/evaluate": 1,
        "run/loop_stop": 1,
    }


def test_synthetic_and_partial_lines_are_skipped_and_counted(tmp_path):
    path = write(
        tmp_path / "a.jsonl", line("s", 15, model="<synthetic>"), line("m", 15), {"type": "user"}, tail='{"type": "assis'
    )
    collected = usage.collect([path])
    assert (collected.synthetic, collected.partial_lines, len(collected.messages)) == (1, 1, 1)


def test_subagents_files_beside_the_session_are_read(tmp_path):
    session = write(tmp_path / "s1.jsonl", line("m1", 15))
    write(tmp_path / "s1" / "subagents" / "agent-7.jsonl", line("m2", 16, isSidechain=True))
    files = usage.transcript_files([session], None, None)
    assert len(usage.collect(files).messages) == 2


def test_the_project_folder_is_found_by_claude_codes_naming(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    work = tmp_path / "my_line.3"
    work.mkdir()
    slug = "".join(c if c.isalnum() and c.isascii() else "-" for c in str(work.resolve()))
    write(tmp_path / ".claude" / "projects" / slug / "s.jsonl", line("m1", 15))
    assert len(usage.transcript_files([], None, work)) == 1


def test_nothing_named_and_nothing_found_are_told_apart(tmp_path):
    with pytest.raises(UsageError):
        usage.transcript_files([], None, None)
    with pytest.raises(Blocked):
        usage.transcript_files([tmp_path / "no.jsonl"], None, None)


def test_the_runners_own_transcripts_are_understood(tmp_path):
    turn = {
        "ts": "2026-01-01T10:15:00Z",
        "expect": {},
        "reply": {"content": [], "usage": {"input_tokens": 3, "output_tokens": 4}},
    }
    path = write(tmp_path / "a.jsonl", {"deft_transcript": 1, "prompt": "x"}, turn)
    assert usage.align(EVENTS, usage.collect([path]))["total"]["output_tokens"] == 4


def test_the_file_fits_its_schema_and_the_event_stays_small(tmp_path):
    from deft_aoi.contract.schema import validate

    many = [{**event(1, "approve", 0), "ts": "2026-01-01T00:00:00Z"}] + [
        {**event(n, "train", 0, f"iter{n}"), "ts": f"2026-01-01T{n // 60:02d}:{n % 60:02d}:00Z"} for n in range(2, 1000)
    ]
    lines = [line(f"m{n}", n % 60) | {"timestamp": f"2026-01-01T{n // 60:02d}:{n % 60:02d}:00Z"} for n in range(2, 1000)]
    found = usage.align(many, usage.collect([write(tmp_path / "a.jsonl", *lines)]))
    validate(found, "usage")
    data = usage.write_usage(tmp_path, found)
    assert data["stages"] == 998
    assert len(json.dumps(data)) < 1000
    assert json.loads((tmp_path / "run" / "usage.json").read_text()) == found
