"""Inference and evaluation: columns, order, cells verbatim, scores that depend on the pair alone, TAO's metrics."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import numpy as np
import pytest

from deft_aoi.engines.embedded import checkpoint


@pytest.fixture
def trained(engine, tiny) -> Path:
    engine.ok("visual_changenet", "train", "-e", tiny.write_spec(), "train.num_epochs=6", "train.checkpoint_interval=6")
    return tiny.root / "results" / "train" / checkpoint.LATEST


def infer(engine, tiny, model: Path, name: str = "out", *overrides: str) -> list[dict[str, str]]:
    folder = tiny.root / name
    engine.ok(
        "visual_changenet",
        "inference",
        "-e",
        tiny.write_spec(),
        f"results_dir={folder}",
        f"inference.checkpoint={model}",
        *overrides,
    )
    with (folder / "inference" / "inference.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_columns_are_taos_and_cells_are_verbatim(engine, tiny, trained, tao_fixtures):
    columns = ("boardname", "input_path", "golden_path", "label", "object_name", "empty", "text")
    rows = [[row[4], *row[:4], "", 'a "quoted", 007'] for row in tiny.add_rows("val", 12, 4, seed=2)]
    tiny.write_csv("val.csv", rows[::-1], columns)
    scored = infer(engine, tiny, trained)
    assert list(scored[0]) == [*columns, "siamese_score"]
    assert [list(row.values())[:-1] for row in scored] == rows[::-1]
    assert scored[0]["boardname"] == "00000011"  # TAO would write 11
    for folder in ("learnable", "euclidean"):
        run = tao_fixtures / "tao_runs" / folder
        taos = next(csv.reader((run / "results/inference/inference.csv").open()))
        given = next(csv.reader((run / "all.csv").open()))
        assert taos == [*given, "siamese_score"]


def test_the_model_separates_and_scores_are_probabilities(engine, tiny, trained):
    scored = infer(engine, tiny, trained)
    values = np.array([float(row["siamese_score"]) for row in scored])
    defect = np.array([row["label"] != "PASS" for row in scored])
    assert ((values >= 0) & (values <= 1)).all()
    assert values[defect].min() > values[~defect].max()


def test_a_score_does_not_depend_on_the_rows_around_it(engine, tiny, trained):
    rows = tiny.add_rows("val", 12, 4, seed=2)
    whole = {row["object_name"]: float(row["siamese_score"]) for row in infer(engine, tiny, trained)}
    tiny.write_csv("val.csv", rows[::-1][:5])  # fewer rows than a batch: TAO refuses, this engine need not
    for row in infer(engine, tiny, trained, "part"):
        assert float(row["siamese_score"]) == pytest.approx(whole[row["object_name"]], rel=1e-4)
    assert infer(engine, tiny, trained, "a", "dataset.classify.batch_size=3") == infer(
        engine, tiny, trained, "b", "dataset.classify.batch_size=3"
    )


def test_an_existing_score_column_is_overwritten_in_place(engine, tiny, trained):
    rows = [["0.5", *row] for row in tiny.add_rows("val", 12, 4, seed=2)]
    tiny.write_csv("val.csv", rows, ("siamese_score", "input_path", "golden_path", "label", "object_name", "boardname"))
    scored = infer(engine, tiny, trained)
    assert list(scored[0])[0] == "siamese_score"
    assert "0.5" not in [row["siamese_score"] for row in scored]


def shape(lines: list[dict]) -> list[tuple]:
    return [
        (line["message"].split(": ")[0].split(":\n")[0].split(" /")[0], line["status"], tuple(line), tuple(line.get("kpi", {})))
        for line in lines
    ]


@pytest.mark.parametrize("subtask", ["inference", "evaluate"])
def test_status_lines_have_the_shape_of_a_real_730_run(engine, tiny, trained, tao_fixtures, subtask):
    engine.ok("visual_changenet", subtask, "-e", tiny.write_spec(), f"{subtask}.checkpoint={trained}")
    folder = tiny.root / "results" / subtask
    ours = shape(engine.status(folder))
    real = shape(engine.status(tao_fixtures / "tao_runs_730" / "run2" / "fan_base" / subtask))
    assert set(ours) == set(real)
    assert ours[0] == real[0]
    assert ours[-1] == real[-1]
    assert (folder / "experiment.yaml").is_file()


def test_evaluate_rates_are_over_their_own_class(engine, tiny, trained):
    engine.ok(
        "visual_changenet",
        "evaluate",
        "-e",
        tiny.write_spec(),
        f"evaluate.checkpoint={trained}",
        "model.classify.eval_margin=0.0",
    )  # everything is called a defect
    kpi = engine.status(tiny.root / "results" / "evaluate")[-1]["kpi"]
    assert kpi == {"test_acc": pytest.approx(100 * 4 / 12), "test_fpr": 100.0, "test_fnr": 0.0, "defect_acc": 100.0}


def test_a_missing_checkpoint_ends_like_taos_failure(engine, tiny, tao_fixtures):
    code, error = engine.call("visual_changenet", "inference", "-e", tiny.write_spec(), "inference.checkpoint=/nowhere/x.pth")
    assert code == 1
    real = engine.status(tao_fixtures / "tao_runs_730" / "run1" / "fan_base" / "inference")[-1]
    ours = engine.status(tiny.root / "results" / "inference")[-1]
    assert ours["message"] == "File system error: [Errno 2] No such file or directory: '/nowhere/x.pth'"
    assert ours["message"].split("'")[0] == real["message"].split("'")[0]
    assert (ours["status"], list(ours)) == (real["status"], list(real))
    assert not list((tiny.root / "results").rglob("inference.csv"))
    assert "x.pth" in error


def test_another_architecture_is_refused(engine, tiny, trained):
    code, error = engine.call(
        "visual_changenet", "inference", "-e", tiny.write_spec(), f"inference.checkpoint={trained}", "model.classify.embed_dec=7"
    )
    assert code == 1
    assert "the spec asks for" in error


def test_several_goldens_give_the_same_scores_every_time(engine, tiny, trained):
    first = infer(engine, tiny, trained, "a", "dataset.classify.num_golden=3")
    assert first == infer(engine, tiny, trained, "b", "dataset.classify.num_golden=3")
    assert first != infer(engine, tiny, trained, "c")


def test_deeppcb_trains_and_ranks_defects_above_good_parts(engine, deeppcb_tiny, monkeypatch):
    from scipy.stats import mannwhitneyu

    monkeypatch.chdir(deeppcb_tiny)
    spec, out = "specs/baseline_spec.yaml", deeppcb_tiny / "results"
    engine.ok("visual_changenet", "train", "-e", spec, f"results_dir={out}", "train.num_epochs=12")
    engine.ok(
        "visual_changenet",
        "inference",
        "-e",
        spec,
        f"results_dir={out}",
        f"inference.checkpoint={out / 'train' / checkpoint.LATEST}",
    )
    with (out / "inference" / "inference.csv").open(newline="") as file:
        scored = list(csv.DictReader(file))
    good = [float(row["siamese_score"]) for row in scored if row["label"] == "PASS"]
    bad = [float(row["siamese_score"]) for row in scored if row["label"] != "PASS"]
    assert mannwhitneyu(bad, good).statistic / (len(bad) * len(good)) > 0.85  # AUROC
    assert os.path.getsize(out / "train" / checkpoint.LATEST) < 3_000_000
