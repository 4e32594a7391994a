"""NVIDIA's own TAO through our code: FAN-tiny, 64 px, a few rows, on a GPU or on the processors.

Needs ``DEFT_TAO_PYTHON``: a Python with the `nvidia-tao-pytorch` 7.3.0 wheel and what it imports (``DEFT_TAO_PYTHONPATH``
may add a packed tree). Each job spends about half a minute on imports.
"""

from __future__ import annotations

import csv
import dataclasses
import json
import os
import subprocess
from pathlib import Path

import pytest

from deft_aoi import engines
from deft_aoi.contract import spec as specs
from deft_aoi.contract.errors import JobFailed
from deft_aoi.engines import success
from deft_aoi.engines.tao_schema import check_tao_spec, is_known, leaves
from deft_aoi.platforms import base, gpus
from deft_aoi.platforms.base import JobRequest

pytestmark = pytest.mark.integration

HERE = Path(__file__).resolve().parent
REPO = HERE.parents[1]


@pytest.fixture
def tao_python() -> str:
    python = os.environ.get("DEFT_TAO_PYTHON")
    if not python:
        pytest.skip("no TAO: set DEFT_TAO_PYTHON to a Python with the nvidia-tao-pytorch 7.3.0 wheel")
    return python


def tao_environment() -> dict[str, str]:
    parts = [os.environ["DEFT_TAO_PYTHONPATH"]] if "DEFT_TAO_PYTHONPATH" in os.environ else []
    if not gpus.inventory():
        parts.append(str(Path(__file__).parent / "cpu_trainer"))
    return {"PYTHONPATH": os.pathsep.join(parts)} if parts else {}


@pytest.fixture
def small(deeppcb_tiny: Path) -> dict:
    """A spec of ours for FAN-tiny on a dozen rows of each split, both classes."""
    spec = specs.load_spec(deeppcb_tiny / "specs" / "baseline_spec.yaml")
    data = spec["dataset"]["classify"]
    for split, source in (("train", "train_dataset"), ("validation", "validation_dataset"), ("kpi", "infer_dataset")):
        rows = list(csv.reader((deeppcb_tiny / data[source]["csv_path"]).read_text(encoding="utf-8").splitlines()))
        at = rows[0].index("label")
        good = [r for r in rows[1:] if r[at] == "PASS"][:6]
        bad = [r for r in rows[1:] if r[at] != "PASS"][:6]
        path = deeppcb_tiny / f"small_{split}.csv"
        with path.open("w", encoding="utf-8", newline="") as handle:
            csv.writer(handle).writerows([rows[0], *good, *bad])
        data[source] = {"csv_path": str(path), "images_dir": str(deeppcb_tiny / data[source]["images_dir"])}
    data.update(batch_size=4, workers=0, num_classes=2, grid_map={"x": 1, "y": 1})
    spec["model"] = {
        "backbone": {"type": "fan_tiny_8_p4_hybrid", "pretrained_backbone_path": None, "freeze_backbone": False},
        "decode_head": {"feature_strides": [4, 8, 16, 16]},
        "classify": {"difference_module": "learnable", "embed_dec": 8, "eval_margin": 0.5},
    }
    spec["train"] = {
        "num_epochs": 1,
        "checkpoint_interval": 1,
        "validation_interval": 1,
        "num_gpus": 1,
        "gpu_ids": [0],
        "classify": {"loss": "ce", "cls_weight": [1.0, 10.0]},
        "optim": {"lr": 0.0001},
    }
    spec["wandb"] = {"enable": False}
    return spec


def read_rows(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))


def run_tao(kind: str, spec: dict, place: Path, tao_python: str):
    """One job through the real path: spec file, command, platform; returns its status, folder and log."""
    out, path = place / kind, place / f"{kind}.yaml"
    out.mkdir(parents=True)
    specs.dump_spec(spec, path)
    argv = engines.command("tao", "visual_changenet", kind, path, [f"{kind}.results_dir={out}"], tao_python)
    request = JobRequest(
        f"deft-tao-{place.name.replace('_', '-')}-{kind}",
        argv,
        str(out),
        str(place / f"{kind}.log"),
        env=engines.environment("tao") | tao_environment(),
        gpus=1 if gpus.inventory() else 0,
        python=tao_python,
        time_limit_sec=900,
    )
    local = base.get_platform("local")
    local.submit(request, place / "jobs")
    return base.wait(local, request.name, place / "jobs"), out, place / f"{kind}.log"


