from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from deft_aoi.contract.errors import HardStop, UsageError
from deft_aoi.contract.schema import validate
from deft_aoi.record import log, log_event, log_file, state

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


def holds(run_dir: Path, events: int) -> None:
    """The log has so many events, and the snapshot is their fold."""
    found = log.read(run_dir)
    assert [e["seq"] for e in found] == list(range(1, events + 1))
    assert (run_dir / "deft_state.json").read_bytes() == state.snapshot_bytes(found)


def test_an_event_is_on_disk_chained_and_folded(run_dir, begun):
    raw = (run_dir / "loop_log.jsonl").read_bytes().splitlines(keepends=True)
    events = [json.loads(text) for text in raw]
    for event in events:
        validate(event, "log_event")
    assert [e["prev"] for e in events] == [log_event.GENESIS, log_event.digest(raw[0]), log_event.digest(raw[1])]
    holds(run_dir, 3)
    assert log.load_state(run_dir)["head"] == log_event.digest(raw[2])


def test_the_same_op_id_and_payload_returns_the_old_number(run_dir, begun):
    first = begun("baseline", "train", op_id="baseline/train/1", duration_sec=3.0)
    again = begun("baseline", "train", op_id="baseline/train/1", duration_sec=9.0, context_tokens=7)
    assert (again.seq, again.duplicate) == (first.seq, True)
    holds(run_dir, 4)


def test_the_same_op_id_with_another_payload_is_a_conflict(run_dir, begun):
    begun("baseline", "train", op_id="x")
    with pytest.raises(HardStop, match="different content"):
        begun("baseline", "train", op_id="x", summary="other")
    holds(run_dir, 4)


def test_a_measured_duration_is_marked_and_no_part_of_the_payload(run_dir, begun):
    begun("baseline", "train", op_id="x", duration_sec=None)
    event = log.read(run_dir)[-1]
    assert event["data"]["duration_from"] == "previous_event"
    assert 0 <= event["duration_sec"] < 60
    assert begun("baseline", "train", op_id="x", duration_sec=4.0).duplicate


def test_keys_count_the_attempts_of_a_stage(run_dir, begun):
    keys = [begun("baseline", "train", status).op_id for status in ("started", "error", "started", "ok")]
    assert keys == ["baseline/train/1/start", "baseline/train/1/error", "baseline/train/2/start", "baseline/train/2"]
    assert begun("run", "note").op_id != begun("run", "note").op_id


def test_a_stage_out_of_order_is_refused_and_nothing_is_written(run_dir, begun):
    before = (run_dir / "loop_log.jsonl").read_bytes()
    with pytest.raises(HardStop, match="out of order"):
        begun("baseline", "evaluate")
    assert (run_dir / "loop_log.jsonl").read_bytes() == before


def test_a_torn_tail_is_set_aside_and_the_next_event_follows_the_last_whole_line(run_dir, begun):
    path = run_dir / "loop_log.jsonl"
    with path.open("ab") as handle:
        handle.write(b'{"seq":4,"half')
    assert len(log.read(run_dir)) == 3
    begun("baseline", "train")
    holds(run_dir, 4)
    assert [p.read_bytes() for p in (run_dir / "run" / "torn").iterdir()] == [b'{"seq":4,"half']


@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_damaged_complete_line_is_a_hard_stop_and_stays_as_it_is(run_dir, begun, number):
    path = run_dir / "loop_log.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    lines[number] = lines[number].replace(b"approve" if number == 0 else b"run", b"RUN", 1)
    damaged = b"".join(lines)
    path.write_bytes(damaged)
    with pytest.raises(HardStop):
        log.read(run_dir)
    with pytest.raises(HardStop):
        log.verify_whole(run_dir)
    assert path.read_bytes() == damaged


def test_a_lost_snapshot_is_written_again(run_dir, begun):
    (run_dir / "deft_state.json").unlink()
    begun("baseline", "train", op_id="t")
    assert begun("baseline", "train", op_id="t").duplicate
    holds(run_dir, 4)


def test_a_log_that_lost_its_last_event_is_a_hard_stop(run_dir, begun):
    path = run_dir / "loop_log.jsonl"
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:2]))
    before = path.read_bytes()
    for call in (lambda: log.read(run_dir), lambda: begun("baseline", "train"), lambda: log.verify_whole(run_dir)):
        with pytest.raises(HardStop, match="lost events"):
            call()
    assert path.read_bytes() == before


def test_a_log_that_is_gone_is_a_hard_stop_and_its_view_is_not_taken_for_a_foreign_one(run_dir, begun):
    (run_dir / "loop_log.jsonl").unlink()
    with pytest.raises(HardStop, match="log is missing"):
        state.read_imported_state(run_dir)
    with pytest.raises(HardStop, match="lost events"):
        begun("run", "approve")


def test_a_forked_log_of_the_same_length_is_a_hard_stop(run_dir, begun, tmp_path):
    fork = tmp_path / "fork"
    shutil.copytree(run_dir, fork)
    log.append(fork, iter_label="run", stage="note", status="ok", summary="here")
    begun("run", "note", summary="there")
    shutil.copyfile(fork / "loop_log.jsonl", run_dir / "loop_log.jsonl")
    with pytest.raises(HardStop, match="lists a later one"):
        log.read(run_dir)
    with pytest.raises(HardStop, match="lists a later one"):
        begun("run", "note")


