"""The commands of this room as processes: exit codes, bounded output, files."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from deft_aoi.analysis import spot_check
from deft_aoi.contract.text import shown_label

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


def call(name: str, *args: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, SCRIPTS / name, *map(str, args)], capture_output=True, text=True, timeout=120, check=False
    )


@pytest.fixture
def scored_csv(deeppcb_tiny: Path) -> Path:
    frame = pd.read_csv(deeppcb_tiny / "kpi/testing_set.csv", dtype=str)
    defect = frame["label"] != "PASS"
    frame["siamese_score"] = np.random.default_rng(0).normal(0.3 + 0.3 * defect, 0.12).astype(np.float32)
    path = deeppcb_tiny / "inference.csv"
    frame.to_csv(path, index=False)
    return path


def test_analyze_kpi_says_one_sentence_and_writes_everything_else(scored_csv: Path, tmp_path: Path) -> None:
    ws, out = scored_csv.parent, tmp_path / "kpi"
    done = call(
        "analyze_kpi.py",
        scored_csv,
        "--output-dir",
        out,
        "--target",
        "FAR < 0.1% at recall=100%",
        "--spec",
        ws / "specs/baseline_spec.yaml",
        "--images-dir",
        ws / "kpi/images",
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("NOT MET: ")
    assert len(done.stdout.splitlines()) == 2
    report = json.loads((out / "kpi.json").read_text())
    assert report["counts"]["distinct_by_content"] is True
    assert report["counts"]["distinct_pass"] < report["counts"]["pass_rows"]
    fixed = call(
        "analyze_kpi.py", scored_csv, "--output-dir", out, "--threshold", repr(report["target_point"]["threshold"]), "--json"
    )
    assert json.loads(fixed.stdout)["point"]["fp"] == report["target_point"]["fp"]


def test_counts_alone_are_judged_without_a_csv() -> None:
    asked = ("--false-alarms", "0/400", "--missed", "0/300", "--target")
    said = call("analyze_kpi.py", *asked, "FAR < 0.1% at recall=100%")
    assert said.returncode == 0, said.stderr
    assert said.stdout.splitlines() == [
        "0 of 400 distinct good parts flagged: the FAR is at most 0.746 % (95 %); for 0.1 % that is not enough; "
        "it takes 2,995 distinct good parts with none flagged",
        "0 of 300 distinct defects missed: the escape rate is at most 0.994 % (95 %); for 1 % that is enough; "
        "it takes 299 distinct defects with none missed",
    ]
    assert "that is enough" in call("analyze_kpi.py", *asked, "FAR < 1% at recall=100%").stdout.splitlines()[0]
    assert "refuted" in call("analyze_kpi.py", "--false-alarms", "40/400", "--target", "FAR < 1% at recall=100%").stdout
    for wrong in (("--false-alarms", "0/400"), ("--missed", "5/4"), ("--missed", "0"), ()):
        assert call("analyze_kpi.py", *wrong).returncode == 2, wrong


def test_analyze_gaps_and_record_spot_check(scored_csv: Path, tmp_path: Path) -> None:
    ws = scored_csv.parent
    run = ws / "results" / "run_20260101_000000"
    rca = run / "baseline" / "rca_results" / "T1"
    args = ("--spec", ws / "specs/baseline_spec.yaml", "--images-dir", ws / "kpi/images")
    done = call("analyze_gaps.py", scored_csv, *args, "--output-dir", rca)
    assert done.returncode == 0, done.stderr
    assert (rca / "rca_images").is_dir()
    sample = pd.read_parquet(rca / "kpi_gaps.parquet")["sample_id"][0]
    said = call("record_spot_check.py", "--results-dir", run, "--sample-id", sample, "--verdict", "mislabeled", "--note", "x")
    assert said.returncode == 0, said.stderr
    assert call("record_spot_check.py", "--results-dir", run, "--sample-id", "no/such", "--verdict", "mislabeled").returncode == 2
    assert sample in call("record_spot_check.py", "--results-dir", run, "--list").stdout
    wrong = call("record_spot_check.py", "--results-dir", run, "--picture", "1=edge_case", "--picture", "99=mislabeled")
    assert wrong.returncode == 2
    said = call("record_spot_check.py", "--results-dir", run, "--picture", "1=mislabeled", "--picture", "2=edge_case").stdout
    assert said.startswith("recorded: 2 samples (in all: mislabeled 1, edge_case 1)")
    pictures = json.loads((rca / "metrics.json").read_text())["images"]
    shown = (rca / "weak_samples_breakdown.txt").read_text()
    for number, (picture, cause) in enumerate(zip(pictures, ("mislabeled", "edge_case"), strict=False), start=1):
        line = spot_check.sample_line(number, picture)
        assert f"  {line}: {cause}" in said.splitlines()
        assert f"  {line}\n" in shown
        assert line.startswith(f"{number}: {shown_label(picture['label'])}, score {picture['siamese_score']:.4g}, ")
        assert line.endswith(json.dumps(picture["sample_id"].rsplit("/", 1)[1]))
    again = call(
        "analyze_gaps.py",
        scored_csv,
        *args,
        "--output-dir",
        tmp_path / "rca2",
        "--spot-check",
        run / "run/spot_check.json",
        "--no-images",
    )
    assert again.returncode == 0, again.stderr
    assert sample not in set(pd.read_parquet(tmp_path / "rca2/kpi_gaps.parquet")["sample_id"])


def test_assemble_validate_and_propose(deeppcb_tiny: Path, tmp_path: Path) -> None:
    from deft_aoi.analysis.identity import ContentIndex
    from deft_aoi.contract.changenet_csv import ImageLayout, read_changenet_csv, write_changenet_csv

    ws = deeppcb_tiny
    pool = read_changenet_csv(ws / "augmentation/mining_pool/mining_pool.csv", what="pool")
    for column in ("input_path", "golden_path"):
        pool[column] = "augmentation/mining_pool/" + pool[column]
    ids = ContentIndex(tmp_path / "d").digest_pairs(pool, ImageLayout(ws, ("SolderLight",), ".jpg"))
    mined = pool[~ids["featureless"] & ~ids["content_id"].duplicated()].head(12).assign(provenance="real", target_ids="t")
    write_changenet_csv(mined, tmp_path / "mined.csv")
    done = call(
        "assemble_training_csv.py",
        "--workspace",
        ws,
        "--iteration",
        1,
        "--mined",
        tmp_path / "mined.csv",
        "--output-dir",
        tmp_path,
    )
    assert done.returncode == 0, done.stderr
    combined = tmp_path / "train_combined_iter1.csv"
    rows = list(csv.DictReader((tmp_path / "train_combined_iter1_provenance.csv").open()))
    base = len(pd.read_csv(ws / "train/base/training_set.csv"))
    assert [r["source"] for r in rows] == ["base_train"] * base + ["mining_pool"] * 12
    args = ("--workspace", ws, "--previous", ws / "train/base/training_set.csv")
    assert call("validate_training_csv.py", combined, *args).returncode == 0
    shrunk = tmp_path / "shrunk.csv"
    write_changenet_csv(read_changenet_csv(combined, what="x").iloc[3:], shrunk)
    stopped = call("validate_training_csv.py", shrunk, *args)
    assert stopped.returncode == 3
    assert "previous set" in stopped.stderr
    leaking = tmp_path / "leaking.csv"
    kpi = read_changenet_csv(ws / "kpi/testing_set.csv", what="kpi")
    train = read_changenet_csv(ws / "train/base/training_set.csv", what="train")
    solid = kpi[kpi["label"] != "PASS"].head(2)
    write_changenet_csv(pd.concat([train, solid], ignore_index=True).fillna(""), leaking)
    stopped = call(
        "validate_training_csv.py",
        leaking,
        "--workspace",
        ws,
        "--images-dir",
        "kpi/images",
        "--write-fixed",
        tmp_path / "clean.csv",
    )
    assert stopped.returncode == 3
    assert "clean.csv" in stopped.stderr
    assert (
        call("validate_training_csv.py", tmp_path / "clean.csv", "--workspace", ws, "--images-dir", "kpi/images").returncode == 0
    )


@pytest.mark.parametrize(
    "args",
    [("--recall", "1.5"), ("--recall", "0"), ("--target", "FAR is low"), ("--bins", "0"), ("--spec", "x.yaml")],
)
def test_wrong_usage_is_exit_2(tmp_path: Path, args: tuple[str, str]) -> None:
    (tmp_path / "s.csv").write_text("label,siamese_score\nPASS,0.1\nopen,0.9\n")
    assert call("analyze_kpi.py", tmp_path / "s.csv", "--no-plots", *args).returncode == 2


def test_a_refused_set_is_exit_3_with_the_line(tmp_path: Path) -> None:
    (tmp_path / "s.csv").write_text("label,siamese_score\nPASS,0.1\nopen,nan\n")
    done = call("analyze_kpi.py", tmp_path / "s.csv", "--no-plots")
    assert done.returncode == 3
    assert "line 3" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "name",
    ["analyze_kpi.py", "analyze_gaps.py", "assemble_training_csv.py", "validate_training_csv.py", "record_spot_check.py"],
)
def test_help_has_examples_and_imports_nothing_heavy(name: str) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", SCRIPTS / name, "--help"], capture_output=True, text=True, timeout=60, check=True
    )
    assert "Examples:" in done.stdout
    assert not {"numpy", "pandas", "pyarrow", "torch", "matplotlib"} & {
        x.split("|")[-1].strip() for x in done.stderr.splitlines()
    }
