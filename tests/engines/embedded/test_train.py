"""Training: files and status lines as TAO's, the same weights again, resume, failure and interruption."""

from __future__ import annotations

import hashlib
import re
import signal
from pathlib import Path

import pytest
import torch
from tests.conftest import wait_until

from deft_aoi.engines.embedded import checkpoint


def weights(path: Path) -> dict[str, torch.Tensor]:
    return torch.load(path, weights_only=True)["state_dict"]


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def train(engine, tiny, name: str, *overrides: str) -> Path:
    folder = tiny.root / name
    engine.ok("visual_changenet", "train", "-e", tiny.write_spec(), f"results_dir={folder}", *overrides)
    return folder / "train"


def test_a_training_leaves_taos_files(engine, tiny):
    folder = train(engine, tiny, "a")
    assert sorted(path.name for path in folder.iterdir()) == [
        "changenet_model_classify_latest.pth",
        "experiment.yaml",
        "model_epoch_000_step_00003.pth",
        "model_epoch_001_step_00006.pth",
        "status.json",
    ]
    latest = folder / checkpoint.LATEST
    assert latest.is_symlink()
    assert str(latest.readlink()) == "model_epoch_001_step_00006.pth"
    content = torch.load(latest, weights_only=True)
    assert {"state_dict", "optimizer_states", "epoch", "global_step", "rng", "model_config", "tao_model"} <= set(content)
    assert (content["epoch"], content["global_step"], content["tao_model"]) == (1, 6, "visual_changenet_classify")


def shape(lines: list[dict]) -> list[tuple]:
    """What a reader of a status file sees: message without numbers and paths, status, fields and metric names."""
    seen = []
    for line in lines:
        message = re.sub(r"\d+(\.\d+)?", "N", line["message"].split("\n", 1)[0 if line["message"][0] != "\n" else 1])
        seen.append((message, line["status"], tuple(line), tuple(line.get("kpi", {}))))
    return seen


def test_status_lines_have_the_shape_of_a_real_730_run(engine, tiny, tao_fixtures):
    folder = train(engine, tiny, "a", "train.num_epochs=4", "train.validation_interval=2")
    real = shape(engine.status(tao_fixtures / "tao_runs_730" / "run2" / "fan_base" / "train"))
    ours = shape(engine.status(folder))
    assert len(ours) > 12
    # Every line of ours occurs in TAO's file, field by field in the same order.
    assert set(ours) <= set(real), set(ours) - set(real)
    for sentence in (
        "Starting Visual ChangeNet train.",
        "Experiment configuration:",
        "Starting Training Loop.",
        "Training loop in progress",
        "Train metrics generated.",
        "Eval metrics generated.",
        "Training loop complete.",
        "Train finished successfully.",
    ):
        assert sentence in [line[0] for line in ours]
    assert ours[-1][0] == "Train finished successfully."


def test_progress_counts_as_tao_counts(engine, tiny):
    lines = engine.status(train(engine, tiny, "a"))
    progress = [line for line in lines if line["message"] == "Training loop in progress"]
    assert [(p["epoch"], p["step"], p["max_epoch"], p["max_step"]) for p in progress] == [(0, 3, 1, 6), (1, 6, 1, 6)]
    evals = [line["kpi"] for line in lines if line["message"] == "Eval metrics generated."]
    assert len(evals) == 2
    assert all(list(kpi) == ["val_loss", "val_acc", "val_fpr", "val_far"] for kpi in evals)
    assert all(0 <= kpi[key] <= 100 for kpi in evals for key in ("val_acc", "val_fpr", "val_far"))
    assert re.fullmatch(r"[1-9]\d?/[1-9]\d?/\d{4}", lines[0]["date"])
    assert re.fullmatch(r"(0|[1-9]\d?):(0|[1-9]\d?):(0|[1-9]\d?)", lines[0]["time"])


def test_the_same_seed_gives_the_same_bytes_and_another_seed_does_not(engine, tiny):
    digests = [
        hashlib.sha256((train(engine, tiny, name, f"train.seed={seed}") / checkpoint.LATEST).read_bytes()).hexdigest()
        for name, seed in (("a", 5), ("b", 5), ("c", 6))
    ]
    assert digests[0] == digests[1] != digests[2]


