"""Registration on the page of a run: real tables of shifts and pictures, scores beside them."""

from __future__ import annotations

import re
from pathlib import Path

from PIL import Image
from tests.report.run_maker import RunMaker

from deft_aoi.analysis.identity import ContentIndex
from deft_aoi.analysis.registered_goldens import Preprocessing, register_rows, shift_table
from deft_aoi.contract.changenet_csv import csv_text
from deft_aoi.report.render import render_html


def register(run: RunMaker) -> None:
    """What the run's jobs leave of a KPI set whose first golden lies two pixels off."""
    golden = run.workspace / "kpi/images/golden/C000_L.png"
    with Image.open(golden) as image:
        moved = image.convert("RGB").transform(image.size, Image.Transform.AFFINE, (1, 0, -2, 0, 1, 0))
    moved.save(golden)
    ids = ContentIndex(run.workspace / "digests").digest_pairs(run.rows, run.layout)
    how, cache = Preprocessing(24, 24), run.workspace / "cache"
    frame, measured = register_rows(run.rows, run.layout, ids, how, root=run.workspace / ".deft/registered", cache=cache)
    assert measured[0].shift[:2] == (0, -2)
    specs = run.root / "run/specs"
    specs.mkdir()
    (specs / "registered-kpi.csv").write_text(csv_text(frame))
    (specs / "registered-kpi-shifts.csv").write_text(csv_text(shift_table(run.rows, ids, measured)))
    (run.workspace / "specs").mkdir()
    spec = "dataset:\n  classify:\n    image_ext: .png\n    input_map: {L: 0}\n"
    (run.workspace / "specs/baseline_spec.yaml").write_text(spec)


def test_shifts_are_shown_by_slice_with_pictures_and_the_pairs_for_a_person(tmp_path: Path, monkeypatch) -> None:
    how = {"registration": Preprocessing(24, 24).as_dict()}
    begin = RunMaker.event
    monkeypatch.setattr(
        RunMaker,
        "event",
        lambda self, *a, **k: begin(self, *a, **({**k, "config": {**k["config"], **how}} if "config" in k else k)),
    )
    run = RunMaker(tmp_path / "w").begin().baseline()
    register(run)
    page = render_html(run.root)
    section = page[page.index('aria-labelledby="registration"') : page.index('aria-labelledby="dataset"')]
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", section))
    assert "boards/C000" in text
    assert "at the limit" in text, "two of 24 pixels is as far as it looks"
    assert len(re.findall("data:image", section)) == 1
    kpi = run.reports["baseline"]["target_point"]
    slices = re.findall(r"(not moved|at the limit) (\d+) (\d+) [\d.]*%? ?(\d+) (\d+)", text)
    assert {row[0] for row in slices} == {"not moved", "at the limit"}
    good, false_alarms, defects, missed = (sum(int(row[i]) for row in slices) for i in range(1, 5))
    assert (good, defects) == (kpi["fp"] + kpi["tn"], kpi["tp"] + kpi["fn"])
    assert (false_alarms, missed) == (kpi["fp"], kpi["fn"])


def test_a_run_that_does_not_register_has_no_such_section(make_run) -> None:
    assert 'id="registration"' not in render_html(make_run("running", iterations=0).root)
