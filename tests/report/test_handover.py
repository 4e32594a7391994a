"""A model is trained, handed over, and scores new boards with nothing but the two files and its checkpoint."""

from __future__ import annotations

import csv as csv_module
import json
import os
import shutil
import subprocess
import sys
from argparse import Namespace
from pathlib import Path

import pandas as pd
import pytest
import yaml
from PIL import Image

from deft_aoi.analysis import spot_check
from deft_aoi.contract.errors import Blocked, HardStop, UsageError
from deft_aoi.contract.files import sha256_file
from deft_aoi.contract.schema import read_checked
from deft_aoi.loop.infer import infer, load_model
from deft_aoi.loop.new_boards import changenet_boards
from deft_aoi.loop.stages import handoff
from deft_aoi.loop.verify import verify_run
from deft_aoi.record import log
from deft_aoi.report.command import render
from deft_aoi.report.review_of_run import write_review
from deft_aoi.workspaces import review_import

REPO = Path(__file__).resolve().parents[2]
PAIR = ("best_model.json", "best_model_inference_spec.yaml", "lineage.parquet")


def script(name: str, *args: object, home: Path) -> subprocess.CompletedProcess[str]:
    env = {
        **os.environ,
        **{v: str(home / v) for v in ("XDG_STATE_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME")},
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, str(REPO / "scripts" / name), *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, env=env, timeout=900, check=False)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run on a small workspace: one short training, a target that the first model meets."""
    from tests.conftest import _copy_workspace

    base = tmp_path_factory.mktemp("handover")
    workspace = _copy_workspace("workspace_tiny", base / "ws")
    done = script(
        "run_loop.py",
        "--workspace",
        workspace,
        "--kpi-target",
        "FAR < 100% at recall>=50%",
        "--training-epochs",
        2,
        "--max-iterations",
        1,
        "--yes",
        home=base,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return next((workspace / "results").glob("run_*"))


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """The finished run's own folder; its hand-over is put back afterwards."""
    kept = {name: (finished / name).read_bytes() for name in PAIR}
    yield finished
    for name, data in kept.items():
        (finished / name).write_bytes(data)


def boards(run: Path, out: Path, columns: int = 3) -> Path:
    """A fresh CSV: the hold-out's rows without their labels, in reverse."""
    lines = (run.parents[1] / "kpi" / "holdout_set.csv").read_text(encoding="utf-8").splitlines()
    order = [lines[0].split(",").index(c) for c in ("input_path", "golden_path", "object_name", "label")][:columns]
    out.write_text(
        "\n".join(",".join(x.split(",")[i] for i in order) for x in [lines[0], *lines[:0:-1]]) + "\n", encoding="utf-8"
    )
    return out


def test_new_boards_are_scored_with_the_two_files_alone(run: Path, tmp_path: Path) -> None:
    deployed = tmp_path / "deployed"
    deployed.mkdir()
    for name in PAIR:
        shutil.copyfile(run / name, deployed / name)
    body = json.loads((deployed / "best_model.json").read_text(encoding="utf-8"))
    checkpoint = shutil.copyfile(body["checkpoint"]["path"], deployed / "model.pth")
    photos = shutil.copytree(run.parents[1] / "kpi" / "images", tmp_path / "photos")
    csv = boards(run, tmp_path / "boards.csv")
    away = run.parents[1].with_name("away")
    run.parents[1].rename(away)  # nothing of the workspace is there any more
    try:
        done = script(
            "infer.py",
            "--model",
            deployed / "best_model.json",
            "--csv",
            csv,
            "--images",
            photos,
            "--output",
            tmp_path / "out",
            "--checkpoint",
            checkpoint,
            "--json",
            home=tmp_path,
        )
    finally:
        away.rename(run.parents[1])
    assert done.returncode == 0, done.stderr
    decided = json.loads(done.stdout)
    rows = (tmp_path / "out" / "decisions.csv").read_text(encoding="utf-8").splitlines()
    assert decided["rows"] == len(rows) - 1 == decided["flagged"] + decided["passed"]
    assert decided["measured"] is None
    header = rows[0].split(",")
    assert "label" not in header
    for row in rows[1:]:
        cells = dict(zip(header, row.split(","), strict=True))
        assert cells["decision"] == ("NO_PASS" if float(cells["siamese_score"]) > body["threshold"] else "PASS")
    holdout = [x.rsplit(",", 1)[-1] for x in (run / "run/holdout/inference.csv").read_text(encoding="utf-8").splitlines()[1:]]
    scores = [float(r.split(",")[header.index("siamese_score")]) for r in rows[1:]]
    assert scores[::-1] == pytest.approx([float(s) for s in holdout], abs=1e-6)
    assert not list(tmp_path.rglob("loop_log.jsonl"))
    assert list((tmp_path / "out" / "jobs").glob("*.job.json"))