@pytest.mark.parametrize("unit", ["epoch", "step"])
def test_resume_ends_where_the_uninterrupted_training_does(engine, tiny, unit):
    # By step the interruption falls into the middle of an epoch (3 steps each).
    steps = ["train.checkpoint_interval_unit=step", "train.checkpoint_interval=2"] if unit == "step" else []
    whole = train(engine, tiny, "whole", "train.num_epochs=4", *steps)
    part = tiny.root / "part" / "train"
    part.mkdir(parents=True)
    middle = sorted(whole.glob("model_epoch_*.pth"))[1]
    (part / middle.name).write_bytes(middle.read_bytes())
    (part / checkpoint.LATEST).symlink_to(middle.name)
    resumed = train(engine, tiny, "part", "train.num_epochs=4", *steps)  # found by its *_latest.pth alone
    assert any("Resuming training" in line["message"] for line in engine.status(resumed))
    assert same(weights(whole / checkpoint.LATEST), weights(resumed / checkpoint.LATEST))
    named = train(engine, tiny, "named", "train.num_epochs=4", f"train.resume_training_checkpoint_path={middle}", *steps)
    assert same(weights(whole / checkpoint.LATEST), weights(named / checkpoint.LATEST))


def test_a_finished_training_started_again_trains_nothing(engine, tiny):
    folder = train(engine, tiny, "a")
    before = {path.name: path.stat().st_mtime_ns for path in folder.glob("model_*.pth")}
    lines = len(engine.status(folder))
    train(engine, tiny, "a")
    assert {path.name: path.stat().st_mtime_ns for path in folder.glob("model_*.pth")} == before
    added = engine.status(folder)[lines:]
    assert added[-1]["message"] == "Train finished successfully."
    assert not any("metrics" in line["message"] for line in added)


def test_fine_tuning_takes_the_weights_and_counts_from_zero(engine, tiny):
    first = train(engine, tiny, "a")
    second = train(
        engine,
        tiny,
        "b",
        f"train.pretrained_model_path={first / checkpoint.LATEST}",
        "train.optim.lr=1e-12",
        "train.optim.weight_decay=0",
        "train.num_epochs=1",
    )
    assert (second / "model_epoch_000_step_00003.pth").is_file()
    old, new = weights(first / checkpoint.LATEST), weights(second / checkpoint.LATEST)
    assert torch.allclose(old["head.0.weight"], new["head.0.weight"], atol=1e-6)


def test_a_frozen_trunk_does_not_move(engine, tiny):
    first = train(engine, tiny, "a")
    second = train(
        engine, tiny, "b", f"train.pretrained_model_path={first / checkpoint.LATEST}", "model.backbone.freeze_backbone=true"
    )
    old, new = weights(first / checkpoint.LATEST), weights(second / checkpoint.LATEST)
    assert all(torch.equal(old[key], new[key]) for key in old if key.startswith("trunk."))
    assert not torch.equal(old["head.0.weight"], new["head.0.weight"])


def test_euclidean_learns_and_says_that_its_loss_is_per_sample(engine, tiny):
    folder = train(
        engine,
        tiny,
        "a",
        "model.classify.difference_module=euclidean",
        "train.classify.loss=contrastive",
        "model.classify.eval_margin=1.0",
        "train.num_epochs=10",
        "train.checkpoint_interval=10",
    )
    lines = engine.status(folder)
    assert any("per sample" in line["message"] for line in lines)
    evals = [line["kpi"]["val_loss"] for line in lines if line["message"] == "Eval metrics generated."]
    assert evals[-1] < evals[0] / 2


def failing(engine, tiny, *overrides: str) -> tuple[str, dict]:
    folder = tiny.root / "bad"
    code, error = engine.call("visual_changenet", "train", "-e", tiny.write_spec(), f"results_dir={folder}", *overrides)
    assert code == 1
    assert len(error.splitlines()) == 2  # the error, and the execution status
    assert not list(folder.rglob("*.pth"))
    return error, engine.status(folder / "train")[-1]


