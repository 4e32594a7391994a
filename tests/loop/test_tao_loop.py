"""The whole loop with ``--engine tao``: every spec and every table that TAO would be given, for each release.

NVIDIA's commands are stood in for (see `tests/tao_stand_in.py`); what they are given is real. That TAO itself takes it is
shown in `tests/integration/test_tao_wheels.py`, where there is a TAO.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest

from deft_aoi.contract import spec as specs
from deft_aoi.engines.tao_schema import check_tao_spec
from tests import tao_stand_in
from tests.built_once import built_once

from .conftest import NEVER, deft, only_run

VERSIONS = ("7.0.1", "7.3.0")
STAGES = {
    "baseline-train",
    "baseline-inference",
    "iter1-train",
    "iter1-inference",
    "run-holdout",
    "inference_spec",
    "iter1-embed-pool",
    "iter1-embed-targets",
}
BATCH = 8
BOARDS = 3


@dataclass(frozen=True)
class TaoRun:
    """A finished run and what TAO was asked for in it."""

    workspace: Path
    run: Path
    calls: list[tao_stand_in.Call]


@pytest.fixture(scope="module")
def finished(demo_source: Path, tmp_path_factory: pytest.TempPathFactory) -> TaoRun:
    """A run of one iteration whose fine-tuning was killed once, and new boards scored with what it handed over."""
    place = built_once(tmp_path_factory, "tao-loop", lambda folder: tao_run(demo_source, folder))
    return TaoRun(place / "ws", only_run(place / "ws"), tao_stand_in.calls(place / "tao"))


def tao_run(source: Path, place: Path) -> TaoRun:
    """Drive the loop and `infer.py` on a copy of a workspace, with the stand-in's commands."""
    import shutil

    workspace = place / "ws"
    shutil.copytree(source, workspace)
    python = tao_stand_in.install(place / "tao")
    _make_tao_workspace(workspace, place / "siglip")
    before = dict(os.environ)
    os.environ.update(PATH=f"{python.parent}:{before['PATH']}", XDG_STATE_HOME=str(place / "state"))
    try:
        arguments = (
            "--workspace",
            workspace,
            "--engine",
            "tao",
            "--platform",
            "local",
            "--tao-python",
            python,
            "--kpi-target",
            NEVER,
            "--max-iterations",
            1,
            "--training-epochs",
            2,
            "--model-path",
            place / "siglip",
            "--yes",
        )
        said = deft("run_loop", *arguments, "--until-agent")
        tao_stand_in.die_in_the_next_training(place / "tao")
        run = only_run(workspace)
        for _ in range(4):
            said = deft("run_loop", "--results-dir", run)
            if said.code == 0:
                break
            assert "was lost" in said.err, said.out + said.err
        assert said.code == 0, said.out + said.err
        boards = pd.read_csv(workspace / "kpi/testing_set.csv", dtype=str).head(BOARDS).drop(columns="label")
        boards.to_csv(place / "boards.csv", index=False)
        said = deft(
            "infer",
            "--model",
            run / "best_model.json",
            "--csv",
            place / "boards.csv",
            "--images",
            workspace / "kpi/images",
            "--output",
            place / "out",
            "--tao-python",
            python,
        )
        assert said.code == 0, said.out + said.err
    finally:
        os.environ.clear()
        os.environ.update(before)
    return TaoRun(workspace, run, tao_stand_in.calls(place / "tao"))


def _make_tao_workspace(workspace: Path, siglip: Path) -> None:
    """The demo's own spec with a network of TAO's; a folder that passes for the SigLIP model."""
    path = workspace / "specs/baseline_spec.yaml"
    spec = specs.load_spec(path)
    data = spec["dataset"]["classify"]
    data |= {"batch_size": BATCH, "image_width": 64, "image_height": 64, "num_input": len(data["input_map"])}
    spec["model"] = {
        "backbone": {"type": "fan_tiny_8_p4_hybrid"},
        "decode_head": {"feature_strides": [4, 8, 16, 16]},
        "classify": {"difference_module": "learnable", "embed_dec": 8},
    }
    spec["train"] = {"classify": {"loss": "ce", "cls_weight": [1.0, 10.0]}, "optim": {"lr": 0.0001}}
    spec["deft"] = {"fine_tune": {"train": {"optim": {"lr": 0.00005}}}}
    path.unlink()
    specs.dump_spec(spec, path)
    siglip.mkdir()
    (siglip / "config.json").write_text('{"vision_config": {"image_size": 224}}')
    (siglip / "model.safetensors").write_bytes(b"weights")


