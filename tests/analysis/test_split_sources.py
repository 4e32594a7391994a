"""Where a split's images are has one answer, whichever command asks: the spec's own ``images_dir``."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pytest
import yaml

from deft_aoi.analysis.dataset_files import assemble_training_csv, validate_training_csv
from deft_aoi.contract import spec as specs
from deft_aoi.contract.errors import DeftError, HardStop
from deft_aoi.contract.paths import Workspace
from deft_aoi.contract.splits import load_splits
from deft_aoi.loop.preflight import run_checks
from deft_aoi.workspaces.check_workspace import check_workspace

EXT = "_SolderLight.jpg"
GIVEN = {"kpi_target": "FAR < 5% at recall=100%"}


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as handle:
        return list(csv.DictReader(handle))


@pytest.fixture
def moved(deeppcb_tiny: Path) -> Path:
    """A workspace whose spec puts training images in ``train/images`` and KPI images in ``kpi2/images``."""
    for folder in ("train", "kpi2"):
        shutil.copytree(deeppcb_tiny / "kpi/images", deeppcb_tiny / folder / "images")
    path = deeppcb_tiny / "specs/baseline_spec.yaml"
    spec = yaml.safe_load(path.read_text())
    classify = spec["dataset"]["classify"]
    classify["train_dataset"]["images_dir"] = "train/images"
    classify["infer_dataset"]["images_dir"] = "kpi2/images"
    path.write_text(yaml.safe_dump(spec))
    return deeppcb_tiny


def leak(workspace: Path) -> None:
    """Make a training pair a copy of a KPI pair; below ``kpi/images`` that KPI row has another image."""
    kpi, train = rows_of(workspace / "kpi/testing_set.csv"), rows_of(workspace / "train/base/training_set.csv")
    source, good = next(r for r in kpi if r["label"] != "PASS"), next(r for r in kpi if r["label"] == "PASS")
    target = next(r for r in train if r["label"] != "PASS")
    old = workspace / "kpi/images"
    for column in ("input_path", "golden_path"):
        of = old / source[column] / (source["object_name"] + EXT)
        shutil.copy(of, workspace / "train/images" / target[column] / (target["object_name"] + EXT))
        shutil.copy(old / good[column] / (good["object_name"] + EXT), of)


def without_old_training_images(workspace: Path) -> None:
    """Training images are in ``train/images`` only."""
    for row in rows_of(workspace / "train/base/training_set.csv"):
        (workspace / "kpi/images" / row["input_path"] / (row["object_name"] + EXT)).unlink(missing_ok=True)


@pytest.mark.parametrize("images_dir", ["train/images", None])
def test_a_leak_is_found_by_every_command_that_compares_the_sets(moved: Path, images_dir: str | None) -> None:
    leak(moved)
    _, _, error = run_checks(Workspace.at(moved), GIVEN)
    assert isinstance(error, HardStop)
    assert "leakage" in error.message
    assert any(f.rule == "leakage" for f in check_workspace(moved).findings if f.level == "error")
    base = moved / "train/base/training_set.csv"
    with pytest.raises(HardStop, match="leakage"):
        validate_training_csv(base, moved, images_dir=images_dir, previous=None, write_fixed=None)


def test_a_training_set_with_images_of_its_own_is_assembled(moved: Path, tmp_path: Path) -> None:
    without_old_training_images(moved)
    _, findings, _ = run_checks(Workspace.at(moved), GIVEN)
    assert not [f for f in findings if f.check == 11 and f.level in ("stop", "missing")]
    pool = moved / "augmentation/mining_pool"
    rows = rows_of(pool / "mining_pool.csv")[:3]
    bases = (moved, pool, moved / "kpi/images", pool / "images")
    base = next(b for b in bases if (b / rows[0]["input_path"] / (rows[0]["object_name"] + EXT)).exists())
    prefix = "" if base == moved else f"{base.relative_to(moved)}/"
    for row in rows:
        row |= {c: prefix + row[c] for c in ("input_path", "golden_path")}
        row["provenance"] = "real"
    mined = tmp_path / "mined.csv"
    with mined.open("w", newline="") as handle:
        writer = csv.DictWriter(handle, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    _, data = assemble_training_csv(moved, iteration=1, mined=mined, previous=None, output_dir=tmp_path / "out")
    assembled = rows_of(Path(data["csv"]))
    assert all(r["input_path"].startswith("train/images/") for r in assembled[: -len(rows)])
    base_csv = moved / "train/base/training_set.csv"
    _, counts = validate_training_csv(Path(data["csv"]), moved, images_dir=None, previous=base_csv, write_fixed=None)
    assert counts["rows"] == len(assembled)


def test_a_csv_that_the_spec_names_is_the_one_that_is_checked(moved: Path) -> None:
    path = moved / "specs/baseline_spec.yaml"
    spec = yaml.safe_load(path.read_text())
    spec["dataset"]["classify"]["train_dataset"]["csv_path"] = "train/other.csv"
    path.write_text(yaml.safe_dump(spec))
    (moved / "train/base/training_set.csv").rename(moved / "train/other.csv")
    workspace = Workspace.at(moved)
    assert load_splits(workspace, specs.load_spec(workspace.baseline_spec))["train"].csv == moved / "train/other.csv"
    assert "train/other.csv" not in json.dumps([f.message for f in check_workspace(moved).findings if f.level == "error"])
    assert not [f for f in check_workspace(moved).findings if f.level == "error" and f.where.startswith("train/base")]


@pytest.mark.parametrize("value", ["/results/images", "../elsewhere"])
def test_images_outside_the_workspace_are_one_finding_of_each_command(moved: Path, value: str) -> None:
    path = moved / "specs/baseline_spec.yaml"
    spec = yaml.safe_load(path.read_text())
    spec["dataset"]["classify"]["validation_dataset"]["images_dir"] = value
    path.write_text(yaml.safe_dump(spec))
    assert [f.where for f in check_workspace(moved).findings if f.rule == "images_dir"] == ["specs/baseline_spec.yaml"]
    with pytest.raises(DeftError):
        validate_training_csv(moved / "train/base/training_set.csv", moved, images_dir=None, previous=None, write_fixed=None)