def test_each_bad_input_is_one_line_a_failure_status_and_no_checkpoint(engine, tiny):
    rows = tiny.add_rows("train", 24, 8, seed=1)
    cases = [
        ("Dataset size (6) is smaller than the total batch size (8)", rows[:3] + rows[-3:], []),
        ("no row with label PASS", rows[-8:], []),
        ("no defect row", rows[:16], []),
        ("does not go with", rows, ["train.classify.loss=contrastive"]),
        ("row 5, column input_path", [*rows[:4], ["nowhere", *rows[4][1:]], *rows[5:]], []),
        ("row 24, column golden_path", [*rows[:23], [rows[23][0], "nowhere", *rows[23][2:]]], []),
        ("pretrained_model.pth", rows, ["train.pretrained_model_path=/nowhere/pretrained_model.pth"]),
    ]
    for message, kept, overrides in cases:
        tiny.write_csv("train.csv", kept)
        error, last = failing(engine, tiny, *overrides)
        assert message in error
        assert last["status"] == "FAILURE"
        assert message in last["message"]
        assert last["message"].startswith(("Parameter validation error: ", "File system error: "))


def test_a_csv_without_a_mandatory_column_and_an_undecodable_image_are_named(engine, tiny):
    rows = tiny.add_rows("train", 24, 8, seed=1)
    tiny.write_csv("train.csv", [row[:2] + row[3:] for row in rows], ("input_path", "golden_path", "object_name", "x"))
    assert "'label'" in failing(engine, tiny)[0]
    tiny.write_csv("train.csv", rows)
    for row in rows:
        (tiny.root / "images" / "train_test" / f"{row[3]}_L.png").write_bytes(b"not an image")
    error, _ = failing(engine, tiny)
    assert "cannot decode image" in error
    assert "row " in error


def test_a_checkpoint_that_holds_code_or_is_not_ours_is_refused(engine, tiny):
    bad = tiny.root / "x.pth"
    torch.save({"state_dict": {}, "tao_model": "visual_changenet_classify"}, bad)
    assert "not a checkpoint of the embedded engine" in failing(engine, tiny, f"train.pretrained_model_path={bad}")[0]
    torch.save({"code": Path("/x")}, bad)  # a pickled object: weights_only refuses it
    assert "not a readable checkpoint" in failing(engine, tiny, f"train.pretrained_model_path={bad}")[0]
    bad.write_bytes(b"garbage")
    assert "not a readable checkpoint" in failing(engine, tiny, f"train.pretrained_model_path={bad}")[0]


def test_sigterm_stops_between_batches_and_the_rest_can_be_resumed(engine, tiny):
    folder = tiny.root / "stopped"
    spec = tiny.write_spec()
    child = engine.start("visual_changenet", "train", "-e", spec, f"results_dir={folder}", "train.num_epochs=500")
    wait_until("a checkpoint", lambda: list(folder.rglob("model_*.pth")))
    child.send_signal(signal.SIGTERM)
    _, error = child.communicate(timeout=60)
    assert child.returncode == 143
    assert "stopped by a signal" in error
    lines = engine.status(folder / "train")
    assert lines[-1]["status"] == "FAILURE"
    assert not list(folder.rglob("*.tmp*"))
    done = torch.load(folder / "train" / checkpoint.LATEST, weights_only=True)["epoch"]
    resumed = train(engine, tiny, "stopped", f"train.num_epochs={done + 2}")
    assert engine.status(resumed)[-1]["message"] == "Train finished successfully."


def test_several_lights_and_goldens_train_and_score(engine, tiny):
    for name, count, bad, seed in (("train", 16, 6, 1), ("val", 10, 4, 2)):
        tiny.add_rows(name, count, bad, lights=("A", "B"), seed=seed)
    for number, layout in enumerate(
        (
            {"concat_type": "linear"},
            {"concat_type": "grid", "grid_map": {"x": 2, "y": 1}},
            {"concat_type": "linear", "num_golden": 3},
        )
    ):
        spec = tiny.write_spec(f"s{number}.yaml", input_map={"A": 0, "B": 1}, num_input=2, **layout)
        engine.ok("visual_changenet", "train", "-e", spec, f"results_dir={tiny.root / str(number)}", "train.num_epochs=1")
        assert (tiny.root / str(number) / "train" / checkpoint.LATEST).exists()
