"""Identity is what the pixels are, not what the file is called or how it is encoded."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from deft_aoi.analysis import identity, leakage
from deft_aoi.analysis.identity import image_paths
from deft_aoi.contract.changenet_csv import ImageLayout
from deft_aoi.contract.errors import HardStop
from deft_aoi.contract.images import open_image

from .conftest import crop


def digest(path: Path) -> bytes:
    return identity.identify(open_image(path))[0]


def test_renamed_and_re_encoded_copies_have_one_identity(tmp_path: Path) -> None:
    image = crop(1)
    image.save(tmp_path / "a.png")
    image.save(tmp_path / "b.png", compress_level=0)
    image.save(tmp_path / "c.bmp")
    image.convert("P", palette=Image.Palette.ADAPTIVE).save(tmp_path / "d.png")
    shutil.copy(tmp_path / "a.png", tmp_path / "renamed.jpg")  # a PNG under another extension
    assert len({digest(tmp_path / n) for n in ("a.png", "b.png", "c.bmp", "d.png", "renamed.jpg")}) == 1


def test_a_jpeg_decoded_and_stored_losslessly_has_the_jpegs_identity(tmp_path: Path) -> None:
    crop(2).save(tmp_path / "a.jpg", quality=80)
    Image.open(tmp_path / "a.jpg").convert("RGB").save(tmp_path / "a.png")
    assert digest(tmp_path / "a.jpg") == digest(tmp_path / "a.png")


def test_exif_rotation_is_not_applied(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    crop(3).save(tmp_path / "plain.png")
    crop(3).save(tmp_path / "turned.png", exif=exif)
    assert digest(tmp_path / "plain.png") == digest(tmp_path / "turned.png")


def test_one_pixel_one_level_and_another_shape_are_other_contents(tmp_path: Path) -> None:
    pixels = np.asarray(crop(4)).copy()
    Image.fromarray(pixels).save(tmp_path / "a.png")
    pixels[5, 5, 1] += 1
    Image.fromarray(pixels).save(tmp_path / "b.png")
    Image.fromarray(np.zeros((2, 8, 3), np.uint8)).save(tmp_path / "c.png")
    Image.fromarray(np.zeros((8, 2, 3), np.uint8)).save(tmp_path / "d.png")
    assert len({digest(tmp_path / n) for n in ("a.png", "b.png", "c.png", "d.png")}) == 4


def test_flat_means_exactly_one_colour() -> None:
    assert identity.identify(Image.new("RGB", (8, 8), (255, 255, 255)))[1]
    almost = Image.new("RGB", (8, 8), (255, 255, 255))
    almost.putpixel((7, 7), (255, 255, 254))
    assert not identity.identify(almost)[1]
    assert not identity.identify(Image.linear_gradient("L").convert("RGB"))[1]


@pytest.mark.parametrize("kind", ["truncated", "text", "gif", "bomb", "empty"])
def test_a_file_that_must_not_be_decoded_is_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "x.png"
    crop(5, 64).save(path)
    if kind == "truncated":
        path.write_bytes(path.read_bytes()[:-60])
    elif kind == "text":
        path.write_text("not an image")
    elif kind == "gif":
        crop(5).save(path, format="GIF")
    elif kind == "empty":
        path.write_bytes(b"")
    else:
        Image.new("1", (9000, 9000)).save(path)
    with pytest.raises(HardStop, match=r"cannot be decoded|too large"):
        open_image(path)


def test_the_same_paths_as_the_layout_names(build) -> None:
    b = build(lights=("White", "Red"), ext=".png")
    frame = b.frame(3)
    columns = image_paths(frame, b.layout)
    for i, row in enumerate(frame.to_dict("records")):
        expected = [*b.layout.input_paths(row), *b.layout.golden_paths(row)]
        assert [column[i] for column in columns] == [str(p) for p in expected]


@pytest.mark.parametrize("folder", ["../outside", "/etc", "a/../../b", "~/x"])
def test_a_path_that_leaves_the_folder_is_refused(build, folder: str) -> None:
    b = build()
    frame = b.frame(3).assign(input_path=folder)
    with pytest.raises(HardStop):
        b.part(frame)


def test_a_missing_light_is_named_with_its_line_and_column(build) -> None:
    b = build(lights=("White", "Red"))
    frame = b.frame(4)
    (b.root / "golden/a/C2_Red.png").unlink()
    with pytest.raises(HardStop, match="KPI set, line 4, column golden_path: the image is missing"):
        b.part(frame, "KPI set")


def test_every_light_belongs_to_the_identity(build) -> None:
    b = build(lights=("White", "Red"))
    frame = pd.DataFrame([b.row("A", 1), b.row("B", 1)])
    before = b.part(frame).ids["content_id"]
    assert before[0] == before[1]
    crop(9).save(b.root / "a/B_Red.png")
    after = b.part(frame).ids["content_id"]
    assert after[0] == before[0] != after[1]


def test_a_leak_is_found_across_names_folders_and_encodings(build, tmp_path: Path) -> None:
    b = build()
    train = b.part(b.frame(6), "training set")
    other = build(ext=".bmp")
    other.root = tmp_path / "kpi"
    kpi_frame = pd.DataFrame([other.row("X9", 100), other.row("Y7", 2, folder="deep/er"), other.row("Z1", 101, "open")])
    kpi = b.index.part("KPI set", kpi_frame, ImageLayout(other.root, ("SolderLight",), ".bmp"))
    leaks = leakage.find_leaks(train, kpi)
    assert leaks[["line_a", "line_b", "sample_a", "sample_b"]].to_numpy().tolist() == [[4, 3, "a/C2", "deep/er/Y7"]]
    with pytest.raises(HardStop, match="line 4 of the training set has the pixels of line 3 of the KPI set"):
        leakage.refuse_leaks(train, kpi)


def test_featureless_pairs_are_exempt_from_leakage(build) -> None:
    b = build()
    white = Image.new("RGB", (32, 32), "white")
    rows = []
    for folder in ("a", "b"):
        row = b.row("W", 1, folder=folder)
        b.save(white, folder, "W")
        b.save(white, f"golden/{folder}", "W")
        rows.append(row)
    parts = [b.part(pd.DataFrame([r]), f"set {i}") for i, r in enumerate(rows)]
    assert parts[0].ids["featureless"].all()
    assert parts[0].ids["content_id"][0] == parts[1].ids["content_id"][0]
    assert leakage.find_leaks(*parts).empty
    assert leakage.near_duplicates(*parts).empty


def test_a_jpeg_copy_is_a_near_duplicate_and_another_part_is_not(build, tmp_path: Path) -> None:
    b = build()
    train = b.part(b.frame(8), "training set")
    other = build(ext=".jpg")
    other.root = tmp_path / "kpi"
    frame = pd.DataFrame([other.row("J1", 3), other.row("J2", 500)])
    kpi = b.index.part("KPI set", frame, ImageLayout(other.root, ("SolderLight",), ".jpg"))
    assert leakage.find_leaks(train, kpi).empty
    near = leakage.near_duplicates(train, kpi)
    assert near[["line_a", "line_b"]].to_numpy().tolist() == [[5, 2]]
    assert 0 < near["residual"][0] < 2.5


def test_shared_boards_are_listed(build) -> None:
    frame = pd.DataFrame({"boardname": ["B2", "B1", ""]})
    assert leakage.shared_boards(frame, pd.DataFrame({"boardname": ["B1", "", "B3"]})) == ["B1"]
    assert leakage.shared_boards(frame, pd.DataFrame({"x": [1]})) == []