def changenet(run: TaoRun) -> list[tao_stand_in.Call]:
    return [c for c in run.calls if c.tool == "visual_changenet"]


def split_of(call: tao_stand_in.Call) -> tuple[str, ...]:
    return ("train", "validation") if call.subtask == "train" else ("infer",)


def test_every_stage_of_the_loop_asked_tao(finished: TaoRun) -> None:
    assert {c.stage for c in finished.calls} == STAGES
    trainings = [c for c in finished.calls if c.stage == "iter1-train"]
    assert len(trainings) == 2, "killed once, resumed once"
    assert trainings[1].overrides[-1].startswith("train.resume_training_checkpoint_path=")
    assert "pretrained_model_path" in trainings[0].spec["train"]
    assert trainings[0].spec["train"]["optim"]["lr"] == 0.00005
    checkpoints = [c.overrides[-1] for c in finished.calls if c.stage == "baseline-inference"]
    assert len(set(checkpoints)) == len(checkpoints)


@pytest.mark.parametrize("version", VERSIONS)
def test_every_spec_with_its_overrides_is_one_that_tao_loads(finished: TaoRun, version: str) -> None:
    for call in changenet(finished):
        given = specs.apply_overrides(call.spec, call.overrides)
        rows = {
            split: len(pd.read_csv(call.spec["dataset"]["classify"][f"{split}_dataset"]["csv_path"])) for split in split_of(call)
        }
        check_tao_spec(given, version, rows)
        assert "deft" not in given, call.stage


def test_every_spec_holds_absolute_paths_and_inference_one_gpu(finished: TaoRun) -> None:
    for call in changenet(finished):
        data = call.spec["dataset"]["classify"]
        paths = [data[f"{split}_dataset"][leaf] for split in split_of(call) for leaf in ("csv_path", "images_dir")]
        assert all(Path(p).is_absolute() and Path(p).exists() for p in (*paths, call.spec_path)), call.stage
        if call.subtask == "inference":
            assert (call.spec["inference"]["num_gpus"], call.spec["inference"]["gpu_ids"]) == (1, [0])
        else:
            assert call.spec["train"]["checkpoint_interval"] == call.spec["train"]["validation_interval"]


def test_every_table_is_read_by_tao_s_own_rule(finished: TaoRun) -> None:
    seen = set()
    for call in changenet(finished):
        for split in split_of(call):
            source = call.spec["dataset"]["classify"][f"{split}_dataset"]
            frame = pd.read_csv(source["csv_path"], dtype={"object_name": str})
            pairs = tao_stand_in.image_pairs(call.spec, split)
            assert len(pairs) == len(frame) >= call.spec["dataset"]["classify"]["batch_size"]
            assert all(Path(image).is_file() for pair in pairs for image in pair), call.stage
            assert not frame[["input_path", "golden_path", "label", "object_name"]].isna().any().any(), call.stage
            if split == "train":
                assert 0 < (frame["label"] == "PASS").sum() < len(frame)
            seen.add(Path(source["csv_path"]).name)
    assert seen == {
        "training_set.csv",
        "validation_set.csv",
        "testing_set.csv",
        "holdout_set.csv",
        "train_combined_iter1.csv",
        "boards.csv",
    }


def test_the_embedding_jobs_give_what_tao_s_command_takes(finished: TaoRun) -> None:
    jobs = [c for c in finished.calls if c.tool == "embedding"]
    for call in jobs:
        assert set(call.spec) | {o.partition("=")[0] for o in call.overrides} == {
            "model",
            "model_path",
            "input_parquet",
            "output_parquet",
        }
        assert call.spec["model"] == "SigLIP"
    pool = pd.read_parquet(finished.run / "synth_pool/source_pool.parquet")
    assert len(pool)


def test_a_few_new_boards_are_less_than_a_batch(finished: TaoRun) -> None:
    (call,) = (c for c in finished.calls if c.stage == "inference_spec")
    assert call.spec["dataset"]["classify"]["batch_size"] == BOARDS < BATCH


def test_the_run_verifies(finished: TaoRun) -> None:
    said = deft("verify_run", "--results-dir", finished.run)
    assert said.code == 0, said.out
