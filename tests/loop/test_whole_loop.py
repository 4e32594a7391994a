"""The whole loop on a tiny rendered workspace, with the real engine: files, record, verdict, continuation."""

from __future__ import annotations

import fnmatch
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pandas as pd

from deft_aoi.record import log
from deft_aoi.report.run_view import read_run
from tests.conftest import wait_until

from .conftest import FAST, NEVER, SCRIPTS, deft, only_run

KPI_FILES = """
kpi.json summary.txt threshold_metrics.csv best_f1_missed_no_pass_samples.csv
confusion_matrix.png confusion_matrix.svg far_vs_recall.png far_vs_recall.svg score_distribution.png score_distribution.svg
"""
TREE = f"""
deft_state.json loop_log.jsonl DEFT_Loop_Report.html best_model.json best_model_inference_spec.yaml lineage.parquet
iter1_summary.md
synth_pool/{{manifest.json,sdg_rows.csv,source_pool.csv,source_pool.parquet,source_embeddings.parquet,source_embed.log}}
synth_pool/images/synth_ng/*_SolderLight.jpg synth_pool/images/synth_ok/*_SolderLight.jpg
{{baseline,iter1}}/train/{{model_epoch_???_step_?????.pth,changenet_model_classify_latest.pth,status.json,experiment.yaml,train.log}}
{{baseline,iter1}}/inference/{{best_val,latest}}/{{inference.csv,inference.log,experiment.yaml,status.json}}
{{baseline,iter1}}/inference/{{best_val,latest}}/{{{",".join(KPI_FILES.split())}}}
{{baseline,iter1}}/inference/_EVALUATE.json
{{baseline,iter1}}/rca_results/TIME/{{kpi_gaps.parquet,threshold.txt,weak_samples_breakdown.txt,metrics.json,weak_overview.png}}
{{baseline,iter1}}/rca_results/TIME/rca_images/weak_*.png
iter1/routing_results/TIME/{{mining_gaps.parquet,anomalygen_gaps.parquet,routing_summary.txt}}
iter1/anomalygen/ingest_summary.json
iter1/mining_filter/{{mining_pool.csv,knn_summary.csv,target_embeddings.parquet,mining_summary.txt,mined_pairs.parquet}}
iter1/mining_filter/{{pool_embed.log,targets_embed.log}}
iter1/dataset/{{train_combined_iter1.csv,train_combined_iter1_provenance.csv}}
{{synth_pool,run/holdout}}/_MANIFEST.json {{baseline,iter1}}/{{train,inference,rca_results}}/_MANIFEST.json
iter1/{{routing_results,anomalygen,mining_filter,dataset}}/_MANIFEST.json
run/{{plan.json,reserve,run.lock,driver.start,driver.exit,log.lock,data_requests.json,gap_ledger.parquet}}
run/specs/{{baseline,iter1}}-{{train,inference}}.yaml run/specs/iter1-embed-{{pool,targets}}.yaml
run/specs/{{run-holdout,run-holdout_baseline}}.yaml
run/specs/run-unregistered.yaml run/specs/registered-{{train,validation,kpi,holdout,iter1-train}}{{,-shifts}}.csv
run/unregistered/{{_MANIFEST.json,unregistered.json,inference.csv,inference.log,experiment.yaml,status.json}}
run/holdout/{{holdout.json,inference.csv,inference.log,experiment.yaml,status.json,holdout_comparison.json}}
run/holdout/baseline/{{holdout.json,inference.csv,inference.log,experiment.yaml,status.json}}
run/jobs/deft-*.{{job,run,exit}}.json run/jobs/.deft-*.lock
"""
"""The data contract (references/data-layout.md) and what ``run/`` holds; ``TIME`` is a folder named by a time."""


def patterns(text: str) -> list[str]:
    """Shell patterns with their braces spelled out."""
    todo, out = text.split(), []
    while todo:
        before, brace, rest = todo.pop().partition("{")
        inner, _, after = rest.partition("}")
        todo += [f"{before}{choice}{after}" for choice in inner.split(",")] if brace else []
        out += [] if brace else [before]
    return out


def test_finished_run_has_the_tree_of_the_data_contract_and_nothing_else(finished: Path) -> None:
    files = [p.relative_to(finished).as_posix() for p in sorted(finished.rglob("*")) if not p.is_dir()]
    files = [re.sub(r"(?<=_results/)[0-9]{8}_[0-9]{6}(?=/)", "TIME", name) for name in files]
    wanted = patterns(TREE)
    missing = [pattern for pattern in wanted if not fnmatch.filter(files, pattern)]
    named = {name for pattern in wanted for name in fnmatch.filter(files, pattern)}
    assert missing == []
    assert sorted(set(files) - named) == []


def test_engines_compare_registered_goldens_and_the_files_keep_the_user_s(finished: Path) -> None:
    given = pd.read_csv(finished / "run/specs/registered-kpi.csv", dtype=str)
    shifts = pd.read_csv(finished / "run/specs/registered-kpi-shifts.csv", dtype=str)
    moved = (shifts["dy"] != "0") | (shifts["dx"] != "0")
    assert 0 < moved.sum() < len(moved)
    cache = str(finished.parents[1] / ".deft" / "registered")
    assert given["golden_path"].str.startswith(cache).equals(moved)
    scored = pd.read_csv(finished / "baseline/inference/best_val/inference.csv", dtype=str)
    own = pd.read_csv(finished.parents[1] / "kpi/testing_set.csv", dtype=str)
    assert scored["golden_path"].tolist() == own["golden_path"].tolist()
    body = json.loads((finished / "best_model.json").read_text())["preprocessing"]
    assert body["required"]["method"]
    assert set(body["unregistered_kpi"]) == {"threshold", "far_fraction", "recall_fraction", "at_this_threshold"}
    head = (finished / "best_model_inference_spec.yaml").read_text().splitlines()[0]
    assert head.startswith("#")
    assert "REGISTERED" in head


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
    assert "1 of 1 iterations are done" in said.out
    assert "best_model.json" in said.out


def test_a_spot_check_is_on_record_and_is_no_ones_sentence(finished_copy: Path) -> None:
    sample = pd.read_parquet(next(finished_copy.glob("baseline/rca_results/*/kpi_gaps.parquet")))["sample_id"].iat[0]
    said = deft("record_spot_check", "--results-dir", finished_copy, "--sample-id", sample, "--verdict", "mislabeled")
    assert said.code == 0, said.err
    last = log.read(finished_copy)[-1]
    assert (last["stage"], last["iter"], last["data"]["kind"]) == ("note", "baseline", "spot_check")
    assert sample in last["summary"]
    assert last["summary"].endswith(": mislabeled")
    assert "baseline" not in read_run(finished_copy).notes()


def test_fail_on_not_met_is_exit_8(finished: Path) -> None:
    assert deft("run_loop", "--results-dir", finished, "--fail-on-not-met").code == 8


def test_killed_driver_and_its_job_are_picked_up_again(workspace: Path) -> None:
    """SIGKILL the driver in the middle of a training: the job goes on, and the next driver adopts it."""
    command = [sys.executable, str(SCRIPTS / "run_loop.py"), "--workspace", str(workspace), "--kpi-target", NEVER, *FAST, "--yes"]
    driver = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    launched = "results/run_*/run/jobs/*baseline-train.job.json"
    wait_until("the training is launched", lambda: list(workspace.glob(launched)) or driver.poll() is not None)
    assert driver.poll() is None
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
