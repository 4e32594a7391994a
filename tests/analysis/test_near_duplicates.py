"""A test image in another dress is told from another part: every kind that the README names, and what must stay."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageDraw, ImageFilter, ImageOps

from deft_aoi.analysis import leakage
from deft_aoi.analysis.identity import ContentIndex, Part
from deft_aoi.contract.changenet_csv import ImageLayout
from deft_aoi.contract.errors import HardStop

SIDE = 64
Dress = Callable[[Image.Image], Image.Image]


def part_image(seed: int, side: int = SIDE) -> Image.Image:
    """Pads, traces and a component on a board, with the softness of a lens."""
    rng = np.random.default_rng(seed)
    image = Image.new("RGB", (side, side), tuple(int(v) for v in rng.integers(30, 90, 3)))
    draw = ImageDraw.Draw(image)
    for _ in range(9):
        x, y = (int(v) for v in rng.integers(0, side - 8, 2))
        w, h = (int(v) for v in rng.integers(6, side // 3, 2))
        draw.rectangle((x, y, x + w, y + h), fill=tuple(int(v) for v in rng.integers(60, 230, 3)))
    return image.filter(ImageFilter.GaussianBlur(0.6))


def saved(image: Image.Image, kind: str, quality: int) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, kind, quality=quality)
    return Image.open(io.BytesIO(buffer.getvalue())).convert("RGB")


def shifted(image: Image.Image, x: int, y: int) -> Image.Image:
    return Image.fromarray(np.roll(np.asarray(image), (y, x), (0, 1)))


def resized_and_back(image: Image.Image, factor: float) -> Image.Image:
    small = image.resize((round(image.width * factor), round(image.height * factor)), Image.Resampling.BICUBIC)
    return small.resize(image.size, Image.Resampling.BILINEAR)


DRESSES: dict[str, Dress] = {
    "JPEG 95": lambda i: saved(i, "JPEG", 95),
    "JPEG 70": lambda i: saved(i, "JPEG", 70),
    "WebP 75": lambda i: saved(i, "WEBP", 75),
    "one pixel changed": lambda i: (i.putpixel((5, 5), (1, 2, 3)), i)[1],
    "shifted by one pixel": lambda i: shifted(i, 1, 0),
    "shifted by three pixels": lambda i: shifted(i, -2, 3),
    "cropped by a pixel on each side": lambda i: i.crop((1, 1, i.width - 1, i.height - 1)),
    "cropped by four pixels on one side": lambda i: i.crop((4, 0, i.width, i.height)),
    "cropped and resized": lambda i: i.crop((2, 2, i.width - 2, i.height - 2)).resize(i.size, Image.Resampling.BICUBIC),
    "darker": lambda i: i.point(lambda v: int(v * 0.8)),
    "brighter": lambda i: i.point(lambda v: min(255, v + 20)),
    "smaller and back": lambda i: resized_and_back(i, 0.75),
    "larger and back": lambda i: resized_and_back(i, 1.5),
    "of twice the size": lambda i: i.resize((2 * i.width, 2 * i.height), Image.Resampling.BICUBIC),
    "mirrored": ImageOps.mirror,
    "upside down": ImageOps.flip,
    "turned by 90": lambda i: i.transpose(Image.Transpose.ROTATE_90),
    "turned by 180": lambda i: i.transpose(Image.Transpose.ROTATE_180),
    "turned by 270": lambda i: i.transpose(Image.Transpose.ROTATE_270),
    "several at once": lambda i: saved(ImageOps.mirror(shifted(i, 1, 1).point(lambda v: int(v * 0.9))), "JPEG", 80),
}


class Line:
    """Writes images and makes parts of them."""

    def __init__(self, root: Path, lights: tuple[str, ...] = ("Top",)) -> None:
        self.root, self.lights = root, lights
        self.index = ContentIndex(root / "cache", workers=1)

    def part(self, name: str, samples: list[list[Image.Image]], golden: int = 999) -> Part:
        """One row a sample, which is its images, one a light."""
        rows = []
        for number, images in enumerate(samples):
            for light, image in zip(self.lights, images, strict=True):
                for folder, what in ((name, image), (f"{name}_gold", part_image(golden))):
                    path = self.root / folder / f"{name}{number}_{light}.png"
                    path.parent.mkdir(parents=True, exist_ok=True)
                    what.save(path)
            row = {"input_path": name, "golden_path": f"{name}_gold", "label": "PASS", "object_name": f"{name}{number}"}
            rows.append(row)
        return self.index.part(f"{name} set", pd.DataFrame(rows), ImageLayout(self.root, self.lights, ".png"))


@pytest.fixture(scope="module")
def kpi(tmp_path_factory: pytest.TempPathFactory) -> tuple[Line, Part]:
    line = Line(tmp_path_factory.mktemp("line"))
    return line, line.part("kpi", [[part_image(seed)] for seed in range(12)])


@pytest.mark.parametrize("dress", DRESSES)
def test_a_kpi_image_in_another_dress_is_found_whatever_its_golden(kpi, dress: str) -> None:
    line, judged = kpi
    copies = line.part("copies", [[DRESSES[dress](part_image(seed))] for seed in (2, 7)], golden=5)
    assert leakage.find_leaks(copies, judged).empty
    near = leakage.near_duplicates(copies, judged)
    assert near[["row_a", "row_b"]].to_numpy().tolist() == [[0, 2], [1, 7]]


def test_the_same_test_image_leaks_whatever_its_golden(kpi) -> None:
    line, judged = kpi
    golden = line.part("golden", [[part_image(3)]], golden=4)
    assert golden.ids["content_id"][0] not in set(judged.ids["content_id"])
    assert leakage.find_leaks(golden, judged)["row_b"].tolist() == [3]
    assert leakage.near_duplicates(golden, judged).empty
    with pytest.raises(HardStop, match="has the pixels of line 5 of the kpi set"):
        leakage.refuse_leaks(golden, judged)


def test_other_parts_and_plain_traces_are_not_the_same_part(tmp_path: Path) -> None:
    def trace(at: int, noise: int) -> list[Image.Image]:
        pixels = np.full((SIDE, SIDE, 3), 40, np.int16)
        pixels[:, at : at + 12] = 200
        grain = np.random.default_rng(noise).integers(-2, 3, pixels.shape)
        return [Image.fromarray((pixels + grain).astype(np.uint8))]

    line = Line(tmp_path)
    judged = line.part("kpi", [trace(26, 1), [part_image(1)], [Image.new("RGB", (SIDE, SIDE), "white")]])
    others = [trace(26, 2), trace(28, 3), [part_image(2)], [part_image(40)], [Image.new("RGB", (SIDE, SIDE), "white")]]
    train = line.part("train", others)
    assert leakage.near_duplicates(train, judged).empty
    assert leakage.find_leaks(train, judged).empty  # a constant image identifies nothing


def test_of_several_lights_all_must_show_the_same_part(tmp_path: Path) -> None:
    line = Line(tmp_path, ("Top", "Side"))
    judged = line.part("kpi", [[part_image(1), part_image(11)], [part_image(2), part_image(12)]])
    both = [saved(shifted(part_image(n), 1, 0), "JPEG", 85) for n in (2, 12)]
    train = line.part("train", [both, [both[0], part_image(30)]])
    assert leakage.near_duplicates(train, judged)[["row_a", "row_b"]].to_numpy().tolist() == [[0, 1]]


def test_what_is_never_trained_on_names_its_set_and_kind(kpi) -> None:
    line, judged = kpi
    rows = [[part_image(50)], [part_image(4)], [ImageOps.mirror(part_image(6))]]
    found = leakage.leaks_into(line.part("pool", rows), {"validation": line.part("val", [[part_image(60)]]), "kpi": judged})
    assert found.to_numpy().tolist() == [["", "", ""], ["kpi", "exact", "kpi/kpi4"], ["kpi", "near", "kpi/kpi6"]]
