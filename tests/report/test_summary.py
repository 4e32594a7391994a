"""The summary of an iteration: short, from the record, with room for a note."""

from __future__ import annotations

import pytest

from deft_aoi.contract.errors import UsageError
from deft_aoi.report import summary
from deft_aoi.report.command import render
from deft_aoi.report.render import render_html


def test_summary_says_what_was_aimed_at_mined_and_reached(make_run) -> None:
    run = make_run("finished", 2)
    text = summary.write(run.root, "iter2").read_text(encoding="utf-8")
    assert len(text.split()) <= summary.MAX_WORDS
    assert run.reports["iter2"]["verdict"] in text
    assert "Mined 4 rows: 3 real (1 of them defects), 1 synthetic; 2 candidates refused." in text
    assert "- Warning: the yield fell." in text
    assert "weak parts" in text
    assert summary.NO_NOTE in text


def test_note_is_recorded_and_shown_in_summary_and_report(make_run) -> None:
    run = make_run("running", 1)
    note = "Both false alarms are <b>reflections</b>."
    text, data = render(str(run.root), iteration=1, note=note)
    assert note in (run.root / "iter1_summary.md").read_text(encoding="utf-8")
    assert "&lt;b&gt;reflections&lt;/b&gt;" in render_html(run.root)
    assert data["report"] in text


def test_longest_note_still_fits(make_run) -> None:
    run = make_run("running", 1)
    render(str(run.root), iteration=1, note="a " * 5000)
    assert len((run.root / "iter1_summary.md").read_text(encoding="utf-8").split()) <= summary.MAX_WORDS


@pytest.mark.parametrize(("iteration", "note"), [(9, None), (0, None), (None, "x"), (1, "  \n")])
def test_wrong_iteration_or_note_is_refused_and_nothing_recorded(make_run, iteration: int | None, note: str | None) -> None:
    run = make_run("running", 1)
    before = (run.root / "loop_log.jsonl").read_bytes()
    with pytest.raises(UsageError):
        render(str(run.root), iteration=iteration, note=note)
    assert (run.root / "loop_log.jsonl").read_bytes() == before
