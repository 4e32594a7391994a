"""Every check of the pre-flight can fail, says what it found, and names the fix; all in one list, before anything is started."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest

from deft_aoi.contract.paths import Workspace
from deft_aoi.loop import summary
from deft_aoi.loop.checks import machine
from deft_aoi.loop.preflight import run_checks
from tests import tao_stand_in

from .conftest import FAST, deft, only_run
from .looks import RADIO, TWO_GPUS, edit, gpus, look, only, tao, tao_spec

pytestmark = pytest.mark.usefixtures("bare_machine")


def drop(name: str) -> Callable[[Path], None]:
    return lambda ws: (ws / name).unlink()


def keep_rows(name: str, label: Callable[[str], bool]) -> Callable[[Path], None]:
    def change(ws: Path) -> None:
        frame = pd.read_csv(ws / name, dtype=str)
        frame[frame["label"].map(label)].to_csv(ws / name, index=False)

    return change


def leak(ws: Path) -> None:
    kpi = pd.read_csv(ws / "kpi/testing_set.csv", dtype=str).head(1)
    train = pd.read_csv(ws / "train/base/training_set.csv", dtype=str)
    pd.concat([train, kpi]).to_csv(ws / "train/base/training_set.csv", index=False)


def relabel(name: str, label: str) -> Callable[[Path], None]:
    def change(ws: Path) -> None:
        frame = pd.read_csv(ws / name, dtype=str, keep_default_na=False)
        first = frame["label"][frame["label"] != "PASS"].iloc[0]
        frame.assign(label=frame["label"].replace(first, label)).to_csv(ws / name, index=False)

    return change


def orphan(ws: Path) -> None:
    next((ws / "augmentation/anomalygen/original_image").iterdir()).unlink()


# name, what is done to the workspace, check, level, part of the message, part of the fix, exit code
BROKEN: list[tuple[str, Callable[[Path], None], int, str, str, str, int]] = [
    ("KPI set", drop("kpi/testing_set.csv"), 1, "stop", "missing: kpi/testing_set.csv", "make_workspace.py", 3),
    ("pool", drop("augmentation/mining_pool/mining_pool.csv"), 1, "stop", "mining_pool.csv", "check_data.py", 3),
    ("results outside", lambda ws: edit(ws, results_dir="/results/x"), 7, "stop", "outside the workspace", "into the", 3),
    ("unknown key", lambda ws: edit(ws, train__num_epoch=3), 7, "stop", "num_epoch", "baseline_spec.yaml", 3),
    ("large batch", lambda ws: edit(ws, dataset__classify__batch_size=4096), 7, "stop", "fewer rows", "batch_size", 3),
    ("orphan pair", orphan, 8, "stop", "no original_image", "", 3),
    ("no PASS", keep_rows("train/base/training_set.csv", lambda x: x != "PASS"), 11, "stop", "no PASS rows", "both PASS", 3),
    ("no defect", keep_rows("kpi/testing_set.csv", lambda x: x == "PASS"), 11, "stop", "no defect rows", "both PASS", 3),
    ("good", relabel("train/base/training_set.csv", "ok"), 11, "stop", "means a good part", "--defect-label", 3),
    ("good", relabel("kpi/testing_set.csv", "良品"), 11, "stop", "means a good part", "write PASS", 3),
    ("good", relabel("augmentation/mining_pool/mining_pool.csv", "gut"), 11, "stop", "means a good part", "write PASS", 3),
    ("leak", leak, 11, "stop", "such row(s)", "check_data.py --write-fixed", 3),
]


@pytest.mark.parametrize(("change", "check", "level", "text", "fix", "code"), [b[1:] for b in BROKEN], ids=[b[0] for b in BROKEN])
def test_a_broken_workspace_is_named_with_its_fix(workspace, change, check, level, text, fix, code):
    change(workspace)
    findings, exit_code = look(workspace)
    found = only(findings, check, text)
    assert (found.level, exit_code) == (level, code)
    assert fix in found.fix
    assert found.fix


def test_everything_that_is_missing_comes_in_one_list(workspace, tmp_path):
    orphan(workspace)
    tao_spec(workspace)
    findings, code = tao(workspace, tmp_path, platform_options={"tao_python": "/nowhere/python"}, gpu_ids=[5])
    assert code == 4
    assert {f.check for f in findings if f.level in ("missing", "stop")} == {4, 6, 8, 9}
    assert all(f.fix for f in findings if f.level in ("missing", "stop"))


def test_an_unfinished_run_is_offered(workspace):
    digest = deft("preflight", "--workspace", workspace, *FAST, "--json").json["digest"]
    assert deft("approve", digest[:12], "--confirm", digest[-6:]).code == 0
    assert deft("init_deft_state", "--plan-digest", digest[:12]).code == 0
    run = only_run(workspace)
    findings, code = look(workspace, resuming=True)
    found = only(findings, 1, "unfinished run")
    assert (found.level, code) == ("warn", 0)
    assert found.fix == f"run_loop.py --results-dir {run}"


def test_a_missing_package_or_bundle_file_is_named(workspace, tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "REQUIRED_MODULES", ("numpy", "no_such_package"))
    found = only(look(workspace)[0], 2, "no_such_package")
    assert found.level == "missing"
    assert "setup_env.py" in found.fix
    monkeypatch.setattr(machine, "REQUIRED_MODULES", ("numpy",))
    (tmp_path / "MANIFEST.json").write_text(json.dumps({"files": {"SKILL.md": "0" * 64}}))
    monkeypatch.setattr(machine, "bundle_root", lambda: tmp_path)
    findings, code = look(workspace)
    found = only(findings, 2, "bundle is not complete")
    assert "SKILL.md" in found.text
    assert (found.fix, code) == ("reinstall the skill", 3)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"train__checkpoint_interval_unit": "hour"}, "checkpoint_interval_unit"),
        ({"model__decode_head__feature_strides": [4, 8, 16, 32]}, "feature_strides"),
        ({"train__classify__loss": "contrastive"}, "loss"),
        ({"model__backbone__type": RADIO, "model__decode_head__feature_strides": [4, 8, 16, 32]}, "image_width"),
        ({"dataset__classify__batch_size": 4096}, "batch_size"),
        ({"train__checkpointer__monitor": "val_far"}, "checkpointer"),
    ],
)
def test_the_spec_is_checked_for_the_release_and_the_rows(workspace, tmp_path, changes, named):
    tao_spec(workspace)
    gpus(tmp_path, TWO_GPUS)
    edit(workspace, **changes)
    findings, code = tao(workspace, tmp_path, tao_version="7.0.1")
    found = only(findings, 7, named)
    assert (found.level, code) == ("stop", 3)
    assert found.fix


@pytest.mark.parametrize(
    "name", ["train/base/training_set.csv", "train/base/validation_set.csv", "kpi/testing_set.csv", "kpi/holdout_set.csv"]
)
def test_every_split_needs_a_whole_batch(workspace, tmp_path, name):
    tao_spec(workspace)
    gpus(tmp_path, TWO_GPUS)
    frame = pd.read_csv(workspace / name, dtype=str)
    is_good = frame["label"] == "PASS"
    pd.concat([frame[is_good].head(4), frame[~is_good].head(3)]).to_csv(workspace / name, index=False)
    found = only(tao(workspace, tmp_path)[0], 7, "batch_size")
    assert found.level == "stop"


def test_a_backbone_is_found_fetched_or_missing(workspace, tmp_path):
    tao_spec(workspace, "augmentation/backbone/fan.pth")
    gpus(tmp_path, TWO_GPUS)
    found = only(tao(workspace, tmp_path)[0], 8, "no source is known")
    assert (found.level, found.fix) == ("missing", "stage the file there")
    folder = workspace / "augmentation/backbone"
    folder.mkdir(exist_ok=True)
    (folder / "fan.safetensors").write_bytes(b"x")
    found = only(tao(workspace, tmp_path)[0], 8, "under another suffix")
    assert (found.level, "fan.safetensors" in found.text) == ("stop", True)
    (folder / "fan.pth").write_bytes(b"x")
    assert only(tao(workspace, tmp_path)[0], 8, 'backbone "fan.pth"').level == "ok"
    edit(workspace, model__backbone={"type": RADIO, "pretrained_backbone_path": "augmentation/backbone/r.safetensors"})
    assert "nvidia/C-RADIOv2-B" in only(tao(workspace, tmp_path)[0], 8, "to be fetched").text
    found = only(tao(workspace, tmp_path, air_gapped=True)[0], 8, "air-gapped")
    assert found.level == "missing"
    assert "augmentation/backbone/" in found.fix
    edit(workspace, model__backbone__pretrained_backbone_path="augmentation/backbone/r.pth")
    assert only(tao(workspace, tmp_path)[0], 8, "wrong suffix").level == "stop"


def test_the_encoder_s_model_is_found_fetched_or_missing(workspace, tmp_path):
    tao_spec(workspace)
    gpus(tmp_path, TWO_GPUS)
    assert only(tao(workspace, tmp_path, encoder="siglip")[0], 8, "to be fetched").level == "warn"
    found = only(tao(workspace, tmp_path, encoder="siglip", air_gapped=True)[0], 8, "SigLIP model is not here")
    assert found.level == "missing"
    assert "--model-path" in found.fix
    assert "--encoder difference" in found.fix
    assert not [f for f in tao(workspace, tmp_path, encoder="difference", air_gapped=True)[0] if "SigLIP" in f.text]


@pytest.mark.parametrize(
    ("given", "visible", "text", "level"),
    [
        ({"gpu_ids": [1]}, None, "1 of 2 GPUs (1: NVIDIA RTX A6000, 48 GiB)", "ok"),
        ({"gpu_ids": [0]}, "1", "asked for are not here", "missing"),
        ({"gpu_ids": [7]}, None, "asked for are not here", "missing"),
        ({"num_gpus": 3}, None, "asked for are not here", "missing"),
        ({"num_gpus": 2}, "0", "asked for are not here", "missing"),
        ({}, "", "this machine has none", "missing"),
    ],
)
def test_gpus_are_chosen_by_id_among_the_visible_ones(workspace, tmp_path, monkeypatch, given, visible, text, level):
    tao_spec(workspace)
    gpus(tmp_path, TWO_GPUS)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    found = only(tao(workspace, tmp_path, **given)[0], 9, text)
    assert found.level == level
    assert found.fix or level == "ok"


@pytest.mark.parametrize(
    ("ids", "batch", "problem"), [([0], 8, ""), ([0], 9, "use 8 or less"), ([1], 16, ""), ([1], 17, "use 16 or less")]
)
def test_the_batch_must_fit_the_chosen_gpu(workspace, tmp_path, ids, batch, problem):
    tao_spec(workspace)
    gpus(tmp_path, TWO_GPUS)
    edit(workspace, dataset__classify__batch_size=batch)
    warned = [f for f in tao(workspace, tmp_path, gpu_ids=ids)[0] if f.check == 9 and f.level == "warn"]
    assert [problem in f.text for f in warned] == ([True] if problem else [])
    assert all("batch_size" in f.fix for f in warned)


def test_the_disk_must_hold_the_run(workspace, monkeypatch):
    from deft_aoi.loop.checks import workspace as places

    monkeypatch.setattr(places.shutil, "disk_usage", lambda _path: SimpleNamespace(free=1000))
    findings, code = look(workspace)
    found = only(findings, 10, "not enough free space")
    assert (found.level, code) == ("stop", 3)
    assert "--max-iterations" in found.fix


def test_what_the_kpi_set_cannot_support_is_said(workspace):
    (workspace / "kpi/holdout_set.csv").unlink()
    findings, code = look(workspace)
    assert code == 0
    assert "needs 2995 without a false alarm" in only(findings, 11, "a FAR target of").text
    assert only(findings, 11, "no kpi/holdout_set.csv").level == "warn"


def test_the_summary_shows_where_and_with_what_it_runs_and_who_said_so(workspace, tmp_path):
    tao_spec(workspace)
    gpus(tmp_path, TWO_GPUS)
    python = tao_stand_in.install(tmp_path / "tao")
    plan, _findings, error = run_checks(
        Workspace.at(workspace),
        {
            "engine": "tao",
            "platform": "local",
            "encoder": "pixels",
            "gpu_ids": [1],
            "air_gapped": True,
            "training_epochs": 2,
            "platform_options": {"tao_python": str(python)},
        },
    )
    assert error is None
    assert plan is not None
    lines = [line.split() for line in summary.render(plan).splitlines()]
    for words in (
        "GPUs of a training 1 (user)",
        "GPUs by id [1] (user)",
        "specs checked for TAO 7.1.0 (default)",
        "air-gapped True (user)",
        "engine tao (user)",
        "epochs per training 2 (user)",
        "seed 1234 (default)",
    ):
        assert words.split() in lines, words
    assert any(line[:1] == ["tao_python"] and line[-1] == "(user)" for line in lines)
