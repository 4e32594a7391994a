"""Token usage: each API message once, each in its stage."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from datetime import datetime, timezone
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import deft_aoi
from deft_aoi.agent import usage
from deft_aoi.contract.errors import Blocked, UsageError


def event(seq, stage, minute, iteration="run", status="ok"):
    return {"seq": seq, "iter": iteration, "stage": stage, "status": status, "ts": f"2026-01-01T10:{minute:02d}:00Z"}


EVENTS = [
    event(1, "approve", 10),
    event(2, "assets", 11),
    event(3, "train", 12, "baseline", "started"),
    event(4, "train", 20, "baseline"),
    event(5, "evaluate", 30, "baseline"),
    event(6, "note", 31),
    event(7, "loop_stop", 40),
]


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
        "input_tokens": 5,
        "output_tokens": 7,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 100,
        "messages": 1,
    }


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


def test_subagents_files_of_earlier_releases_lie_beside_the_session(tmp_path):
    session = write(tmp_path / "s1.jsonl", line("m1", 15))
    write(tmp_path / "agent-a.jsonl", line("m2", 16, isSidechain=True, sessionId="s1"))
    write(tmp_path / "agent-b.jsonl", line("m3", 16, isSidechain=True, sessionId="another"))
    assert set(usage.collect(usage.transcript_files([session], None, None)).messages) == {"m1", "m2"}


def test_the_project_folder_is_found_by_claude_codes_naming(tmp_path, monkeypatch):
    """The names are what the real CLI made (``test_claude_code.py`` compares them again)."""
    monkeypatch.delenv("CLAUDE_CONFIG_DIR", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    projects = tmp_path / ".claude" / "projects"
    assert usage.project_folder(Path("/tmp/cwdtest/my_line.3 é\U0001f600/x")) == projects / "-tmp-cwdtest-my-line-3-----x"
    long = Path("/tmp/cwdtest") / ("long_" * 30) / ("deep" * 20)
    assert usage.project_folder(long).name == ("-tmp-cwdtest-" + "long-" * 30 + "-" + "deep" * 20)[:200] + "-vha48b"
    assert usage.project_folder(Path("/tmp/cwdtest/cafe\u0301")).name == "-tmp-cwdtest-cafe-"
    work = tmp_path / "my_line.3"
    write(usage.project_folder(work) / "s.jsonl", line("m1", 15))
    assert len(usage.transcript_files([], None, work)) == 1
    monkeypatch.setenv("CLAUDE_CONFIG_DIR", str(tmp_path / "elsewhere"))
    with pytest.raises(Blocked):
        usage.transcript_files([], None, work)


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
    _, data = usage.write_usage(tmp_path, found)
    assert data["stages"] == 998
    assert len(json.dumps(data)) < 1000
    assert json.loads((tmp_path / "run" / "usage.json").read_text()) == found


def test_values_that_are_no_counts_and_lines_that_are_no_objects_break_nothing(tmp_path):
    odd = [{"input_tokens": v} for v in ("7", -3, True, None, 2.5, [1], {"a": 1})]
    lines = [{**line(f"m{i}", 15), "message": {"id": f"m{i}", "model": "m", "usage": u}} for i, u in enumerate(odd)]
    lines += [{"type": "assistant", "message": "text"}, [1], "x"]
    lines += [{"type": "assistant", "message": {"id": 3}, "timestamp": "no time"}]
    path = write(tmp_path / "a.jsonl", *lines, tail="[" * 200_000 + "\n" + "\x00\xff\n")
    collected = usage.collect([path])
    assert (len(collected.messages), collected.partial_lines) == (len(odd), 2)
    assert usage.align(EVENTS, collected)["total"]["input_tokens"] == 0


MESSAGES = st.lists(
    st.tuples(
        st.integers(0, 3600),
        st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 50), st.integers(0, 3)), min_size=1, max_size=4),
        st.booleans(),
    ),
    max_size=12,
)


@settings(max_examples=150, deadline=None)
@given(MESSAGES, st.lists(st.integers(1, 3500), min_size=1, max_size=6), st.randoms(use_true_random=False))
def test_every_message_is_counted_once_where_its_first_line_lies(tmp_path_factory, messages, ends, shuffle):
    """Against the definition: the field-wise maximum of a message's lines, in the stage whose window holds the first."""
    ends = sorted(ends)
    start = ends[0] - 1
    events = [moment(1, "approve", start)] + [moment(n, "train", end, f"iter{n}") for n, end in enumerate(ends, 2)]
    names = [f"iter{n}/train" for n in range(2, len(ends) + 2)]
    files: list[list[str]] = [[], [], [], []]
    expected: dict[str, list[int]] = {}
    outside = {"before": 0, "after": 0}
    for number, (at, lines, synthetic) in enumerate(messages):
        for offset, (late, output, where) in enumerate(lines):
            model = "<synthetic>" if synthetic else "m"
            text = json.dumps(at_second(f"id{number}", at + (late if offset else 0), output, model))
            files[where] += [text] * shuffle.randint(1, 2)
        if synthetic:
            continue
        stage = next((name for name, end in zip(names, ends, strict=True) if start <= at <= end), None)
        if stage is None:
            outside["before" if at < start else "after"] += 1
            continue
        row = expected.setdefault(stage, [0, 0])
        row[0] += 1
        row[1] += max(output for _, output, _ in lines)
    folder = tmp_path_factory.mktemp("t")
    for number, lines in enumerate(files):
        shuffle.shuffle(lines)
        (folder / f"{number}.jsonl").write_text("\n".join([*lines, '{"type": "assis']))
    order = list(folder.iterdir())
    shuffle.shuffle(order)
    collected = usage.collect(order)
    found = usage.align(events, collected)
    assert {k: [v["messages"], v["output_tokens"]] for k, v in found["stages"].items()} == expected
    assert found["outside"] == outside
    assert found["skipped"]["partial_lines"] == 4
    assert found["total"]["messages"] + sum(outside.values()) == sum(not s for _, _, s in messages)


