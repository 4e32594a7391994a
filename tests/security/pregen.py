"""A workspace with pre-generated pairs, for the tests that stage them."""

from __future__ import annotations

from pathlib import Path

from deft_aoi.contract.paths import Workspace
from deft_aoi.mining.pregen_scan import scan
from deft_aoi.mining.pregen_staging import stage

from .test_images import picture


def pregen(root: Path, *stems: str) -> Workspace:
    """A workspace with a synthetic pair a stem."""
    workspace = Workspace(root)
    for folder in (workspace.pregen_ng, workspace.pregen_ok):
        folder.mkdir(parents=True, exist_ok=True)
        for number, stem in enumerate(stems):
            picture(number + (folder == workspace.pregen_ok)).save(folder / f"{stem}.png", "PNG")
    return workspace


def stage_all(workspace: Workspace):
    """Stage its pairs below ``out``."""
    pairs = scan(workspace, ("L",), ".png")
    return stage(pairs, workspace.root / "out", workspace=workspace, final_dir=workspace.root / "out")
