"""What a model was trained on is known by content when every image of it is gone."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

from deft_aoi.analysis.identity import ContentIndex, Part
from deft_aoi.contract.changenet_csv import ImageLayout
from deft_aoi.contract.errors import HardStop
from deft_aoi.contract.files import sha256_file
from deft_aoi.loop import lineage

SIDE, LIGHTS = 96, ("a", "b")


def picture(seed: int) -> Image.Image:
    """Blurred noise: it identifies itself."""
    rng = np.random.default_rng(seed)
    noise = Image.fromarray(rng.integers(0, 256, (SIDE // 6, SIDE // 6, 3), dtype=np.uint8))
    return noise.resize((SIDE, SIDE), Image.Resampling.BICUBIC).filter(ImageFilter.GaussianBlur(1))


def part(root: Path, name: str, seeds: list[int], dress=lambda image: image) -> Part:
    """A set of rows, each of two lights."""
    for i, seed in enumerate(seeds):
        for folder in ("test", "golden"):
            (root / name / folder).mkdir(parents=True, exist_ok=True)
            for number, light in enumerate(LIGHTS):
                made = picture(1000 * number + seed + (500 if folder == "golden" else 0))
                (dress(made) if folder == "test" else made).save(root / name / folder / f"r{i}_{light}.png")
    rows = [(f"{name}/test", f"{name}/golden", "PASS" if i % 2 else "missing", f"r{i}") for i in range(len(seeds))]
    frame = pd.DataFrame(rows, columns=["input_path", "golden_path", "label", "object_name"], dtype=object)
    return ContentIndex(root / "cache").part(f"{name} set", frame, ImageLayout(root, LIGHTS, ".png"))


@pytest.fixture
def kept(tmp_path: Path) -> pd.DataFrame:
    """The lineage of six rows whose images, and whose run, are gone."""
    training = part(tmp_path, "train", list(range(6)))
    file = tmp_path / "lineage.parquet"
    assert lineage.write(file, lineage.of_training(training, None, "run_old")) == 6
    shutil.rmtree(tmp_path / "train")
    return lineage.read(file, sha256_file(file))


DRESSES = {
    "as it is": lambda image: image,
    "mirrored": ImageOps.mirror,
    "brighter": lambda image: ImageEnhance.Brightness(image).enhance(1.15),
    "cropped by two pixels": lambda image: image.crop((2, 0, SIDE, SIDE - 2)),
}


@pytest.mark.parametrize("dress", list(DRESSES))
def test_part_that_the_model_was_trained_on_is_refused_in_a_set_that_judges(kept, tmp_path: Path, dress: str) -> None:
    judging = part(tmp_path, "kpi", [50, 3, 51], DRESSES[dress])
    with pytest.raises(HardStop, match="trained on 1 parts of this workspace's kpi set") as caught:
        lineage.refuse_leaks(kept, [judging], allow_near=False)
    assert "line 3 of the kpi set is" in caught.value.found
    assert "run_old" in caught.value.found


def test_parts_that_it_never_saw_pass_and_near_ones_are_the_users_decision(kept, tmp_path: Path) -> None:
    assert lineage.refuse_leaks(kept, [part(tmp_path, "kpi", [50, 51, 52])], allow_near=False) == 0
    turned = part(tmp_path, "validation", [2, 53], ImageOps.flip)
    assert lineage.refuse_leaks(kept, [turned], allow_near=True) == 1
    with pytest.raises(HardStop, match="trained on"):
        lineage.refuse_leaks(kept, [part(tmp_path, "holdout", [2])], allow_near=True)


def test_rows_that_are_still_here_with_the_same_pixels_are_trained_on_again(kept, tmp_path: Path) -> None:
    part(tmp_path, "train", list(range(6)))
    (tmp_path / "train" / "test" / "r5_a.png").unlink()
    picture(99).save(tmp_path / "train" / "golden" / "r4_b.png")
    base = part(tmp_path, "base", [0, 70])
    found = lineage.still_here(kept, base, ContentIndex(tmp_path / "cache"))
    assert found["object_name"].tolist() == ["r1", "r2", "r3"], "r0 is in the base set, r4 changed, r5 is gone"


def test_another_file_is_no_lineage(tmp_path: Path) -> None:
    with pytest.raises(HardStop, match="not the one that was handed over"):
        lineage.read(tmp_path / "lineage.parquet", "0" * 64)
