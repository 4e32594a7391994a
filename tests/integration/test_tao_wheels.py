"""NVIDIA's own TAO through our code: FAN-tiny, 64 px, a few rows, on a GPU or on the processors.

Needs ``DEFT_TAO_PYTHON``: a Python with the `nvidia-tao-pytorch` 7.3.0 wheel and what it imports (``DEFT_TAO_PYTHONPATH``
may add a packed tree). Each job spends about half a minute on imports.
"""

from __future__ import annotations

import csv
import json
import os
import subprocess
from pathlib import Path

import pytest

from deft_aoi import engines
from deft_aoi.contract import spec as specs
from deft_aoi.engines import success
from deft_aoi.engines.tao_schema import check_tao_spec, leaves
from deft_aoi.platforms import base, gpus
from deft_aoi.platforms.base import JobRequest

pytestmark = pytest.mark.integration

REPO = Path(__file__).resolve().parents[2]
LOAD = """
import json, sys
from omegaconf import OmegaConf
from nvidia_tao_pytorch.config.visual_changenet.default_config import ExperimentConfig
schema = OmegaConf.structured(ExperimentConfig)
for path in sys.argv[1:]:
    OmegaConf.merge(schema, OmegaConf.load(path))
print(json.dumps(OmegaConf.to_container(schema)))
"""


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
    spec["train"] = {"num_epochs": 1, "checkpoint_interval": 1, "validation_interval": 1, "num_gpus": 1, "gpu_ids": [0],
                     "classify": {"loss": "ce", "cls_weight": [1.0, 10.0]}, "optim": {"lr": 0.0001}}
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
        f"deft-tao-{place.name.replace('_', '-')}-{kind}", argv, str(out), str(place / f"{kind}.log"),
        env=engines.environment("tao") | tao_environment(), gpus=1 if gpus.inventory() else 0, python=tao_python,
        time_limit_sec=900)
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
    evidence = success.check("inference", scored, exit_code=status.exit_code, log_path=log, launched_ns=status.started_ns,
                             expected_rows=12)
    asked = read_rows(Path(small["dataset"]["classify"]["infer_dataset"]["csv_path"]))
    answered = read_rows(scored / "inference.csv")
    assert list(answered[0]) == [*asked[0], success.SCORE_COLUMN]
    assert [r["object_name"] for r in answered] == [r["object_name"] for r in asked]
    assert all(0.0 <= float(r[success.SCORE_COLUMN]) <= 1.0 for r in answered)


def test_tao_s_own_failure_gets_our_known_error(tao_python, small, tmp_path):
    specs.put(small, "train.checkpoint_interval", 9)
    status, out, log = run_tao("train", small, tmp_path / "run", tao_python)
    with pytest.raises(success.TaoJobFailed) as caught:
        success.check("train", out, exit_code=status.exit_code, log_path=log, launched_ns=status.started_ns)
    assert caught.value.known_error.id == "checkpoint-interval"


def test_our_specs_load_in_tao_s_own_schema_and_our_tree_is_theirs(tao_python, small, tmp_path):
    specs.dump_spec(small, tmp_path / "small.yaml")
    done = subprocess.run([tao_python, "-c", LOAD, str(REPO / "specs" / "baseline_spec.yaml"), str(tmp_path / "small.yaml")],
                          capture_output=True, text=True, timeout=300, check=False, env={**os.environ, **tao_environment()})
    assert done.returncode == 0, done.stderr[-500:]
    theirs = json.loads(done.stdout.splitlines()[-1])
    for key in leaves():
        assert specs.get(theirs, key, "absent") != "absent", key