def test_labelled_boards_are_also_measured(run: Path, tmp_path: Path) -> None:
    csv = boards(run, tmp_path / "boards.csv", columns=4)
    found = infer(load_model(run / "best_model.json"), changenet_boards(csv, run.parents[1] / "kpi" / "images"), tmp_path / "out")
    handed = json.loads((run / "run" / "holdout" / "holdout.json").read_text(encoding="utf-8"))["point"]
    assert {k: found["measured"][k] for k in ("tp", "fp", "tn", "fn")} == {k: handed[k] for k in ("tp", "fp", "tn", "fn")}
    listed = read_checked(tmp_path / "out" / "review.json", "review")
    with (tmp_path / "out" / "decisions.csv").open(encoding="utf-8", newline="") as handle:
        asked = [row for row in csv_module.DictReader(handle) if row["decision"] == "NO_PASS" or row["doubt"]]
    asked.sort(key=lambda row: abs(float(row["distance"])))
    assert [p["score"] for p in listed["parts"]] == [float(row["siamese_score"]) for row in asked]
    assert [p["label"] for p in listed["parts"]] == [row["label"] for row in asked]
    assert found["review"]["parts"] == len(asked) > 0
    assert listed["choices"][0] == "PASS"
    assert {row["label"] for row in asked} <= {*listed["choices"]}
    assert Path(found["review"]["path"]).is_file()


def test_weak_samples_of_a_run_get_a_page_until_all_are_judged(run: Path) -> None:
    said, data = render(str(run), review=True)
    review = run / "run" / "review" / "review.json"
    listed = read_checked(review, "review")
    gaps = pd.read_parquet(next(run.glob("baseline/rca_results/*/kpi_gaps.parquet")))
    assert [p["name"] for p in listed["parts"]] == list(dict.fromkeys(gaps["sample_id"]))
    assert listed["choices"] == list(spot_check.VERDICTS)
    assert f"{data['review']['parts']} to judge" in said
    file = run / "run" / "spot_check.json"
    labels = run / "run" / "labels.csv"
    lines = [f"{listed['page']},{p['id']},edge_case,Ana,2026-01-05T08:00:00Z" for p in listed["parts"]]
    labels.write_text("\n".join(["page,part,label,by,at", *lines]) + "\n", encoding="utf-8")
    args = Namespace(labels=labels, review=review, results_dir=run, workspace=None)
    try:
        assert review_import.import_review(args)["recorded"] == len(lines)
        verdicts = spot_check.load(file)["verdicts"]
        assert {(v["sample_id"], v["by"], v["note"]) for v in verdicts} == {
            (name, "person", "Ana on the review page") for name in gaps["sample_id"]
        }
        with pytest.raises(Blocked, match="nothing is left to judge"):
            write_review(run)
        with pytest.raises(UsageError, match="another run"):
            review_import.import_review(Namespace(**{**vars(args), "results_dir": run.parent}))
    finally:
        shutil.rmtree(review.parent)
        labels.unlink()
        file.unlink()


def test_repeating_the_hand_over_gives_the_same_bytes_and_no_event(run: Path) -> None:
    before, events = [sha256_file(run / n) for n in PAIR], len(log.read(run))
    body, path = handoff.prepare(run)
    assert [sha256_file(run / n) for n in PAIR] == before
    assert len(log.read(run)) == events
    assert path == run / "best_model.json"
    assert body["inference_spec"]["sha256"] == sha256_file(run / PAIR[1])
    assert verify_run(run).holds


