from __future__ import annotations

import contextlib
import json

import pytest

from deft_aoi.contract.errors import HardStop
from deft_aoi.contract.schema import validate
from deft_aoi.contract.stages import NAMES
from deft_aoi.record import log, log_event, state

BASELINE = ("train", "inference", "evaluate", "rca")
ITERATION = ("routing", "anomalygen", "data_mining", "dataset", *BASELINE)


def whole_run(begun) -> None:
    for stage in BASELINE:
        begun("baseline", stage, data={"state": {f"{stage}_value": 1}})
    for stage in ITERATION:
        begun("iter1", stage)
    for stage in ("loop_stop", "usage", "handoff", "report"):
        begun("run", stage)


def test_a_whole_run_follows_the_table_and_fits_its_schema(run_dir, begun):
    whole_run(begun)
    view = log.load_state(run_dir)
    validate(json.loads((run_dir / "deft_state.json").read_text()), "deft_state")
    assert view["status"] == "kpi_met"
    assert view["plan_digest"] == "d" * 64
    assert view["config"] == {"max_iterations": 2}
    assert view["iterations"]["baseline"]["stage_completed"] == "rca"
    assert view["iterations"]["baseline"]["evaluate_value"] == 1
    assert set(view["iterations"]["iter1"]["stages"]) == set(ITERATION)
    assert state.next_stage(view) is None


def test_the_fold_of_any_prefix_continued_is_the_fold_of_the_whole(run_dir, begun):
    whole_run(begun)
    events = log.read(run_dir)
    for cut in range(len(events) + 1):
        view = json.loads(state.to_bytes(state.fold(events[:cut])))
        for event in events[cut:]:
            view = state.advance(view, event, log_event.digest(log_event.encode(event)))
        assert state.to_bytes(view) == state.snapshot_bytes(events)


def test_next_stage_names_exactly_the_table(run_dir, begun):
    order = [("baseline", s) for s in BASELINE] + [(f"iter{n}", s) for n in (1, 2) for s in ITERATION]
    for label, stage in order:
        assert state.next_stage(log.load_state(run_dir)) == (label, stage)
        begun(label, stage)


def test_before_the_approval_nothing_but_a_note_is_taken(append):
    for label, stage in (("run", "assets"), ("baseline", "train"), ("run", "report"), ("run", "loop_stop")):
        with pytest.raises(HardStop, match="out of order"):
            append(label, stage)
    assert append("run", "note").seq == 1
    assert append("run", "approve").seq == 2


def test_every_pair_but_the_allowed_ones_is_refused(run_dir, begun):
    begun("baseline", "train")
    events = log.read(run_dir)
    taken = set()
    for label in ("run", "baseline", "iter1", "iter2"):
        for stage in NAMES:
            for status in log_event.STATUSES:
                with contextlib.suppress(HardStop):
                    state.check_order(events, label, stage, status)
                    taken.add((label, stage))
    notes = {(label, "note") for label in ("run", "baseline", "iter1", "iter2")}
    assert taken == {("baseline", "inference"), ("run", "usage"), ("run", "report"), *notes}


def test_a_finished_stage_is_not_repeated_but_reports_are(begun):
    for stage in BASELINE:
        begun("baseline", stage)
    for label, stage in (("baseline", "rca"), ("baseline", "train"), ("run", "approve")):
        with pytest.raises(HardStop, match="out of order"):
            begun(label, stage)
    begun("run", "handoff")
    begun("run", "report")
    begun("run", "loop_stop")
    begun("run", "report")
    begun("run", "handoff")
    with pytest.raises(HardStop, match="out of order"):
        begun("run", "loop_stop", op_id="again")
    with pytest.raises(HardStop, match="out of order"):
        begun("iter1", "routing")


@pytest.mark.parametrize("last", ["routing", "data_mining"])
def test_the_loop_may_stop_where_nothing_is_left_to_mine(begun, last):
    for stage in BASELINE:
        begun("baseline", stage)
    for stage in ITERATION[: ITERATION.index(last) + 1]:
        begun("iter1", stage)
    assert begun("run", "loop_stop", data={"reason": "pool_exhausted"}).seq


def test_an_error_shows_until_the_stage_is_taken_up_again(run_dir, begun):
    with pytest.raises(HardStop, match="out of order"):
        begun("run", "loop_stop", data={"reason": "job_failed"}, op_id="early")
    begun("baseline", "train", "started")
    begun("baseline", "train", "error", summary="out of memory")
    assert log.load_state(run_dir)["status"] == "error"
    begun("run", "note")
    assert log.load_state(run_dir)["status"] == "error"
    begun("baseline", "train", "started")
    assert log.load_state(run_dir)["status"] == "running"
    begun("baseline", "train", "error")
    begun("run", "loop_stop", data={"reason": "job_failed"})
    assert log.load_state(run_dir)["status"] == "job_failed"


@pytest.mark.parametrize("data", [{}, {"reason": "bored"}, {"reason": None}])
def test_a_loop_ends_for_a_known_reason_only(begun, data):
    begun("baseline", "train", "error")
    with pytest.raises(HardStop, match="does not fit"):
        begun("run", "loop_stop", data=data)


@pytest.mark.parametrize("key", log_event.RESERVED)
def test_a_stage_cannot_overwrite_the_notes_of_the_fold(begun, key):
    with pytest.raises(HardStop, match="does not fit"):
        begun("baseline", "train", data={"state": {key: {}}})
