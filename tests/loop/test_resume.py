"""An interrupted training goes on from its newest whole checkpoint; a new iteration fine-tunes and never resumes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from deft_aoi.contract import plans
from deft_aoi.contract.errors import Blocked
from deft_aoi.contract.paths import RunPaths
from deft_aoi.engines import success
from deft_aoi.loop import driver
from deft_aoi.loop.context import StageResult
from deft_aoi.loop.next_step import Step
from deft_aoi.loop.open_run import open_run
from deft_aoi.loop.stages import train
from deft_aoi.record import file_system, log, publish
from tests.conftest import wait_until

from .conftest import FAST, NEVER, SCRIPTS, deft, only_run

RESUME = "train.resume_training_checkpoint_path="
LATEST = "changenet_model_classify_latest.pth"


def jobs(run: Path) -> dict[str, list[str]]:
    """Command line of every job on record, by its name."""
    found = {p.name.removesuffix(".job.json"): json.loads(p.read_text()) for p in sorted(run.glob("run/jobs/*.job.json"))}
    return {name: body["request"]["argv"] for name, body in found.items()}


def test_a_training_whose_job_died_goes_on_from_its_newest_whole_checkpoint(workspace: Path) -> None:
    """Driver, supervisor and job are killed and the newest checkpoint is torn, as a dying machine leaves it."""
    command = [sys.executable, str(SCRIPTS / "run_loop.py"), "--workspace", str(workspace), "--kpi-target", NEVER]
    command += ["--training-epochs", "12", "--max-iterations", "1", "--yes"]
    driver = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    written = "results/run_*/baseline/train.tmp-1/model_*.pth"
    wait_until("three checkpoints", lambda: len(list(workspace.glob(written))) >= 3 or driver.poll() is not None)
    assert driver.poll() is None
    run = only_run(workspace)
    job = json.loads(next(run.glob("run/jobs/*baseline-train.run.json")).read_text())
    for pid in (driver.pid, job["supervisor"]["pid"], job["child"]["pid"]):
        os.kill(pid, signal.SIGKILL)
    driver.wait()
    out = run / "baseline" / "train.tmp-1"
    whole = success.new_checkpoints(out, 0)
    whole[-1].write_bytes(whole[-1].read_bytes()[:-100])
    said = deft("run_stage", "--results-dir", run)
    assert said.code == 0, said.out + said.err
    launched = {name.endswith("-a2"): argv for name, argv in jobs(run).items() if "baseline-train" in name}
    first, again = launched[False], launched[True]
    assert not [a for a in first if a.startswith(RESUME)]
    assert [a for a in again if a.startswith(RESUME)] == [f"{RESUME}{whole[-2]}"]
    status = success.read_status(run / "baseline" / "train" / "status.json")
    assert sum(row["message"] == "Starting Visual ChangeNet train." for row in status) == 2
    # Nothing before the checkpoint is trained again: the epochs of both launches are each trained once, but for the torn one.
    epochs = [row["epoch"] for row in status if row["message"] == "Training loop in progress" and row.get("epoch") is not None]
    assert sorted(set(epochs)) == list(range(12))
    kept = success.new_checkpoints(run / "baseline" / "train", 0)
    assert train.epoch_of(kept[-1]) == 11


def test_a_new_iteration_fine_tunes_and_never_resumes(finished: Path) -> None:
    argv = next(argv for name, argv in jobs(finished).items() if "iter1-train" in name)
    assert not [a for a in argv if a.startswith(RESUME)]
    spec = yaml.safe_load((finished / "run" / "specs" / "iter1-train.yaml").read_text())
    assert not spec["train"].get("resume_training_checkpoint_path")
    assert Path(spec["train"]["pretrained_model_path"]).parent == finished / "baseline" / "train"


def test_a_stale_latest_checkpoint_is_never_in_the_folder_that_a_trainer_is_given(tmp_path: Path) -> None:
    """Of the same training a link is removed, for the resume names its checkpoint; another training's folder is set aside."""
    final = tmp_path / "train"
    out = Path(publish.attempt_dir(final, inputs_digest="one"))
    (out / LATEST).symlink_to("model_epoch_000_step_00001.pth")
    (out / "model_epoch_000_step_00001.pth").write_bytes(b"torn")
    assert train._resume(out) == ()
    assert list(out.iterdir()) == []
    (out / LATEST).write_bytes(b"a trainer would resume from this")
    fresh = Path(publish.attempt_dir(final, inputs_digest="two"))
    assert fresh != out
    assert list(fresh.iterdir()) == []
    assert (tmp_path / "train.stale" / LATEST).is_file()
    assert train._resume(fresh) == ()


def test_a_stage_with_many_long_labels_is_still_recordable(tmp_path: Path) -> None:
    """Twenty labels of 64 characters that take six bytes each are twice what a line holds."""
    for stage in ("approve", "assets", "prestage"):
        log.append(tmp_path, iter_label="run", stage=stage, status="ok", summary=stage)
    labels = {("缺件锡桥" * 16)[:62] + f"{n:02}": n for n in range(20)}
    pins = {"/" + "long/" * 80: {"sha256": "0" * 64, "stamp": [1, 2, 3, 4]}}  # what later stages check must not be left out
    evidence = {"manifest": "0" * 64, "by_label": labels, "counts": {"tp": 1}, "image_files": pins}
    outcome = StageResult("缺" * 300, {"train_rows": 7}, evidence)
    ctx = SimpleNamespace(run=RunPaths(tmp_path))
    driver._record(ctx, Step("baseline", "train", "next", ""), 1, outcome, 1.0)
    data = log.read(tmp_path)[-1]["data"]
    assert data["by_label"] == {"left_out": 20}
    assert (data["state"], data["manifest"], data["image_files"]) == ({"train_rows": 7}, "0" * 64, pins)


def test_a_file_system_is_probed_when_a_run_is_opened_and_the_driver_says_what_is_not_promised(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = deft("preflight", "--workspace", workspace, *FAST, "--json").json["digest"]
    assert deft("approve", digest[:12], "--confirm", digest[-6:]).code == 0
    plan = plans.read_pending(digest)
    monkeypatch.setattr(file_system, "_syncs", lambda _fd: False)
    with pytest.raises(Blocked, match="cannot hold a run"):
        open_run(plan)
    monkeypatch.setattr(file_system, "_syncs", lambda _fd: True)
    monkeypatch.setattr(file_system, "_locks", lambda _first, _second: False)
    run = open_run(plan)
    found = log.read(run.root)[0]["data"]["file_system"]
    assert found == {"kind": file_system.describe(workspace).kind, "flock": False, "fsync": True, "rename": True}
    said: list[str] = []
    driver.open_context(run.root, said.append, said.append)
    assert said == [f"warning: {file_system.NO_FLOCK}"]