def test_spec_is_the_winning_trainings_without_its_data(run: Path) -> None:
    body = json.loads((run / PAIR[0]).read_text(encoding="utf-8"))
    spec = yaml.safe_load((run / PAIR[1]).read_text(encoding="utf-8"))
    trained = yaml.safe_load(Path(body["training_spec"]["path"]).read_text(encoding="utf-8"))
    classify = spec["dataset"]["classify"]
    assert not {"train_dataset", "validation_dataset", "test_dataset", "infer_dataset"} & set(classify)
    assert classify["augmentation_config"]["augment"] is False
    assert classify["input_map"] == trained["dataset"]["classify"]["input_map"]
    assert spec["model"]["backbone"] == trained["model"]["backbone"]
    assert spec["model"]["classify"]["eval_margin"] == body["threshold"]
    assert spec["train"] == {"classify": trained["train"]["classify"]}
    assert spec["inference"] == {"checkpoint": body["checkpoint"]["path"], "num_gpus": 1, "gpu_ids": [0]}
    assert body["lineage"][-1]["iteration"] == body["iteration"]
    low, high = body["threshold_interval"]
    assert low <= body["threshold"] <= high


def test_another_folder_leaves_the_run_as_it_is(run: Path, tmp_path: Path) -> None:
    before = [sha256_file(run / n) for n in (*PAIR, "loop_log.jsonl")]
    body, path = handoff.prepare(run, tmp_path / "deploy")
    assert [sha256_file(run / n) for n in (*PAIR, "loop_log.jsonl")] == before
    assert Path(body["inference_spec"]["path"]) == tmp_path / "deploy" / PAIR[1]
    assert load_model(path).checkpoint.is_file()


def test_both_or_neither_when_the_last_rename_fails(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    renamed = Path.replace

    def fail(self: Path, target: Path) -> Path:
        if Path(target).name == PAIR[0]:
            raise OSError("no space")
        return renamed(self, target)

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="no space"):
        handoff.prepare(run)
    assert not (run / PAIR[0]).exists()
    assert not list(run.glob(".best_model*"))
    monkeypatch.undo()
    handoff.prepare(run)
    assert verify_run(run).holds


def test_a_changed_checkpoint_is_refused_and_the_old_pair_stands(run: Path) -> None:
    checkpoint = Path(json.loads((run / PAIR[0]).read_text(encoding="utf-8"))["checkpoint"]["path"])
    data, before = checkpoint.read_bytes(), [sha256_file(run / n) for n in PAIR]
    checkpoint.write_bytes(data + b"x")
    try:
        with pytest.raises(HardStop, match="not the one on record"):
            handoff.prepare(run)
        with pytest.raises(HardStop, match="not the one that was handed over"):
            load_model(run / PAIR[0])
    finally:
        checkpoint.write_bytes(data)
    assert [sha256_file(run / n) for n in PAIR] == before


