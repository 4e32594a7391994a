"""Identity is what the pixels are, not what the file is called or how it is encoded."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from deft_aoi.analysis import digest_workers, file_index, identity, leakage
from deft_aoi.analysis.identity import ContentIndex, image_paths
from deft_aoi.contract import images
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


def test_the_cache_decodes_only_new_and_changed_files(build) -> None:
    b = build()
    frame = b.frame(5)
    first = b.part(frame).ids
    assert b.index.decoded == 5 + 2  # the golden of a good part is the same file here, that of a defect is not
    again = ContentIndex(b.root / ".deft" / "digests")
    pd.testing.assert_frame_equal(again.digest_pairs(frame, b.layout, thumbs=True), first)
    assert again.decoded == 0
    path = b.root / "a/C0_SolderLight.png"
    stat = path.stat()
    Image.new("RGB", (32, 32), "red").save(path)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))  # a restored mtime does not hide the change
    changed = ContentIndex(b.root / ".deft" / "digests")
    assert changed.digest_pairs(frame, b.layout)["content_id"][0] != first["content_id"][0]
    assert changed.decoded == 1


@pytest.mark.parametrize("damage", [b"", b"PAR1 nonsense", b"\0" * 500])
def test_a_damaged_cache_costs_time_and_nothing_else(build, damage: bytes) -> None:
    b = build()
    frame = b.frame(3)
    first = b.part(frame).ids
    next((b.root / ".deft/digests").iterdir()).write_bytes(damage)
    again = ContentIndex(b.root / ".deft" / "digests")
    pd.testing.assert_frame_equal(again.digest_pairs(frame, b.layout, thumbs=True), first)
    assert again.decoded == b.index.decoded == 5


def test_a_cache_with_any_bit_changed_is_not_believed(build) -> None:
    """A changed identity that still reads as Parquet would let a copy of a KPI image into the training set."""
    b = build()
    frame = b.frame(3)
    first = b.part(frame).ids
    cache = next((b.root / ".deft/digests").iterdir())
    whole = cache.read_bytes()
    at = whole.find(digest(b.root / "a/C0_SolderLight.png"))
    assert at >= 0, "the identity of the first image does not stand in the file as it is"
    cache.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
    again = ContentIndex(b.root / ".deft" / "digests")
    pd.testing.assert_frame_equal(again.digest_pairs(frame, b.layout, thumbs=True), first)
    assert again.decoded == 5


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
    kpi = b.index.part("KPI set", frame, ImageLayout(other.root, ("SolderLight",), ".jpg"), thumbs=True)
    assert leakage.find_leaks(train, kpi).empty
    near = leakage.near_duplicates(train, kpi)
    assert near[["line_a", "line_b"]].to_numpy().tolist() == [[5, 2]]
    assert 0 < near["rmse"][0] < 8


def test_near_duplicates_equal_comparing_every_pair(build) -> None:
    b = build()
    rng = np.random.default_rng(7)
    rows = []
    for i in range(24):
        base = np.asarray(crop(i % 4)).astype(np.int16)
        noisy = np.clip(base + rng.normal(0, rng.uniform(0, 14), base.shape), 0, 255).astype(np.uint8)
        row = b.row(f"N{i}", i % 4)
        b.save(Image.fromarray(noisy), "a", f"N{i}")
        rows.append(row)
    a, c = b.part(pd.DataFrame(rows[:12]), "a"), b.part(pd.DataFrame(rows[12:]), "b")
    found = {(int(r.row_a), int(r.row_b)) for r in leakage.near_duplicates(a, c).itertuples()}
    paths_a, paths_c = image_paths(a.frame, a.layout), image_paths(c.frame, c.layout)
    expected = {
        (i, j)
        for i in range(12)
        for j in range(12)
        if leakage.pair_rmse([p[i] for p in paths_a], [p[j] for p in paths_c]) < 8
        and a.ids["content_id"][i] != c.ids["content_id"][j]
    }
    assert found == expected
    assert 5 < len(expected) < 140


def test_shared_boards_are_listed(build) -> None:
    frame = pd.DataFrame({"boardname": ["B2", "B1", ""]})
    assert leakage.shared_boards(frame, pd.DataFrame({"boardname": ["B1", "", "B3"]})) == ["B1"]
    assert leakage.shared_boards(frame, pd.DataFrame({"x": [1]})) == []


def _paths(b, rows: int) -> list[str]:
    return list(dict.fromkeys(p for column in image_paths(b.frame(rows), b.layout) for p in column))


def _same(one: file_index.Pixels, two: file_index.Pixels) -> bool:
    return all(np.array_equal(x, y) for x, y in zip(one, two, strict=True))


@pytest.mark.parametrize("thumbs", [False, True])
def test_child_processes_give_the_same_identities_in_any_chunks(build, tmp_path: Path, monkeypatch, thumbs: bool) -> None:
    paths = _paths(build(), 11)
    alone = ContentIndex(tmp_path / "one", workers=1)
    expected = alone.pixels(paths, thumbs=thumbs)
    monkeypatch.setattr(digest_workers, "CHUNK", 3)
    index = ContentIndex(tmp_path / "many", workers=3)
    assert _same(index.pixels(paths, thumbs=thumbs), expected)
    assert index.decoded == alone.decoded == 11 + 2  # 22 files, 13 contents
    again = ContentIndex(tmp_path / "many")
    assert _same(again.pixels(paths, thumbs=thumbs), expected)
    assert again.decoded == 0


def test_children_that_die_cost_time_and_nothing_else(build, tmp_path: Path, monkeypatch) -> None:
    paths = _paths(build(), 6)
    expected = ContentIndex(tmp_path / "one", workers=1).pixels(paths)
    monkeypatch.setattr(digest_workers, "CHUNK", 2)
    real = digest_workers._Child.ask

    def die_first(child, chunk):
        child._process.kill()
        child._process.wait()
        return real(child, chunk)

    monkeypatch.setattr(digest_workers._Child, "ask", die_first)
    assert ContentIndex(tmp_path / "many", workers=2).pixels(paths).digest.tolist() == expected.digest.tolist()


@pytest.mark.parametrize("workers", [1, 2])
def test_every_damaged_image_is_named_and_what_was_decoded_is_kept(build, tmp_path: Path, workers: int) -> None:
    b = build()
    frame = b.frame(5)
    bad = dict.fromkeys(("a/C3_SolderLight.png", "golden/a/C1_SolderLight.png"), b"no image")
    good = {name: (b.root / name).read_bytes() for name in bad}
    for name in bad:
        (b.root / name).write_bytes(bad[name])
        index = ContentIndex(tmp_path / "c", workers=workers)
        with pytest.raises(HardStop) as stop:
            index.digest_pairs(frame, b.layout, what="KPI set")
    assert stop.value.message == "KPI set: 2 images cannot be used"
    assert "line 5, column input_path" in stop.value.found
    assert "line 3, column golden_path" in stop.value.found
    (b.root / "golden/a/C1_SolderLight.png").write_bytes(good["golden/a/C1_SolderLight.png"])
    with pytest.raises(HardStop) as stop:
        ContentIndex(tmp_path / "c", workers=workers).digest_pairs(frame, b.layout, what="KPI set")
    assert stop.value.message.startswith("KPI set, line 5, column input_path: the image")
    (b.root / "a/C3_SolderLight.png").write_bytes(good["a/C3_SolderLight.png"])
    resumed = ContentIndex(tmp_path / "c", workers=workers)
    resumed.digest_pairs(frame, b.layout)
    assert resumed.decoded == 1


@pytest.mark.parametrize("workers", [1, 2])
def test_a_copy_is_never_decoded_and_still_judged_as_a_file(build, tmp_path: Path, workers: int) -> None:
    b = build()
    paths = _paths(b, 4)
    first = ContentIndex(tmp_path / "c", workers=workers)
    known = first.pixels(paths)
    copies = [str(tmp_path / f"copy{i}.png") for i in range(len(paths))]
    for source, copy in zip(paths, copies, strict=True):
        shutil.copyfile(source, copy)
    again = ContentIndex(tmp_path / "c", workers=workers)
    assert _same(again.pixels(copies), known)
    assert again.decoded == 0
    Path(tmp_path / "second_name.png").hardlink_to(copies[0])
    with pytest.raises(HardStop, match="second name"):
        ContentIndex(tmp_path / "c", workers=workers).pixels(copies)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_copy_that_its_own_name_forbids_is_refused(tmp_path: Path, workers: int) -> None:
    crop(1).save(tmp_path / "a.tif")
    index = ContentIndex(tmp_path / "c", workers=workers)
    index.pixels([str(tmp_path / "a.tif")])
    shutil.copyfile(tmp_path / "a.tif", tmp_path / "a.png")
    with pytest.raises(HardStop, match="cannot be decoded"):
        index.pixels([str(tmp_path / "a.png"), str(tmp_path / "a.tif")])
    with pytest.raises(HardStop, match="cannot be decoded"):
        ContentIndex(tmp_path / "c", workers=workers).pixels([str(tmp_path / "a.png")])


@pytest.mark.parametrize("workers", [1, 2])
def test_file_digests_are_those_of_the_bytes_and_need_no_decoder(build, tmp_path: Path, workers: int) -> None:
    b = build()
    paths = _paths(b, 4)
    Path(paths[0]).write_bytes(b"no image")
    index = ContentIndex(tmp_path / "c", workers=workers)
    expected = [hashlib.sha256(Path(p).read_bytes()).digest() for p in paths]
    assert [row.tobytes() for row in index.file_digests(paths)] == expected
    assert index.decoded == 0
    Path(paths[1]).write_bytes(b"other")
    again = ContentIndex(tmp_path / "c", workers=workers)
    assert again.file_digests(paths)[1].tobytes() == hashlib.sha256(b"other").digest()
    assert [row.tobytes() for row in again.file_digests(paths)][2:] == expected[2:]


def test_a_file_that_changes_while_it_is_read_is_read_again(build, tmp_path: Path, monkeypatch) -> None:
    path = _paths(build(), 2)[0]
    real, sizes = images._read_all, []

    def changed_before_it_is_read(fd: int, size: int) -> bytes:
        if not sizes:
            with Path(path).open("ab") as file:
                file.write(b"more")
        sizes.append(size)
        return real(fd, size)

    monkeypatch.setattr(images, "_read_all", changed_before_it_is_read)
    for _ in range(3):
        found = ContentIndex(tmp_path / "c", workers=1).file_digests([path])
    assert found.tobytes() == hashlib.sha256(Path(path).read_bytes()).digest()
    assert len(sizes) == 2  # the second time, and not the third


def test_identities_without_thumbnails_are_completed_when_those_are_asked_for(build, tmp_path: Path) -> None:
    b = build()
    frame = b.frame(4)
    assert "phash" not in ContentIndex(tmp_path / "c").digest_pairs(frame, b.layout).columns
    index = ContentIndex(tmp_path / "c")
    pd.testing.assert_frame_equal(index.digest_pairs(frame, b.layout, thumbs=True), b.part(frame).ids)
    assert index.decoded == 6
    last = ContentIndex(tmp_path / "c")
    last.digest_pairs(frame, b.layout)
    last.digest_pairs(frame, b.layout, thumbs=True)
    assert last.decoded == 0


def test_a_child_ends_with_its_input() -> None:
    command = [sys.executable, "-m", "deft_aoi.analysis.digest_workers", "read"]
    scripts = str(Path(identity.__file__).resolve().parents[2])
    env = {**os.environ, "PYTHONPATH": scripts}
    done = subprocess.run(command, input=b"", capture_output=True, timeout=60, check=False, env=env)
    assert (done.returncode, done.stdout) == (0, b"")


@pytest.mark.parametrize("size", [images.READ_WHOLE_BYTES - 1000, images.READ_WHOLE_BYTES * 2])
def test_large_files_are_decoded_like_small_ones(tmp_path: Path, size: int) -> None:
    side = int((size / 3) ** 0.5)
    pixels = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "x.bmp")
    assert np.array_equal(np.asarray(open_image(tmp_path / "x.bmp")), pixels)
