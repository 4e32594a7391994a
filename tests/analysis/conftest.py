"""One builder for the data sets of these tests: real PNG, JPEG and BMP crops on disk, drawn from a seed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from deft_aoi.analysis.identity import ContentIndex, Part
from deft_aoi.contract.changenet_csv import ImageLayout


def crop(seed: int, size: int = 32, defect: bool = False) -> Image.Image:
    """A copper pattern that depends on its seed; a defect adds a bright spot."""
    rng = np.random.default_rng(seed)
    tile = rng.integers(0, 2, (size // 4, size // 4), dtype=np.uint8) * 160 + 40
    pixels = np.repeat(np.kron(tile, np.ones((4, 4), dtype=np.uint8))[:, :, None], 3, axis=2)
    if defect:
        pixels[8:16, 8:16] = (250, 240, 10)
    return Image.fromarray(pixels)


@dataclass
class Builder:
    """Rows and their images below one folder."""

    root: Path
    lights: tuple[str, ...] = ("SolderLight",)
    ext: str = ".png"
    index: ContentIndex = field(init=False)

    def __post_init__(self) -> None:
        self.index = ContentIndex(self.root / ".deft" / "digests")

    @property
    def layout(self) -> ImageLayout:
        return ImageLayout(self.root, self.lights, self.ext)

    def save(self, image: Image.Image, folder: str, name: str) -> None:
        for light in self.lights:
            path = self.root / folder / self.layout.file_name(name, light)
            path.parent.mkdir(parents=True, exist_ok=True)
            image.save(path)

    def row(self, name: str, seed: int, label: str = "PASS", folder: str = "a", board: str = "B1") -> dict[str, str]:
        """One row with its images on disk: the golden is the clean crop of the same seed."""
        self.save(crop(seed, defect=label != "PASS"), folder, name)
        self.save(crop(seed), f"golden/{folder}", name)
        return {
            "input_path": folder,
            "golden_path": f"golden/{folder}",
            "label": label,
            "object_name": name,
            "boardname": board,
        }

    def frame(self, n: int, *, start: int = 0, folder: str = "a", defects: int = 2) -> pd.DataFrame:
        """``n`` rows, the last ``defects`` of them defects."""
        labels = ["PASS"] * (n - defects) + ["open", "short"] * defects
        return pd.DataFrame([self.row(f"C{start + i}", start + i, labels[i], folder, f"B{i % 7}") for i in range(n)])

    def part(self, frame: pd.DataFrame, name: str = "set") -> Part:
        return self.index.part(name, frame, self.layout)


@pytest.fixture
def build(tmp_path: Path) -> Callable[..., Builder]:
    """Make a builder below the test's folder."""

    def _make(**kwargs: object) -> Builder:
        return Builder(tmp_path / "ws", **kwargs)  # type: ignore[arg-type]

    return _make


@pytest.fixture
def scored_rows() -> Callable[..., pd.DataFrame]:
    """Scored rows without images: ``scored_rows(good_scores, defect_scores)``."""

    def _make(good: list[float], bad: list[float], label: str = "open") -> pd.DataFrame:
        n = len(good) + len(bad)
        return pd.DataFrame(
            {
                "input_path": ["a"] * n,
                "golden_path": ["golden/a"] * n,
                "label": ["PASS"] * len(good) + [label] * len(bad),
                "object_name": [f"C{i}" for i in range(n)],
                "boardname": [f"B{i % 7}" for i in range(n)],
                "siamese_score": [*good, *bad],
            }
        )

    return _make
