"""What a stage asks of its platform: which GPUs, which image."""

from __future__ import annotations

import hashlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from deft_aoi.contract import spec as specs
from deft_aoi.contract.errors import HardStop, UsageError
from deft_aoi.contract.paths import Workspace
from deft_aoi.engines.container_images import pinned_image
from deft_aoi.loop import launch
from deft_aoi.loop.config import resolve
from deft_aoi.loop.container_image_files import EVIDENCE
from deft_aoi.loop.specs import inference_spec, train_spec

REFERENCE = "nvcr.io/nvidia/tao/tao-toolkit:7.1.0-pyt"
PULLED, PLANNED = "sha256:" + "1" * 64, "sha256:" + "2" * 64
TAO = {"task": "classify", "model": {"backbone": {"type": "fan_tiny_8_p4_hybrid"}}}


def request(tmp_path: Path, kind: str, *, image: dict[str, Any], events: list[dict[str, Any]], **given: Any) -> Any:
    """The request of one job, of a Docker run if nothing else is asked for."""
    config = resolve({"engine": "tao", "platform": "docker", "encoder": "pixels", **given}, TAO)
    run = SimpleNamespace(jobs=tmp_path / "jobs", root=tmp_path)
    context: Any = SimpleNamespace(
        config=config,
        platform=SimpleNamespace(uses_this_machines_gpus=False),
        plan={"images": {"visual_changenet": image, "embedding": image}},
        run=run,
        workspace=SimpleNamespace(root=tmp_path, cache_dir=tmp_path / ".deft"),
        events=lambda: events,
    )
    job = launch.Job("iter1", kind, "", 1, kind, tmp_path / "s.yaml", ("a=b",), tmp_path, tmp_path, tmp_path / "log")
    return launch._request(context, job, f"deft-r1-iter1-{kind}")


def assets_event(image_id: str, status: str = "ok") -> dict[str, Any]:
    return {"stage": "assets", "status": status, "data": {"image_ids": {REFERENCE: image_id}}}


@pytest.mark.parametrize(("kind", "gpus"), [("train", ("2", "3")), ("inference", ("2",)), ("embedding", ("2",))])
def test_only_a_training_takes_several_gpus_and_all_are_asked_for_by_id(tmp_path, kind, gpus):
    image = {"reference": REFERENCE, "id": PLANNED}
    assert request(tmp_path, kind, image=image, events=[], gpu_ids=[2, 3]).gpus == gpus
    assert request(tmp_path, kind, image=image, events=[], num_gpus=4).gpus == (4 if kind == "train" else 1)


def test_a_job_counts_its_gpus_from_0_whatever_the_host_calls_them(tmp_path):
    (tmp_path / "kpi/images").mkdir(parents=True)
    workspace = Workspace.at(tmp_path)
    config = resolve({"engine": "tao", "encoder": "pixels", "gpu_ids": [2, 3]}, TAO)
    where = {"train_csv": workspace.training_csv, "train_images": workspace.kpi_images}
    spec = train_spec(workspace, TAO, config, **where, pretrained=None)
    assert (spec["train"]["num_gpus"], spec["train"]["gpu_ids"]) == (2, [0, 1])
    scoring = inference_spec(spec, csv=workspace.kpi_csv, images=workspace.kpi_images)
    assert (specs.get(scoring, "inference.num_gpus"), specs.get(scoring, "inference.gpu_ids")) == (1, [0])


@pytest.mark.parametrize("given", [{"gpu_ids": [0, 1], "num_gpus": 3}, {"gpu_ids": [1, 1]}])
def test_ids_and_number_must_agree(given):
    with pytest.raises(UsageError, match="do not agree"):
        resolve({"engine": "tao", "encoder": "pixels", **given}, TAO)


def test_what_the_plan_could_not_pin_is_pinned_by_what_was_pulled(tmp_path):
    unpinned = {"reference": REFERENCE, "id": None, "digest": None}
    assert request(tmp_path, "train", image=unpinned, events=[assets_event(PULLED)]).image_digest == PULLED
    assert request(tmp_path, "train", image=unpinned, events=[assets_event(PULLED, "error")]).image_digest is None
    assert request(tmp_path, "train", image={**unpinned, "id": PLANNED}, events=[assets_event(PULLED)]).image_digest == PLANNED
    assert pinned_image({}, [assets_event(PULLED)]) is None


def test_a_slurm_job_is_not_submitted_from_an_image_file_that_changed(tmp_path, monkeypatch):
    file = tmp_path / "tao.sqsh"
    file.write_bytes(b"image")
    given = {"image": {"reference": REFERENCE}, "platform": "slurm", "platform_options": {"container_image": str(file)}}
    known = {str(file): {"stamp": [5, 1, 1, 1], "sha256": hashlib.sha256(b"image").hexdigest()}}
    events = [{"stage": "assets", "status": "ok", "data": {EVIDENCE: known}}]
    assert request(tmp_path, "train", events=events, **given).image == str(file)
    file.write_bytes(b"imagf")
    with pytest.raises(HardStop, match="not the one that this run began with"):
        request(tmp_path, "train", events=events, **given)
    running = {"request": {"argv": ["as it was submitted"]}}
    monkeypatch.setattr(launch, "read_record", lambda _name, _jobs: running)
    assert request(tmp_path, "train", events=events, **given).argv == ("as it was submitted",)
