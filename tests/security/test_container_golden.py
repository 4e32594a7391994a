"""Exactly what the engine is asked for, stage by stage: what a container gets beyond this list, somebody must write here."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from deft_aoi.loop import launch
from deft_aoi.platforms.docker_settings import ENGINE_LABEL, container_settings

IMAGE = {"reference": "registry/x:1", "id": "sha256:" + "0" * 64}
OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
HOME = {"HOME": "/tmp", "USER": "deft", "LOGNAME": "deft", "PYTHONUNBUFFERED": "1", "WANDB_MODE": "disabled"}
ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
GPU = [{"Driver": "", "Count": 0, "DeviceIDs": ["0"], "Capabilities": [["gpu"]], "Options": {}}]
LIMITS = [{"Name": "memlock", "Soft": -1, "Hard": -1}, {"Name": "stack", "Soft": 64 << 20, "Hard": 64 << 20}]
KINDS = {
    "train": ("visual_changenet", "train", "train.results_dir={out}"),
    "inference": ("visual_changenet", "inference", "inference.results_dir={out}"),
    "embedding": ("embedding", "image_embeddings", "output_parquet={out}/e.parquet"),
}


@pytest.mark.parametrize("engine", ["tao", "embedded"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_container_gets_exactly_this(tmp_path: Path, engine: str, kind: str) -> None:
    pytest.importorskip("docker")
    out = tmp_path / "results" / "run_1" / "iter1" / "out.tmp-1"
    out.mkdir(parents=True)
    tool, subtask, override = KINDS[kind]
    override = override.format(out=out)
    spec = tmp_path / "results" / "run_1" / "run" / "specs" / f"iter1-{kind}.yaml"
    config = SimpleNamespace(
        engine=engine,
        platform="docker",
        platform_options={"user": "1000:1000"},
        num_gpus=1,
        gpu_ids=("0",) if engine == "tao" else (),
    )
    context = SimpleNamespace(
        config=config,
        platform=SimpleNamespace(uses_this_machines_gpus=False),
        plan={"images": {"visual_changenet": IMAGE, "embedding": IMAGE}},
        workspace=SimpleNamespace(root=tmp_path),
        run=SimpleNamespace(jobs=tmp_path / "jobs"),
    )
    job = launch.Job("iter1", kind, "", 1, kind, spec, (override,), out, out, out / f"{kind}.log")
    request = launch._request(context, job, f"deft-r1-iter1-{kind}")
    image = SimpleNamespace(attrs={"Config": {"Labels": {ENGINE_LABEL: "1"} if engine == "embedded" else {}}})
    made = json.loads(json.dumps(container_settings(request, image, config.platform_options, {})))
    assert made == {
        "command": [tool, subtask, "-e", str(spec), override],
        "entrypoint": "",
        "name": f"deft-r1-iter1-{kind}",
        "labels": {"org.deft-aoi.job": f"deft-r1-iter1-{kind}"},
        "user": "1000:1000",
        "environment": HOME | OFFLINE | (ONE_THREAD if engine == "embedded" else {}),
        "working_dir": str(out),
        "mounts": [
            {"Target": str(tmp_path), "Source": str(tmp_path), "Type": "bind", "ReadOnly": True},
            {"Target": str(out), "Source": str(out), "Type": "bind", "ReadOnly": False},
        ],
        "shm_size": 8 << 30,
        "device_requests": GPU if engine == "tao" else [],
        "network_mode": "none",
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges"],
        "pids_limit": 4096,
        "read_only": engine == "embedded",
        "tmpfs": {"/tmp": "rw,nosuid,nodev,mode=1777"} if engine == "embedded" else {},
        "ulimits": LIMITS if engine == "tao" else [],
        "log_config": {"Type": "json-file", "Config": {}},
        "auto_remove": False,
        "stdin_open": False,
        "tty": False,
    }
    assert request.secret_names == ()
