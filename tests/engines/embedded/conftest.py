"""Tiny real workspaces: PNG pairs drawn by the test, and the engine run as its users run it."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

REPO = Path(__file__).resolve().parents[3]
COLUMNS = ("input_path", "golden_path", "label", "object_name", "boardname")


def draw_pair(rng: np.random.Generator, defect: bool, size: int) -> tuple[np.ndarray, np.ndarray]:
    """A pad on a board and its golden, with noise; a defect is a bright blob somewhere else."""
    golden = np.full((size, size, 3), 60.0)
    top, left = rng.integers(2, size // 3, 2)
    golden[top : top + size // 3, left : left + size // 3] = (180, 150, 90)
    test = golden.copy()
    if defect:
        y, x = rng.integers(size // 2, size - 8, 2)
        test[y : y + 6, x : x + 6] = 240
    noisy = [np.clip(image + rng.normal(0, 3, image.shape), 0, 255).astype(np.uint8) for image in (test, golden)]
    return noisy[0], noisy[1]


@dataclass
class TinyWorkspace:
    """A drawn data set and a spec for it."""

    root: Path
    spec: dict

    def write_csv(self, name: str, rows: Sequence[Sequence[str]], columns: Sequence[str] = COLUMNS) -> Path:
        path = self.root / name
        with path.open("w", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows([columns, *rows])
        return path

    def add_rows(
        self, name: str, count: int, defects: int, *, lights: Sequence[str] = ("L",), size: int = 32, seed: int = 0
    ) -> list[list[str]]:
        """Draw ``count`` pairs of which the last ``defects`` are defective; write ``name``.csv."""
        rng = np.random.default_rng(seed)
        rows = []
        for number in range(count):
            bad = number >= count - defects
            for light in lights:
                test, golden = draw_pair(rng, bad, size)
                for side, image in (("test", test), ("golden", golden)):
                    folder = self.root / "images" / f"{name}_{side}"
                    folder.mkdir(parents=True, exist_ok=True)
                    suffix = f"_{light}" if light else ""
                    Image.fromarray(image).save(folder / f"{number:04d}{suffix}.png")
            rows.append([f"{name}_test", f"{name}_golden", "missing" if bad else "PASS", f"{number:04d}", f"{number:08d}"])
        self.write_csv(f"{name}.csv", rows)
        return rows

    def write_spec(self, name: str = "spec.yaml", **classify: object) -> Path:
        self.spec["dataset"]["classify"].update(classify)
        path = self.root / name
        path.write_text(yaml.safe_dump(self.spec))
        return path


@pytest.fixture
def tiny(tmp_path: Path) -> TinyWorkspace:
    root = tmp_path / "tiny"
    (root / "images").mkdir(parents=True)
    images = str(root / "images")
    sources = {
        f"{split}_dataset": {"csv_path": str(root / f"{name}.csv"), "images_dir": images}
        for split, name in (("train", "train"), ("validation", "val"), ("infer", "val"), ("test", "val"))
    }
    workspace = TinyWorkspace(
        root,
        {
            "results_dir": str(root / "results"),
            "model": {"backbone": {"type": "embedded_siamese"}},
            "dataset": {
                "classify": {
                    **sources,
                    "image_ext": ".png",
                    "batch_size": 8,
                    "num_input": 1,
                    "input_map": {"L": 0},
                    "image_width": 32,
                    "image_height": 32,
                }
            },
            "train": {"num_epochs": 2, "checkpoint_interval": 1, "validation_interval": 1},
        },
    )
    workspace.add_rows("train", 24, 8, seed=1)
    workspace.add_rows("val", 12, 4, seed=2)
    return workspace


@dataclass
class Engine:
    """The engine's command line, in this process (no import cost) or as a process of its own."""

    capsys: pytest.CaptureFixture[str]

    def call(self, *argv: object) -> tuple[int, str]:
        """Run here; returns exit code and standard error."""
        from deft_aoi.engines.embedded.cli import main

        self.capsys.readouterr()
        code = main([str(part) for part in argv])
        return code, self.capsys.readouterr().err

    def ok(self, *argv: object) -> None:
        """Run here and expect success."""
        code, error = self.call(*argv)
        assert code == 0, error

    @staticmethod
    def start(*argv: object) -> subprocess.Popen[str]:
        """Start as a child process."""
        environment = {**os.environ, "PYTHONPATH": str(REPO / "scripts")}
        return subprocess.Popen(
            [sys.executable, "-m", "deft_aoi.engines.embedded", *map(str, argv)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    @staticmethod
    def status(folder: Path) -> list[dict]:
        """The lines of a status file."""
        return [json.loads(line) for line in (folder / "status.json").read_text().splitlines()]


@pytest.fixture
def engine(capsys: pytest.CaptureFixture[str]) -> Iterator[Engine]:
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield Engine(capsys)
    for number, handler in handlers.items():
        signal.signal(number, handler)