def test_an_edited_view_is_never_believed(run_dir, begun):
    path = run_dir / "deft_state.json"
    path.write_bytes(path.read_bytes().replace(b'"running"', b'"kpi_met"'))
    assert log.load_state(run_dir)["status"] == "running"
    begun("baseline", "train")
    holds(run_dir, 4)


def test_a_snapshot_that_cannot_be_written_is_a_warning(run_dir, begun, monkeypatch):
    def full(_path: str, _raw: bytes) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(log_file, "replace_file", full)
        assert begun("baseline", "train").snapshot == "stale"
    assert len(log.read(run_dir)) == 4
    assert begun("run", "note").snapshot == "ok"
    holds(run_dir, 5)


def test_a_state_without_a_log_is_moved_aside_and_each_one_kept(run_dir, append):
    for number, body in enumerate(({"iterations": {"baseline": {"stage_completed": "train"}}}, {"other": 1})):
        (run_dir / "deft_state.json").write_text(json.dumps(body))
        if number == 0:
            assert state.read_imported_state(run_dir) == body
            (run_dir / "run").mkdir()
            shutil.copyfile(run_dir / "deft_state.json", run_dir / "run" / "imported_state.json")
    append("run", "approve")
    assert json.loads((run_dir / "run" / "imported_state-2.json").read_text()) == {"other": 1}
    assert state.read_imported_state(run_dir)["iterations"]["baseline"]["stage_completed"] == "train"
    holds(run_dir, 1)


def test_a_folder_that_is_not_there_is_refused_and_not_made(run_dir):
    with pytest.raises(UsageError):
        log.append(run_dir / "typo", iter_label="run", stage="note", status="ok", summary="x")
    assert not (run_dir / "typo").exists()


@pytest.mark.parametrize("value", [float("nan"), {1, 2}, b"x", object()])
def test_what_is_not_json_is_refused(run_dir, begun, value):
    with pytest.raises(HardStop, match="not JSON"):
        begun("run", "note", data={"x": value})
    holds(run_dir, 3)


def test_a_line_over_4096_bytes_is_refused(run_dir, begun):
    with pytest.raises(HardStop, match="4096|one line"):
        begun("run", "note", data={"x": "y" * 4096})
    holds(run_dir, 3)


def test_a_summary_stays_one_line(run_dir, begun):
    begun("run", "note", summary='a\n{"seq":5}\x1b[2J\u202eb' + "c" * 500)
    assert len((run_dir / "loop_log.jsonl").read_bytes().splitlines()) == 4
    summary = log.read(run_dir)[-1]["summary"]
    assert summary.startswith('a {"seq":5} [2J b')
    assert len(summary) == 400


def test_the_reserve_is_given_up_for_an_error_only(run_dir, begun, monkeypatch):
    reserve = run_dir / "run" / "reserve"
    assert reserve.stat().st_size == log_file.RESERVE_BYTES
    real = os.write

    def full_until_released(fd: int, raw: bytes) -> int:
        if reserve.exists():
            raise OSError(28, "No space left on device")
        return real(fd, raw)

    monkeypatch.setattr(log_file.os, "write", full_until_released)
    with pytest.raises(Exception, match="no space left"):
        begun("baseline", "train")
    assert reserve.exists()
    assert begun("baseline", "train", "error").seq == 4
    assert not reserve.exists()


def test_the_append_path_imports_nothing_heavy():
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import deft_aoi.record.log;"
        "print([m for m in ('jsonschema', 'dataclasses', 'pathlib', 'logging', 'subprocess') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code, str(SCRIPTS)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.fixture
def cost(monkeypatch) -> dict[str, int]:
    """Counted since the last ``clear``: bytes of the log that were read, lines that were verified."""
    found = {"bytes": 0, "lines": 0}
    real_read, real_decode = log_file.LogFile.read, log_event.decode

    def read(self: log_file.LogFile) -> bytes:
        raw = real_read(self)
        found["bytes"] += len(raw)
        return raw

    def decode(raw: bytes, seq: int, prev: str) -> log_event.Event:
        found["lines"] += 1
        return real_decode(raw, seq, prev)

    monkeypatch.setattr(log_file.LogFile, "read", read)
    monkeypatch.setattr(log_event, "decode", decode)
    return found


@pytest.mark.parametrize("events", [3, 10, 60])
def test_an_append_reads_the_log_once_and_verifies_each_line_once(run_dir, begun, cost, events):
    for number in range(events - 3):
        begun("run", "note", op_id=f"note/{number}")
    size = (run_dir / "loop_log.jsonl").stat().st_size
    cost.update(bytes=0, lines=0)
    begun("run", "note", op_id="last")
    assert cost == {"bytes": size, "lines": events}
    begun("run", "note", op_id="last")
    assert cost["lines"] == 2 * events + 1


def test_a_reader_verifies_the_log_again_only_when_it_has_changed(run_dir, begun, cost):
    reader = log.LogReader(run_dir)
    assert [reader.state()["seq"], len(reader.events()), reader.state()["seq"]] == [3, 3, 3]
    assert cost["lines"] == 3
    cost.update(lines=0)
    begun("run", "note")
    assert (reader.state()["seq"], reader.events()[-1]["stage"]) == (4, "note")
    assert cost["lines"] == 3 + 4
    path = run_dir / "loop_log.jsonl"
    path.write_bytes(path.read_bytes().replace(b"approve", b"APPROVE", 1))
    with pytest.raises(HardStop, match="damaged at line 1"):
        reader.state()
