"""A file changed between two stages stops the run or changes nothing; it never gives a mix."""

from __future__ import annotations

import json
import shutil
import threading
from pathlib import Path

import pytest

from deft_aoi.analysis import dataset
from deft_aoi.contract.errors import HardStop
from deft_aoi.contract.files import copy_hashed, read_json, sha256_file
from deft_aoi.loop import driver
from deft_aoi.record import log

from .change_table import table
from .changes import Loop, change, change_and_vouch, quiet

KINDS = 4
"""Of each stage here; ``make security`` runs the whole table, with two iterations."""


@pytest.fixture(scope="module")
def loop(demo_source: Path, tmp_path_factory: pytest.TempPathFactory):
    """The undisturbed loop, kept before each of its stages."""
    base = tmp_path_factory.mktemp("changes")
    with pytest.MonkeyPatch.context() as patch:
        for variable in ("STATE", "CACHE", "DATA"):
            patch.setenv(f"XDG_{variable}_HOME", str(base / "home" / variable.lower()))
        yield Loop(base, demo_source)


@pytest.fixture
def _home(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("STATE", "CACHE", "DATA"):
        monkeypatch.setenv(f"XDG_{variable}_HOME", str(loop.base / "home" / variable.lower()))


@pytest.mark.usefixtures("_home")
@pytest.mark.parametrize("how", [change, change_and_vouch], ids=["changed", "changed with its manifest"])
def test_a_file_changed_before_a_stage_stops_it_or_changes_nothing(loop: Loop, how) -> None:
    found = table(loop, how, 5 if how is change else 6, at_most=KINDS)
    print(found)
    assert not found.wrong, found.wrong
    assert len(loop.steps) == 17
    assert len(found.stopped) > 20
    assert len(found.unchanged) > 5
    assert all(said.strip() for said in found.stopped.values())


def _at(loop: Loop, stage: str) -> None:
    loop.put_back(next(step for step in loop.steps if step.name == stage))


@pytest.mark.usefixtures("_home")
def test_a_hard_stop_hands_over_nothing_that_was_changed(loop: Loop) -> None:
    """After the hard stop the best model is handed over: with figures from the record's own files, or not at all."""
    for victim in ("baseline/inference/best_val/kpi.json", "run/specs/baseline-train.yaml"):
        _at(loop, "iter1 routing")
        path = loop.root / victim
        path.write_bytes(path.read_bytes().replace(b"0", b"1"))
        with pytest.raises(HardStop):
            driver.drive(loop.root, say=quiet, progress=quiet, limit=1)
        assert not (loop.root / "best_model.json").exists(), victim
        last = log.read(loop.root)[-1]
        assert (last["stage"], last["status"]) != ("handoff", "ok")
    _at(loop, "iter1 routing")
    gaps = next(loop.root.glob("baseline/rca_results/*/kpi_gaps.parquet"))
    gaps.write_bytes(gaps.read_bytes()[:-1] + b"x")
    with pytest.raises(HardStop, match=r"1 findings"):
        driver.drive(loop.root, say=quiet, progress=quiet, limit=1)
    page = (loop.root / "DEFT_Loop_Report.html").read_text(encoding="utf-8")
    assert "STOPPED" in page
    assert read_json(loop.root / "best_model.json", what="model")["status"].startswith("best so far: the run ended in a hard")


@pytest.mark.usefixtures("_home")
def test_an_image_changed_while_it_is_trained_on_is_found(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the middle of the job the changed picture may have been seen in both states: the training does not count."""
    from deft_aoi.loop.stages import train

    _at(loop, "iter1 train")
    calls = []

    def once(part, recorded):
        calls.append(part.name)
        if len(calls) == 2:
            raise HardStop("an image changed")
        return real(part, recorded)

    real = dataset.require_content
    monkeypatch.setattr(dataset, "require_content", once)
    monkeypatch.setattr(train, "run_job", lambda *_given: None)
    with pytest.raises(HardStop, match="an image changed"):
        loop.drive()
    assert not (loop.root / "iter1" / "train").exists()


@pytest.mark.usefixtures("_home")
def test_the_report_shows_no_figure_of_a_file_that_is_not_on_record(loop: Loop) -> None:
    from deft_aoi.report.render import render_html

    _at(loop, "run report")
    clean = render_html(loop.root)
    path = loop.root / "baseline/inference/best_val/kpi.json"
    body = json.loads(path.read_text())
    body["auroc"] = 0.123456789
    path.write_text(json.dumps(body))
    page = render_html(loop.root)
    assert "0.12346" not in page
    assert "not the file on record" in page
    assert "not the file on record" not in clean


def test_an_adopted_checkpoint_changed_after_its_scan_is_refused(workspace: Path) -> None:
    import torch

    from ..loop.conftest import deft

    root = workspace / "results" / "run_20260101_000000"
    (root / "up").mkdir(parents=True)
    torch.save({"state_dict": {"w": torch.zeros(64)}}, root / "up" / "model_epoch_000_step_00004.pth")
    state = {"iterations": {"baseline": {"stage_completed": "train", "best_ckpt_path": "up/model_epoch_000_step_00004.pth"}}}
    (root / "deft_state.json").write_text(json.dumps(state))
    digest = deft("preflight", "--workspace", workspace, "--json").json["digest"]
    assert deft("approve", digest[:12], "--confirm", digest[-6:]).code == 0
    said = deft("init_deft_state", "--plan-digest", digest[:12], "--results-dir", root)
    assert said.code == 0, said.err
    for _ in ("assets", "prestage"):
        driver.drive(root, say=quiet, progress=quiet, limit=1)
    kept = root / "run" / "adopted" / "model_epoch_000_step_00004.pth"
    shutil.copyfile(kept, kept.with_name("a.pth"))  # a stranger beside it is nobody's
    good = kept.read_bytes()
    kept.write_bytes(good[:-30] + bytes([good[-30] ^ 1]) + good[-29:])
    with pytest.raises(HardStop, match="not the one that was scanned"):
        driver.drive(root, say=quiet, progress=quiet, limit=1)


def test_a_file_that_changes_while_it_is_copied_has_the_digest_of_its_copy(tmp_path: Path) -> None:
    """A thread flips the source as fast as it can: the digest is always that of what was copied."""
    source = tmp_path / "source"
    one, two = b"1" * 3_000_000, b"2" * 3_000_000
    source.write_bytes(one)
    stop = threading.Event()

    def churn() -> None:
        with source.open("r+b") as handle:
            while not stop.is_set():
                for body in (two, one):
                    handle.seek(0)
                    handle.write(body)

    thread = threading.Thread(target=churn)
    thread.start()
    try:
        for number in range(60):
            target = tmp_path / f"copy{number % 2}"
            size, digest = copy_hashed(source, target)
            assert (size, digest) == (target.stat().st_size, sha256_file(target))
    finally:
        stop.set()
        thread.join()