def test_tao_trains_and_infers_through_our_code(tao_python, small, tmp_path):
    check_tao_spec(small, "7.3.0", {"train": 12, "validation": 12, "infer": 12})
    status, out, log = run_tao("train", small, tmp_path / "run", tao_python)
    evidence = success.check("train", out, exit_code=status.exit_code, log_path=log, launched_ns=status.started_ns)
    assert [o.path for o in evidence.outputs] == ["model_epoch_000_step_00003.pth"]
    assert "val_far" in evidence.metrics
    assert list(success.validation_losses(out / "status.json")) == [0]

    specs.put(small, "inference.checkpoint", str(out / evidence.outputs[0].path))
    status, scored, log = run_tao("inference", small, tmp_path / "run", tao_python)
    evidence = success.check(
        "inference", scored, exit_code=status.exit_code, log_path=log, launched_ns=status.started_ns, expected_rows=12
    )
    asked = read_rows(Path(small["dataset"]["classify"]["infer_dataset"]["csv_path"]))
    answered = read_rows(scored / "inference.csv")
    assert list(answered[0]) == [*asked[0], success.SCORE_COLUMN]
    assert [r["object_name"] for r in answered] == [r["object_name"] for r in asked]
    assert all(0.0 <= float(r[success.SCORE_COLUMN]) <= 1.0 for r in answered)


def test_tao_s_own_failure_gets_our_known_error(tao_python, small, tmp_path):
    specs.put(small, "train.checkpoint_interval", 9)
    status, out, log = run_tao("train", small, tmp_path / "run", tao_python)
    with pytest.raises(JobFailed, match=r"\[checkpoint-interval\]"):
        success.check("train", out, exit_code=status.exit_code, log_path=log, launched_ns=status.started_ns)


@pytest.fixture
def answer(tao_python, deeppcb_tiny, tmp_path) -> tuple[list, dict]:
    """The commands of a whole loop on board crops, and what TAO's own classes made of each."""
    from tests.loop.test_tao_loop import changenet, tao_run

    run = tao_run(deeppcb_tiny, tmp_path / "loop")
    shipped = specs.load_spec(REPO / "specs" / "baseline_spec.yaml")
    asked = [dataclasses.asdict(call) for call in run.calls]
    radio = dataclasses.asdict(changenet(run)[0])
    radio["spec"]["model"] = shipped["model"]  # C-RADIO's branch of the data module, on the same tables
    radio["spec"]["dataset"]["classify"] |= {"image_width": 224, "image_height": 224}
    (tmp_path / "calls.json").write_text(json.dumps([*asked, radio]))
    done = subprocess.run(
        [tao_python, str(HERE / "tao_reader.py"), str(tmp_path / "calls.json")],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
        env={**os.environ, **tao_environment()},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    said = next(line for line in done.stdout.splitlines() if line.startswith("ANSWER "))
    return run.calls, json.loads(said.removeprefix("ANSWER "))


def test_every_stage_s_spec_and_table_goes_through_tao_s_own_classes(answer):
    calls, found = answer
    assert found["refuses_checkpointer"] == ["7.0.1"]
    assert found["refuses_nonsense"] == ["7.0.1", "7.3.0"]
    # Both are the trees that specs are checked against; that of 7.0.1 is what 7.0.1 itself dumped (tests/engines).
    for version, own in found["leaves"].items():
        names = {"model.decode_head.decoder_params" if k.startswith("model.decode_head.decoder_params") else k for k in own}
        assert names == {k for k in leaves() if is_known(k, version)}
    assert len(found["calls"]) == len(calls) + 1
    for call, tables in zip(calls, found["calls"], strict=False):
        for split, table in tables.items():
            source = call.spec["dataset"]["classify"][f"{split}_dataset"]["csv_path"]
            rows = read_rows(Path(source))
            assert table["rows"] == len(rows), (call.stage, split)
            assert table["defects"] == sum(r["label"] != "PASS" for r in rows), (call.stage, split)
            size = call.spec["dataset"]["classify"]["batch_size"]
            assert table["batch"] == [[size, 3, 64, 64], [size, 3, 64, 64], [size, 1]], (call.stage, split)
    assert found["calls"][-1]["train"]["batch"][0][2:] == [224, 224]