def moment(seq, stage, second, iteration="run"):
    return {"seq": seq, "iter": iteration, "stage": stage, "status": "ok", "ts": stamp(second)}


def stamp(second):
    return datetime.fromtimestamp(1_767_000_000 + second, timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def at_second(name, second, output, model):
    message = {"id": name, "model": model, "usage": {"output_tokens": output}}
    return {"type": "assistant", "timestamp": stamp(second), "message": message}


def test_the_command_adds_one_event_and_a_repetition_none(tmp_path, monkeypatch):
    """Through the real script: the log only grows, by one line, though the session that runs it goes on."""
    from deft_aoi.record import log

    run, clock = tmp_path / "results/run_20260101_120000", [datetime(2026, 1, 1, 12, tzinfo=timezone.utc).timestamp()]
    monkeypatch.setattr(time, "time", lambda: clock[0])
    (run / "run").mkdir(parents=True)
    log.append(
        run,
        iter_label="run",
        stage="approve",
        status="ok",
        summary="x",
        duration_sec=0,
        data={"config": {"max_iterations": 1}, "plan_digest": "d" * 64},
    )
    now = "2026-01-01T12:00:30Z"
    clock[0] += 60
    log.append(run, iter_label="run", stage="assets", status="ok", summary="x", duration_sec=0)
    lines = [{**line("m1", 0), "timestamp": now}, {**line("m0", 0), "timestamp": "2020-01-01T00:00:00Z"}]
    session = write(tmp_path / "s.jsonl", *lines)
    command = [sys.executable, str(Path(deft_aoi.__file__).parents[1] / "align_token_usage.py")]
    command += ["--log-path", str(run / "loop_log.jsonl"), "--transcript", str(session)]
    before = (run / "loop_log.jsonl").read_bytes()

    def align(*more):
        done = subprocess.run([*command, *more], capture_output=True, text=True, env={**os.environ, "HOME": str(tmp_path)})
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "1 messages in 1 stages" in align("--dry-run")
    assert (run / "loop_log.jsonl").read_bytes() == before
    first = align()
    after = (run / "loop_log.jsonl").read_bytes()
    assert after.startswith(before)
    assert after.count(b"\n") == before.count(b"\n") + 1
    assert json.loads(after.splitlines()[-1])["stage"] == "usage"
    with session.open("a") as handle:  # the session goes on while it looks at itself
        handle.write(json.dumps({**line("m2", 0), "timestamp": "2999-01-01T00:00:00Z"}) + "\n")
    assert align() == first
    with (run / "loop_log.jsonl").open("ab") as handle:  # a writer that was killed: never acknowledged, not part of the log
        handle.write(b'{"seq": 4, "it')
    assert align() == first
    assert (run / "loop_log.jsonl").read_bytes() == after
