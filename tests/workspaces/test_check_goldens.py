"""Goldens that are off are said with numbers and pictures to look at; goldens as a camera gives them are not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image, ImageEnhance

from deft_aoi.analysis.identity import image_paths
from deft_aoi.contract import spec as specs
from deft_aoi.contract.paths import Workspace
from deft_aoi.contract.splits import load_splits
from deft_aoi.workspaces.check_findings import Finding
from deft_aoi.workspaces.check_workspace import check_workspace


def golden_findings(workspace: Path) -> dict[str, Finding]:
    return {f.rule: f for f in check_workspace(workspace).findings if f.rule.startswith("golden")}


def change_goldens(workspace: Path, change: Callable[[Image.Image], Image.Image]) -> None:
    place = Workspace.at(workspace)
    spec = specs.load_spec(place.baseline_spec)
    for split in load_splits(place, spec).values():
        for path in {p for column in image_paths(split.frame, split.layout)[len(split.layout.lights) :] for p in column}:
            with Image.open(path) as image:
                changed = change(image.convert("RGB"))
            changed.save(path)


@pytest.mark.parametrize(
    ("rule", "change", "words"),
    [
        ("golden_moved", lambda i: i.transform(i.size, Image.Transform.AFFINE, (1, 0, -4, 0, 1, 0)), "lies off by 4.0 px"),
        ("golden_pose", lambda i: i.rotate(180), "turned by 180°"),
        ("golden_pose", lambda i: i.transpose(Image.Transpose.FLIP_TOP_BOTTOM), "mirrored top to bottom"),
        ("golden_exposure", lambda i: ImageEnhance.Brightness(i).enhance(0.6), "times as bright"),
        ("golden_size", lambda i: i.resize((i.width // 2, i.height // 2)), "another size"),
    ],
    ids=["moved", "turned", "mirrored", "darker", "smaller"],
)
def test_goldens_that_are_off_are_named_with_numbers_and_pictures(workspace: Path, rule: str, change, words: str) -> None:
    change_goldens(workspace, change)
    found = golden_findings(workspace)[rule]
    assert found.level == "warning", found.line()
    assert words in found.message
    assert "kpi/images/golden/" in found.message
    assert found.places


def test_goldens_as_the_camera_gives_them_are_no_warning(rendered: Path) -> None:
    assert [f.line() for f in golden_findings(rendered).values() if f.level == "warning"] == []
