"""The rendered workspace: the same bytes for a seed, the layout of the data contract, and the gap it is made for."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from deft_aoi.contract import spec as specs
from deft_aoi.contract.changenet_csv import MANDATORY, OPTIONAL, read_changenet_csv
from deft_aoi.contract.errors import UsageError
from deft_aoi.contract.files import read_json, sha256_file
from deft_aoi.contract.paths import Workspace
from deft_aoi.contract.schema import validate
from deft_aoi.demo.scene import sample_shot
from deft_aoi.demo.workspace import ALL, KNOWN, UNSEEN, Task, make_demo, render
from deft_aoi.mining.pregen_scan import scan
from deft_aoi.workspaces.builder import SPLITS
from deft_aoi.workspaces.check_workspace import check_workspace

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "make_demo_workspace.py"


def tree(root: Path) -> dict[str, str]:
    return {p.relative_to(root).as_posix(): sha256_file(p) for p in sorted(root.rglob("*")) if p.is_file()}


def frames(root: Path) -> dict[str, pd.DataFrame]:
    return {name: read_changenet_csv(root / part.csv, what=name) for name, part in SPLITS.items()}


def levels(data: bytes) -> np.ndarray:
    import io

    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"), dtype=np.float32)


def one(label: str, number: int = 1, **changes: object) -> Task:
    values = {"seed": 5, "split": "kpi", "number": number, "label": label, "product": 0, "board": "2105-00001"}
    return Task(**(values | {"lights": ("SolderLight",), "size": 64} | changes))  # type: ignore[arg-type]


def test_same_seed_same_bytes_whatever_the_number_of_processes(rendered: Path, tmp_path: Path) -> None:
    make_demo(tmp_path / "again", seed=3, scale="small", workers=2)
    assert tree(tmp_path / "again") == tree(rendered)


def test_a_larger_camera_error_moves_the_golden_further() -> None:
    def sizes(error: float) -> list[float]:
        shots = [sample_shot(np.random.default_rng(seed), error) for seed in range(40)]
        return [max(map(abs, shot.shift)) for shot in shots]

    assert max(sizes(0)) == 0
    assert max(sizes(0.8)) <= 2 < max(sizes(2.5)) <= 6.25


def test_another_seed_gives_other_pictures() -> None:
    assert render(one("PASS", seed=5)).test != render(one("PASS", seed=6)).test


def test_layout_is_the_data_contract(rendered: Path) -> None:
    ws = Workspace.at(rendered)
    spec = specs.load_spec(ws.baseline_spec)
    assert specs.engine_for(spec) == "embedded"
    for name, frame in frames(rendered).items():
        assert list(frame.columns[:4]) == list(MANDATORY)
        assert set(OPTIONAL) <= set(frame.columns)
        layout = specs.layout(spec, rendered / SPLITS[name].images_dir)
        assert layout.missing(frame) == []
    pairs = scan(ws, specs.lights(spec), specs.image_ext(spec))
    assert pairs.counts_by_type == dict.fromkeys(sorted(UNSEEN), 2)
    validate(read_json(rendered / "workspace_report.json", what="report"), "workspace_report")


def test_no_board_is_in_two_parts(rendered: Path) -> None:
    boards = [set(f["boardname"]) for f in frames(rendered).values()]
    assert len(set().union(*boards)) == sum(map(len, boards))


def test_kpi_pool_and_holdout_have_defects_that_training_lacks(rendered: Path) -> None:
    labels = {name: set(f["label"]) - {"PASS"} for name, f in frames(rendered).items()}
    assert labels["train"] == labels["validation"] == set(KNOWN)
    assert labels["kpi"] == labels["holdout"] == labels["pool"] == set(ALL)


def test_the_data_check_finds_nothing_to_stop_or_warn_about(rendered: Path) -> None:
    report = check_workspace(rendered)
    assert [f for f in report.findings if f.level != "note"] == []


@pytest.mark.parametrize("label", ALL)
def test_a_defect_changes_the_picture_more_than_the_line_does(label: str) -> None:
    """Compared with the same shot of a sound part: only the defect differs."""
    from deft_aoi.demo.board import sample_style
    from deft_aoi.demo.parts import DEFECT_PACKAGES
    from deft_aoi.demo.scene import Shot, sample_build, sample_site, take

    for number, package in enumerate(DEFECT_PACKAGES[label]):
        rng = np.random.default_rng([1, number])
        site = sample_site(rng, sample_style(rng, number), package)
        pictures = [
            np.asarray(
                take(
                    site,
                    sample_build(np.random.default_rng(9), defect=defect, severity=0.5),
                    Shot(),
                    ("SolderLight",),
                    64,
                    np.random.default_rng(4),
                )[0],
                dtype=np.float32,
            )
            for defect in ("", label)
        ]
        changed = np.abs(pictures[0] - pictures[1]).max(axis=2) > 40
        assert changed.sum() >= 12, (label, package)


def test_lights_show_one_scene_differently() -> None:
    done = render(one("bridge", lights=("SolderLight", "WhiteLight")))
    solder, white = levels(done.test[0]), levels(done.test[1])
    assert solder.shape == white.shape == (64, 64, 3)
    assert np.abs(solder - white).mean() > 4
    # One registration: the edges of both lights lie in the same place.
    a, b = (np.abs(np.gradient(x.mean(axis=2))[0]) for x in (solder, white))
    assert np.corrcoef(a.ravel(), b.ravel())[0, 1] > 0.5


def test_several_lights_and_another_size_are_written(tmp_path: Path) -> None:
    make_demo(tmp_path / "ws", seed=1, scale="small", lights=2, size=80)
    spec = specs.load_spec(tmp_path / "ws/specs/baseline_spec.yaml")
    assert specs.lights(spec) == ("SolderLight", "WhiteLight")
    assert specs.get(spec, "dataset.classify.num_input") == 2
    frame = frames(tmp_path / "ws")["kpi"]
    paths = specs.layout(spec, tmp_path / "ws/kpi/images").input_paths(frame.iloc[0])
    assert [Image.open(p).size for p in paths] == [(80, 80), (80, 80)]


def test_an_output_folder_with_content_is_refused_and_untouched(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(UsageError, match="not empty"):
        make_demo(tmp_path, scale="small")
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]


def test_values_out_of_range_are_refused(tmp_path: Path) -> None:
    for wrong in (
        {"size": 32},
        {"lights": 0},
        {"lights": 5},
        {"scale": "huge"},
        {"seed": -1},
        {"workers": 0},
        {"camera_error": 5},
    ):
        with pytest.raises(UsageError, match="out of range"):
            make_demo(tmp_path / "ws", **wrong)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_the_script_reports_what_it_made(tmp_path: Path) -> None:
    command = [sys.executable, str(SCRIPT), "--output", str(tmp_path / "ws"), "--scale", "small", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    report = json.loads(done.stdout)
    validate(report, "workspace_report")
    assert report["splits"]["kpi"]["rows"] == len(frames(tmp_path / "ws")["kpi"])
    again = subprocess.run(command, capture_output=True, text=True)
    assert again.returncode == 2
    assert "not empty" in again.stderr
