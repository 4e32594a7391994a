"""A small workspace with real PNGs, built anew for every test."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from deft_aoi.contract.paths import Workspace

LIGHT = "SolderLight"


def write_image(path: Path, seed: int, size: int = 24, **options: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, **options)


def write_flat(path: Path, level: int = 255) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (24, 24), (level,) * 3).save(path)


def write_csv(path: Path, rows: list[dict[str, str]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.DictWriter(handle, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


class Maker:
    """Builds a workspace; every method writes real files."""

    def __init__(self, root: Path) -> None:
        root.mkdir(parents=True)
        self.workspace = Workspace.at(root)
        self.rows: list[dict[str, str]] = []

    def pool_row(
        self, name: str, label: str, seed: int, *, golden_seed: int = 1, lights: tuple[str, ...] = (LIGHT,), **cells: str
    ) -> None:
        for light in lights:
            tail = f"_{light}" if light else ""
            write_image(self.workspace.pool_dir / "images" / "a" / f"{name}{tail}.png", seed + 1000 * lights.index(light))
            write_image(self.workspace.pool_dir / "images" / "g" / f"{name}{tail}.png", golden_seed)
        row = {"input_path": "images/a", "golden_path": "images/g", "label": label, "object_name": name}
        self.rows.append({**row, **cells})

    def write_pool(self) -> None:
        write_csv(self.workspace.pool_csv, self.rows)

    def pregen(self, stem: str, seed: int, *, ng_ext: str = ".png", ok_ext: str = ".png") -> None:
        write_image(self.workspace.pregen_ng / f"{stem}{ng_ext}", seed)
        write_image(self.workspace.pregen_ok / f"{stem}{ok_ext}", seed + 5000)

    def defect_spec(self, *lines: dict[str, Any]) -> None:
        self.workspace.pregen_dir.mkdir(parents=True, exist_ok=True)
        self.workspace.defect_spec.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


@pytest.fixture
def make(tmp_path: Path) -> Maker:
    return Maker(tmp_path / "ws")


@pytest.fixture
def make_many(tmp_path: Path) -> Callable[[str], Maker]:
    return lambda name: Maker(tmp_path / name)
