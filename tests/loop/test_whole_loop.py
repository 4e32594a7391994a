"""The whole loop on a tiny rendered workspace, with the real engine: files, record, verdict, continuation."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from .conftest import FAST, NEVER, SCRIPTS, deft, only_run


@pytest.fixture(scope="module")
def finished(demo_source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of one iteration."""
    import shutil

    home = tmp_path_factory.mktemp("home")
    ws = tmp_path_factory.mktemp("finished") / "ws"
    shutil.copytree(demo_source, ws)
    os.environ["XDG_STATE_HOME"] = str(home)
    said = deft("run_loop", "--workspace", ws, "--kpi-target", NEVER, *FAST, "--yes")
    assert said.code == 0, said.out + said.err
    return only_run(ws)


TREE = """
DEFT_Loop_Report.html
best_model.json
best_model_inference_spec.yaml
deft_state.json
loop_log.jsonl
synth_pool/manifest.json
synth_pool/sdg_rows.csv
synth_pool/source_pool.csv
synth_pool/source_pool.parquet
synth_pool/source_embeddings.parquet
synth_pool/source_embed.log
baseline/train/status.json
baseline/train/experiment.yaml
baseline/train/train.log
baseline/train/model_epoch_*_step_*.pth
baseline/inference/best_val/inference.csv
baseline/inference/best_val/kpi.json
baseline/inference/latest/inference.csv
baseline/inference/latest/kpi.json
baseline/rca_results/*/kpi_gaps.parquet
baseline/rca_results/*/threshold.txt
baseline/rca_results/*/weak_samples_breakdown.txt
baseline/rca_results/*/metrics.json
iter1/routing_results/*/mining_gaps.parquet
iter1/routing_results/*/routing_summary.txt
iter1/anomalygen/ingest_summary.json
iter1/mining_filter/mining_pool.csv
iter1/mining_filter/knn_summary.csv
iter1/mining_filter/target_embeddings.parquet
iter1/mining_filter/mining_summary.txt
iter1/mining_filter/mined_pairs.parquet
iter1/dataset/train_combined_iter1.csv
iter1/dataset/train_combined_iter1_provenance.csv
iter1/train/model_epoch_*_step_*.pth
iter1/inference/best_val/inference.csv
iter1/inference/latest/inference.csv
iter1/rca_results/*/kpi_gaps.parquet
run/plan.json
run/holdout/holdout.json
""".split()


@pytest.mark.parametrize("pattern", TREE)
def test_finished_run_has_the_tree_of_the_data_contract(finished: Path, pattern: str) -> None:
    assert list(finished.glob(pattern)), f"{pattern} is missing in {finished}"


def test_finished_run_verifies_and_a_changed_byte_is_named(finished: Path, tmp_path: Path) -> None:
    import shutil

    said = deft("verify_run", "--results-dir", finished)
    assert said.code == 0, said.out
    assert said.out.startswith("everything holds")
    ws = tmp_path / "ws"
    shutil.copytree(finished.parents[1], ws, symlinks=True)
    copy = only_run(ws)
    csv = copy / "iter1" / "inference" / "latest" / "inference.csv"
    data = csv.read_bytes()
    csv.write_bytes(data[:-2] + bytes([data[-2] ^ 1]) + data[-1:])
    said = deft("verify_run", "--results-dir", copy)
    assert said.code == 3
    assert "latest/inference.csv" in said.out


def test_training_set_grows_by_what_was_mined(finished: Path) -> None:
    import csv

    rows = list(csv.DictReader((finished / "iter1/dataset/train_combined_iter1_provenance.csv").open()))
    kept = list(csv.DictReader((finished / "iter1/mining_filter/mining_pool.csv").open()))
    base = list(csv.DictReader((finished.parents[1] / "train/base/training_set.csv").open()))
    assert len(rows) == len(base) + len(kept)
    assert {r["source"] for r in rows} == {"base_train", "mining_pool"}
    assert {r["provenance"] for r in rows} <= {"real", "sdg"}


def test_files_that_we_write_never_name_an_attempt_folder(finished: Path) -> None:
    theirs = {"experiment.yaml", "status.json"}  # the engine's own, and what it printed (*.log)
    for path in finished.rglob("*"):
        inside = path.relative_to(finished).as_posix()
        if path.is_file() and path.name not in theirs and path.suffix != ".log" and not inside.startswith("run/jobs"):
            assert b".tmp-" not in path.read_bytes(), inside


def test_next_stage_says_that_nothing_is_left(finished: Path) -> None:
    said = deft("next_stage", "--results-dir", finished)
    assert said.code == 0
    assert "nothing is left to do" in said.out


def test_fail_on_not_met_is_exit_8(finished: Path) -> None:
    assert deft("run_loop", "--results-dir", finished, "--fail-on-not-met").code == 8


def test_killed_driver_and_its_job_are_picked_up_again(workspace: Path) -> None:
    """SIGKILL the driver in the middle of a training: the job goes on, and the next driver adopts it."""
    command = [sys.executable, str(SCRIPTS / "run_loop.py"), "--workspace", str(workspace), "--kpi-target", NEVER, *FAST, "--yes"]
    driver = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    end = time.monotonic() + 120
    while not list(workspace.glob("results/run_*/run/jobs/*baseline-train.job.json")):
        assert time.monotonic() < end, "the training was never launched"
        assert driver.poll() is None
        time.sleep(0.02)
    os.killpg(driver.pid, signal.SIGKILL)
    driver.wait()
    run = only_run(workspace)
    said = deft("run_loop", "--results-dir", run)
    assert said.code == 0, said.out + said.err
    events = [json.loads(line) for line in (run / "loop_log.jsonl").read_text().splitlines()]
    started = [e for e in events if e["status"] == "started" and e["stage"] == "train" and e["iter"] == "baseline"]
    assert len(started) == 1
    starts = (run / "baseline/train/status.json").read_text().count("Starting Visual ChangeNet train.")
    assert starts == 1, "the training was started twice"
    assert deft("verify_run", "--results-dir", run).code == 0


def test_a_second_driver_is_refused_and_names_the_first(workspace: Path) -> None:
    digest = deft("preflight", "--workspace", workspace, *FAST, "--json").json["digest"]
    assert deft("approve", digest[:12], "--confirm", digest[-6:]).code == 0
    assert deft("init_deft_state", "--plan-digest", digest[:12]).code == 0
    run = only_run(workspace)
    from deft_aoi.record.lock import DriverLock

    with DriverLock(run):
        said = deft("run_stage", "--results-dir", run)
    assert said.code == 6
    assert f"pid {os.getpid()}" in said.err
