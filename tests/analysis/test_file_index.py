"""What files and their pixels are is learned once, remembered, and never believed of a file that changed."""

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
from tests.conftest import LONG

from deft_aoi.analysis import digest_cache, digest_workers, file_index, identity
from deft_aoi.analysis.identity import ContentIndex, image_paths
from deft_aoi.contract import images
from deft_aoi.contract.errors import HardStop
from deft_aoi.contract.images import open_image

from .conftest import crop


def test_the_cache_decodes_only_new_and_changed_files(build) -> None:
    b = build()
    frame = b.frame(5)
    first = b.part(frame).ids
    assert b.index.decoded == 5 + 2  # the golden of a good part is the same file here, that of a defect is not
    again = ContentIndex(b.root / ".deft" / "digests")
    pd.testing.assert_frame_equal(again.digest_pairs(frame, b.layout), first)
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
    pd.testing.assert_frame_equal(again.digest_pairs(frame, b.layout), first)
    assert again.decoded == b.index.decoded == 5


def test_a_cache_with_any_bit_changed_is_not_believed(build) -> None:
    """A changed identity that still reads as Parquet would let a copy of a KPI image into the training set."""
    b = build()
    frame = b.frame(3)
    first = b.part(frame).ids
    cache = next((b.root / ".deft/digests").iterdir())
    whole = cache.read_bytes()
    at = whole.find(identity.identify(open_image(b.root / "a/C0_SolderLight.png")).digest)
    assert at >= 0, "the identity of the first image does not stand in the file as it is"
    cache.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
    again = ContentIndex(b.root / ".deft" / "digests")
    pd.testing.assert_frame_equal(again.digest_pairs(frame, b.layout), first)
    assert again.decoded == 5


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


@pytest.mark.parametrize(("seed", "rounds"), [(seed, 40 if LONG else 4) for seed in (1, 2, 3)])
def test_what_the_cache_tells_is_what_the_files_are_whatever_was_asked_before(
    tmp_path: Path, monkeypatch, seed: int, rounds: int
) -> None:
    """Bytes, pixels and thumbnails of changing files and copies, by several caches, saved at any moment."""
    rng = np.random.default_rng(seed)
    real = digest_cache.DigestCache.add

    def add_and_sometimes_save(cache: digest_cache.DigestCache, *row) -> None:
        real(cache, *row)
        if rng.random() < 0.3:
            cache.save()

    monkeypatch.setattr(digest_cache.DigestCache, "add", add_and_sometimes_save)
    paths = [tmp_path / f"i{n}{('.png', '.jpg', '.tif')[n % 3]}" for n in range(9)]
    for n, path in enumerate(paths):
        crop(n).save(path)
    index = ContentIndex(tmp_path / "c", workers=1)
    for _ in range(rounds):
        for n in rng.integers(0, len(paths), rng.integers(0, 4)):
            if rng.random() < 0.5 and n % 3 != 2:
                shutil.copyfile(paths[(n + 3) % len(paths)], paths[n])  # a copy under the same extension
            else:
                crop(int(rng.integers(0, 50))).save(paths[n])
        if rng.random() < 0.3:
            index = ContentIndex(tmp_path / "c", workers=int(rng.integers(1, 3)))
        some = [str(paths[n]) for n in rng.permutation(len(paths))[: rng.integers(1, len(paths) + 1)]]
        if rng.random() < 0.3:
            expected = [hashlib.sha256(Path(p).read_bytes()).digest() for p in some]
            assert [row.tobytes() for row in index.file_digests(some)] == expected
            continue
        thumbs = bool(rng.random() < 0.5)
        found, expected = index.pixels(some, thumbs=thumbs), [identity.identify(open_image(p)) for p in some]
        assert [row.tobytes() for row in found.digest] == [e.digest for e in expected]
        assert found.flat.tolist() == [e.flat for e in expected]
        assert found.thumb is None if not thumbs else [row.tobytes() for row in found.thumb] == [e.thumb for e in expected]


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


def test_images_without_thumbnails_are_completed_when_those_are_asked_for(build, tmp_path: Path) -> None:
    b = build()
    paths = [p for column in identity.image_paths(b.frame(4), b.layout) for p in column]
    first = ContentIndex(tmp_path / "c")
    assert first.pixels(paths).thumb is None
    index = ContentIndex(tmp_path / "c")
    assert index.pixels(paths, thumbs=True).thumb is not None
    assert index.decoded == len({Path(p).read_bytes() for p in paths})
    last = ContentIndex(tmp_path / "c")
    last.pixels(paths)
    last.pixels(paths, thumbs=True)
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