def test_missing_images_are_named_before_anything_starts(run: Path, tmp_path: Path) -> None:
    csv = boards(run, tmp_path / "boards.csv")
    (tmp_path / "empty").mkdir()
    with pytest.raises(HardStop, match="images of the boards are missing"):
        infer(load_model(run / "best_model.json"), changenet_boards(csv, tmp_path / "empty"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_two_iterations_compare_to_themselves_without_difference(run: Path, tmp_path: Path) -> None:
    done = script("compare_runs.py", f"{run}:baseline", run, "--json", home=tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["paired"]["new_escapes"] == found["paired"]["newly_caught"] == 0
    assert found["a"]["far_fraction"] == found["b"]["far_fraction"]
    assert script("compare_runs.py", f"{run}:iter9", run, home=tmp_path).returncode == 2


def test_render_report_refuses_findings_but_writes_the_page(run: Path, tmp_path: Path) -> None:
    target = run / "run" / "findings.json"
    finding = {
        "title": "Made up",
        "text": "A number from memory.",
        "evidence": [{"file": PAIR[0], "key": "/threshold", "value": 42}],
    }
    target.write_text(json.dumps({"findings": [finding]}), encoding="utf-8")
    (run / "DEFT_Loop_Report.html").unlink()
    try:
        done = script("render_report.py", "--results-dir", run, home=tmp_path)
    finally:
        target.unlink()
    assert done.returncode == 3
    assert "Made up" in done.stderr
    assert "A number from memory." not in (run / "DEFT_Loop_Report.html").read_text(encoding="utf-8")
    assert script("render_report.py", "--results-dir", run, home=tmp_path).returncode == 0


def shots(run: Path, folder: Path) -> tuple[Path, Path, dict[str, str]]:
    """Hold-out images as a line would drop them: test and golden folders, no label, suffixes of several kinds; row by name."""
    from deft_aoi.contract import spec as specs
    from deft_aoi.contract.changenet_csv import read_changenet_csv

    images = run.parents[1] / "kpi" / "images"
    rows = read_changenet_csv(run.parents[1] / "kpi" / "holdout_set.csv", what="hold-out").head(6)
    spec = specs.load_spec(run / PAIR[1])
    names = {}
    for number, row in enumerate(rows.to_dict("records")):
        board = f"B{number % 2}"
        for side, column in (("test", "input_path"), ("golden", "golden_path")):
            (folder / side / board).mkdir(parents=True, exist_ok=True)
            for light in specs.lights(spec):
                end = f"_{light}" if light else ""
                suffix = specs.image_ext(spec)
                source = images / row[column] / f"{row['object_name']}{end}{suffix}"
                target = folder / side / board / f"part{number}{end}{suffix.upper() if number == 0 else suffix}"
                shutil.copyfile(source, target)
                if number == 1:  # the line saves some parts in another format
                    Image.open(source).save(target.with_suffix(".bmp" if suffix != ".bmp" else ".png"))
                    target.unlink()
        names[f"part{number}"] = f"{row['input_path']}/{row['object_name']}"
    return folder / "test", folder / "golden", names


def decided(folder: Path) -> list[dict[str, str]]:
    import csv as tables

    with (folder / "decisions.csv").open(encoding="utf-8", newline="") as file:
        return list(tables.DictReader(file))


def test_folders_and_a_table_of_new_boards_get_the_scores_of_the_same_pixels(run: Path, tmp_path: Path) -> None:
    test, golden, names = shots(run, tmp_path / "shots")
    lines = ["photo,reference"] + [
        f"test/{p.relative_to(test).as_posix()},golden/{p.relative_to(test).as_posix()}" for p in sorted(test.rglob("*.*"))
    ]
    (tmp_path / "shots" / "parts.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    holdout = (run / "run/holdout/inference.csv").read_text(encoding="utf-8").splitlines()
    header = holdout[0].split(",")
    rows = [dict(zip(header, line.split(","), strict=True)) for line in holdout[1:]]
    known = {f"{r['input_path']}/{r['object_name']}": float(r["siamese_score"]) for r in rows}
    for number, source in enumerate(
        (
            ("--test", test, "--golden", golden),
            ("--csv", tmp_path / "shots" / "parts.csv", "--map", "golden=reference,input=photo"),
        )
    ):
        out = tmp_path / f"out{number}"
        done = script("infer.py", "--model", run, *source, "--output", out, "--json", home=tmp_path)
        assert done.returncode == 0, done.stderr
        body, found = json.loads(done.stdout), decided(out)
        assert len(found) == len(names)
        assert body["unsure"] == sum(r["doubt"] == "unsure" for r in found)
        low, high = body["unsure_band"]
        for row in found:
            score = float(row["siamese_score"])
            assert score == pytest.approx(known[names[row["object_name"]]], abs=1e-6)
            assert Path(row["test_file"]).is_file()
            assert Path(row["golden_file"]).is_file()
            assert float(row["distance"]) == pytest.approx(score - body["threshold"])
            assert (row["decision"] == "NO_PASS") == (float(row["distance"]) > 0)
            assert (row["doubt"] == "unsure") == (low <= score <= high)


@pytest.mark.parametrize(
    ("said", "code", "words"),
    [
        (("--csv", "boards.csv"), 2, "needs --images"),
        (("--csv", "boards.csv", "--test", "t", "--golden", "g"), 2, "not clear"),
        (("--test", "t"), 2, "not clear"),
        (("--csv", "boards.csv", "--map", "input.Left=a,golden.Left=b"), 2, "other lights"),
    ],
)
def test_unclear_boards_are_refused_before_anything_is_written(
    run: Path, tmp_path: Path, said: tuple[str, ...], code: int, words: str
) -> None:
    done = script("infer.py", "--model", run, *said, "--output", tmp_path / "out", home=tmp_path)
    assert (done.returncode, words in done.stderr) == (code, True), done.stderr
    assert not (tmp_path / "out").exists()


def test_a_run_s_folder_names_its_model_only_while_the_record_vouches_for_it(run: Path, tmp_path: Path) -> None:
    assert load_model(run).body == load_model(run / PAIR[0]).body
    (run / PAIR[0]).write_text((run / PAIR[0]).read_text(encoding="utf-8") + "\n", encoding="utf-8")
    with pytest.raises(HardStop, match="on record"):
        load_model(run)
    with pytest.raises(HardStop, match="handed over no model"):
        load_model(tmp_path)
