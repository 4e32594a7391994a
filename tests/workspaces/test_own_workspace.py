"""The user's own data: folders or CSV become board-disjoint parts, deterministically, with nothing linked."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from deft_aoi.contract import spec as specs
from deft_aoi.contract.changenet_csv import read_changenet_csv
from deft_aoi.contract.errors import HardStop, UsageError
from deft_aoi.contract.files import sha256_file
from deft_aoi.workspaces.board_split import parse_fractions, split_boards
from deft_aoi.workspaces.builder import SPLITS
from deft_aoi.workspaces.check_workspace import check_workspace
from deft_aoi.workspaces.own_data import from_csv, lights_of_map, parse_map
from deft_aoi.workspaces.own_folders import from_folders
from deft_aoi.workspaces.own_workspace import DEFAULT_FRACTIONS, make_workspace

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "make_workspace.py"
FRACTIONS = parse_fractions(DEFAULT_FRACTIONS)


def picture(seed: list[int]) -> Image.Image:
    coarse = np.random.default_rng(seed).integers(0, 255, (8, 8, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((64, 64), Image.Resampling.BICUBIC)


def make_folders(root: Path, *, boards: int = 20, lights: tuple[str, ...] = ("",), ext: str = ".png") -> tuple[Path, Path]:
    """Each board: three good parts and one defect; golden images by board and name, without the label folder."""
    for board in range(boards):
        for part in range(4):
            label = ("OK", "OK", "OK", "Missing" if board % 2 else "bridge")[part]
            for number, light in enumerate(lights):
                name = f"R{part}_{light}{ext}" if light else f"R{part}{ext}"
                for folder, seed in ((f"test/{label}/B{board:03d}", 1), (f"golden/B{board:03d}", 2)):
                    file = root / folder / name
                    file.parent.mkdir(parents=True, exist_ok=True)
                    picture([board, part, seed, number]).save(file)
    return root / "test", root / "golden"


def samples_of(root: Path, **changes: object) -> list:
    test, golden = make_folders(root)
    return from_folders(test, golden, **({"lights": ("",), "pass_label": "OK", "board_regex": None} | changes))  # type: ignore[arg-type]


def frames(root: Path) -> dict[str, pd.DataFrame]:
    return {n: read_changenet_csv(root / s.csv, what=n) for n, s in SPLITS.items() if (root / s.csv).exists()}


def test_folders_become_a_workspace_that_the_check_accepts(tmp_path: Path) -> None:
    report = make_workspace(samples_of(tmp_path / "in"), tmp_path / "ws", lights=("",), fractions=FRACTIONS, seed=1)
    got = frames(tmp_path / "ws")
    assert sum(map(len, got.values())) == 80
    boards = [set(f["boardname"]) for f in got.values()]
    assert len(set().union(*boards)) == sum(map(len, boards)) == 20
    assert Counter(label for f in got.values() for label in f["label"]) == {"PASS": 60, "missing": 10, "bridge": 10}
    assert [f.line() for f in check_workspace(tmp_path / "ws").findings if f.level == "error"] == []
    assert report["kind"] == "own"
    spec = specs.load_spec(tmp_path / "ws/specs/baseline_spec.yaml")
    assert specs.lights(spec) == ("",)
    assert specs.image_ext(spec) == ".png"


def test_parts_get_about_their_fraction_of_every_label(tmp_path: Path) -> None:
    make_workspace(samples_of(tmp_path / "in"), tmp_path / "ws", lights=("",), fractions=FRACTIONS, seed=1)
    for name, frame in frames(tmp_path / "ws").items():
        for label, total in (("PASS", 60), ("missing", 10), ("bridge", 10)):
            assert abs((frame["label"] == label).sum() - total * FRACTIONS[name]) <= 3


def test_images_are_copies_and_not_links(tmp_path: Path) -> None:
    make_workspace(samples_of(tmp_path / "in"), tmp_path / "ws", lights=("",), fractions=FRACTIONS, seed=1)
    originals = {sha256_file(p) for p in (tmp_path / "in").rglob("*.png")}
    copies = list((tmp_path / "ws").rglob("*.png"))
    assert len(copies) == 160
    for file in copies:
        assert not file.is_symlink()
        assert file.stat().st_nlink == 1
        assert sha256_file(file) in originals


def test_same_data_and_seed_same_workspace(tmp_path: Path) -> None:
    samples = samples_of(tmp_path / "in")
    for name in ("a", "b"):
        make_workspace(samples, tmp_path / name, lights=("",), fractions=FRACTIONS, seed=4)
    for file in (tmp_path / "a").rglob("*"):
        if file.is_file():
            assert sha256_file(file) == sha256_file(tmp_path / "b" / file.relative_to(tmp_path / "a"))


def test_several_lights_by_file_name(tmp_path: Path) -> None:
    lights = ("SolderLight", "WhiteLight")
    test, golden = make_folders(tmp_path / "in", lights=lights)
    samples = from_folders(test, golden, lights=lights, pass_label="OK", board_regex=None)
    assert {len(s.test) for s in samples} == {2}
    make_workspace(samples, tmp_path / "ws", lights=lights, fractions=FRACTIONS, seed=1)
    assert [f.line() for f in check_workspace(tmp_path / "ws").findings if f.level == "error"] == []
    (test / "OK/B000/R0_WhiteLight.png").unlink()
    with pytest.raises(HardStop) as stop:
        from_folders(test, golden, lights=lights, pass_label="OK", board_regex=None)
    assert "WhiteLight" in stop.value.found


def test_mixed_extensions_become_png_without_loss(tmp_path: Path) -> None:
    test, golden = make_folders(tmp_path / "in")
    odd = test / "OK/B000/R0.png"
    Image.open(odd).save(odd.with_suffix(".bmp"))
    pixels = np.asarray(Image.open(odd))
    odd.unlink()
    samples = from_folders(test, golden, lights=("",), pass_label="OK", board_regex=None)
    make_workspace(samples, tmp_path / "ws", lights=("",), fractions=FRACTIONS, seed=1)
    assert any(np.array_equal(np.asarray(Image.open(p)), pixels) for p in (tmp_path / "ws").rglob("B000/PerComponent/R0.png"))


def test_boards_from_file_names(tmp_path: Path) -> None:
    test, golden = make_folders(tmp_path / "in")
    for root in (test, golden):
        for file in list(root.rglob("*.png")):
            target = file.parent.parent / f"{file.parent.name}_{file.name}"
            file.rename(target)
    with pytest.raises(HardStop, match="no board"):
        from_folders(test, golden, lights=("",), pass_label="OK", board_regex=None)
    samples = from_folders(test, golden, lights=("",), pass_label="OK", board_regex="^([^_]+)_")
    assert {s.board for s in samples} == {f"B{n:03d}" for n in range(20)}


def test_a_picture_without_golden_is_named(tmp_path: Path) -> None:
    test, golden = make_folders(tmp_path / "in")
    (golden / "B003/R1.png").unlink()
    # Other boards have an R1 too, so the name alone does not tell which golden is meant.
    with pytest.raises(HardStop, match="several golden images") as stop:
        from_folders(test, golden, lights=("",), pass_label="OK", board_regex=None)
    assert "B003" in stop.value.message


def test_one_picture_under_two_labels_is_a_contradiction(tmp_path: Path) -> None:
    test, golden = make_folders(tmp_path / "in")
    (test / "bridge/B000/R0.png").write_bytes((test / "OK/B000/R0.png").read_bytes())
    samples = from_folders(test, golden, lights=("",), pass_label="OK", board_regex=None)
    with pytest.raises(HardStop, match="two labels"):
        make_workspace(samples, tmp_path / "ws", lights=("",), fractions=FRACTIONS, seed=1)
    assert not (tmp_path / "ws").exists()


def test_boards_that_share_a_picture_stay_together(tmp_path: Path) -> None:
    test, golden = make_folders(tmp_path / "in")
    for board in range(1, 6):
        (test / f"OK/B{board:03d}/R0.png").write_bytes((test / "OK/B000/R0.png").read_bytes())
    samples = from_folders(test, golden, lights=("",), pass_label="OK", board_regex=None)
    make_workspace(samples, tmp_path / "ws", lights=("",), fractions=FRACTIONS, seed=1)
    owners = {n for n, f in frames(tmp_path / "ws").items() for b in f["boardname"] if b in {f"B{k:03d}" for k in range(6)}}
    assert len(owners) == 1


def test_a_part_inspected_twice_gets_a_second_name(tmp_path: Path) -> None:
    test, golden = make_folders(tmp_path / "in")
    picture([77]).save(test / "bridge/B000/R0.png")
    samples = from_folders(test, golden, lights=("",), pass_label="OK", board_regex=None)
    make_workspace(samples, tmp_path / "ws", lights=("",), fractions=FRACTIONS, seed=1)
    every = pd.concat(frames(tmp_path / "ws").values())
    assert not every.duplicated(["boardname", "object_name"]).any()
    assert len(every) == 81


def test_too_few_boards_are_a_hard_stop(tmp_path: Path) -> None:
    test, golden = make_folders(tmp_path / "in", boards=4)
    samples = from_folders(test, golden, lights=("",), pass_label="OK", board_regex=None)
    with pytest.raises(HardStop, match="too few boards"):
        make_workspace(samples, tmp_path / "ws", lights=("",), fractions=FRACTIONS, seed=1)


def test_a_class_on_one_board_only_is_a_hard_stop(tmp_path: Path) -> None:
    test, golden = make_folders(tmp_path / "in")
    samples = from_folders(test, golden, lights=("",), pass_label="OK", board_regex=None)
    few = [s for s in samples if s.label == "PASS" or s.board == "B001"]
    with pytest.raises(HardStop, match="no defect rows"):
        make_workspace(few, tmp_path / "ws", lights=("",), fractions=FRACTIONS, seed=1)
    assert not (tmp_path / "ws").exists()


@pytest.mark.parametrize(("old", "new"), [("bridge", "pass"), ("bridge", "a<b")])
def test_bad_label_folders_are_refused(tmp_path: Path, old: str, new: str) -> None:
    test, golden = make_folders(tmp_path / "in")
    (test / old).rename(test / new)
    with pytest.raises(HardStop, match="label"):
        from_folders(test, golden, lights=("",), pass_label="OK", board_regex=None)


def test_names_that_no_launcher_takes_are_changed_and_kept_in_a_column_and_links_are_refused(tmp_path: Path) -> None:
    test, golden = make_folders(tmp_path / "in")
    (test / "OK/B000/R0.png").rename(test / "OK/B000/R,0.png")
    (golden / "B000/R0.png").rename(golden / "B000/R,0.png")
    samples = from_folders(test, golden, lights=("",), pass_label="OK", board_regex=None)
    assert [s.extra for s in samples if s.object_name == "R_0"] == [{"original_name": "R,0"}]
    os.symlink("/etc/hostname", test / "OK/B000/R9.png")
    with pytest.raises(HardStop, match="symbolic link"):
        from_folders(test, golden, lights=("",), pass_label="OK", board_regex=None)


def write_csv(root: Path) -> Path:
    test, golden = make_folders(root)
    file = root / "parts.csv"
    with file.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle)
        writer.writerow(["serial", "img", "ref", "verdict", "refdes", "operator"])
        for image in sorted(test.rglob("*.png")):
            label, board = image.parent.parent.name, image.parent.name
            ref = (golden / board / image.name).relative_to(root)
            writer.writerow(
                [f"0{board[1:]}", image.relative_to(root).as_posix(), ref.as_posix(), label, "00" + image.stem[1:], "Zoë"]
            )
    return file


MAP = ["input=img,golden=ref,label=verdict", "board=serial", "object=refdes"]


def test_csv_with_a_mapping_keeps_zeros_and_further_columns(tmp_path: Path) -> None:
    file = write_csv(tmp_path / "in")
    samples = from_csv(file, parse_map(MAP), images_root=tmp_path / "in", pass_label="OK")
    make_workspace(samples, tmp_path / "ws", lights=("",), fractions=FRACTIONS, seed=1)
    every = pd.concat(frames(tmp_path / "ws").values())
    assert set(every["object_name"]) == {"000", "001", "002", "003"}
    assert "0000" in set(every["boardname"])
    assert set(every["operator"]) == {"Zoë"}
    assert [f.line() for f in check_workspace(tmp_path / "ws").findings if f.level == "error"] == []


def test_csv_errors_name_line_and_column(tmp_path: Path) -> None:
    file = write_csv(tmp_path / "in")
    lines = file.read_text().splitlines()
    file.write_text("\n".join([*lines[:3], lines[3].replace(".png", ".gif"), *lines[4:]]) + "\n")
    with pytest.raises(HardStop, match='line 4, column "img": the image is missing'):
        from_csv(file, parse_map(MAP), images_root=tmp_path / "in", pass_label="OK")
    with pytest.raises(HardStop, match="lacks the column"):
        from_csv(file, parse_map([*MAP[:1], "board=lot"]), images_root=tmp_path / "in", pass_label="OK")


@pytest.mark.parametrize("items", [["input"], ["input=a,input=b"], ["where=a"], ["input="]])
def test_a_mapping_that_cannot_be_read_is_a_usage_error(items: list[str]) -> None:
    with pytest.raises(UsageError):
        parse_map(items)


def test_mapping_roles_must_be_complete() -> None:
    assert lights_of_map(parse_map(["input.A=a,input.B=b,golden.B=d,golden.A=c,label=l,board=s"])) == ("A", "B")
    for items in (["input=a,label=l,board=s"], ["input=a,golden=b,label=l"], ["input.A=a,golden.B=b,label=l,board=s"]):
        with pytest.raises(UsageError):
            lights_of_map(parse_map(items))


@pytest.mark.parametrize("text", ["train=1", "train=1,validation=1,kpi=1,pool=0", "train=x,validation=1,kpi=1,pool=1", "a=1"])
def test_fractions_that_cannot_be_used(text: str) -> None:
    with pytest.raises(UsageError):
        parse_fractions(text)


def test_dealing_never_divides_a_cluster_and_fills_every_part() -> None:
    clusters = [[f"b{i}", f"c{i}"] for i in range(12)]
    weights = {name: Counter({"PASS": 3, "open": i % 2}) for i, pair in enumerate(clusters) for name in pair}
    parts = split_boards(clusters, weights, FRACTIONS, seed=5)
    assert all(parts[a] == parts[b] for a, b in clusters)
    assert set(parts.values()) == set(FRACTIONS)
    assert parts == split_boards(clusters, weights, FRACTIONS, seed=5)


def test_the_script_end_to_end(tmp_path: Path) -> None:
    test, golden = make_folders(tmp_path / "in")
    command = [sys.executable, str(SCRIPT), "--test", str(test), "--golden", str(golden), "--pass-label", "OK"]
    command += ["--output", str(tmp_path / "ws"), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["kind"] == "own"
    neither = subprocess.run([sys.executable, str(SCRIPT), "--output", str(tmp_path / "x")], capture_output=True, text=True)
    assert neither.returncode == 2
    assert "--test DIR with --golden DIR" in neither.stderr


def test_a_golden_of_that_file_name_stands_in_only_by_the_users_rule(tmp_path: Path) -> None:
    test, golden = make_folders(tmp_path / "in")
    (golden / "B000/R0.png").rename(golden / "only-here.png")
    (test / "OK/B000/R0.png").rename(test / "OK/B000/only-here.png")
    with pytest.raises(HardStop) as stop:
        from_folders(test, golden, lights=("",), pass_label="OK", board_regex=None)
    assert "--golden-by file" in stop.value.hint
    notes: list[str] = []
    from_folders(test, golden, lights=("",), pass_label="OK", board_regex=None, golden_by="file", notes=notes)
    assert any(note.startswith("--golden-by file found 1 goldens") for note in notes)


def test_good_parts_in_another_case_are_good_and_a_word_for_good_is_no_defect(tmp_path: Path) -> None:
    test, golden = make_folders(tmp_path / "in")
    samples = from_folders(test, golden, lights=("",), pass_label="ok", board_regex=None)
    assert "ok" not in {s.label for s in samples}
    with pytest.raises(HardStop) as stop:
        from_folders(test, golden, lights=("",), pass_label="PASS", board_regex=None)
    assert "--pass-label ok" in stop.value.hint


def test_files_that_are_no_images_and_masks_are_counted(tmp_path: Path) -> None:
    test, golden = make_folders(tmp_path / "in")
    (test / "OK/B000/Thumbs.db").write_bytes(b"x")
    shutil.copy(test / "OK/B000/R0.png", test / "OK/B000/R0_mask.png")
    notes: list[str] = []
    from_folders(test, golden, lights=("",), pass_label="OK", board_regex=None, notes=notes)
    assert any('".db" 1' in note for note in notes)
    assert any("1 masks" in note for note in notes)


def test_a_defect_that_the_user_named_stays_one_in_every_later_check(tmp_path: Path) -> None:
    test, golden = make_folders(tmp_path / "in")
    for folder in ("bridge", "Missing"):
        (test / folder).rename(test / f"{folder}-")
        shutil.copytree(test / f"{folder}-", test / "good", dirs_exist_ok=True)
        shutil.rmtree(test / f"{folder}-")
    samples = from_folders(test, golden, lights=("",), pass_label="OK", board_regex=None, defect_labels=["Good"])
    make_workspace(samples, tmp_path / "ws", lights=("",), fractions=FRACTIONS, seed=7, defect_labels=["Good"])
    assert check_workspace(tmp_path / "ws").counts["error"] == 0
    (tmp_path / "ws/workspace_report.json").unlink()
    assert {f.rule for f in check_workspace(tmp_path / "ws").findings if f.level == "error"} == {"good_label"}


def test_a_12_bit_tiff_and_a_turned_jpeg_become_upright_8_bit_files(tmp_path: Path) -> None:
    test, golden = make_folders(tmp_path / "in")
    turned = picture([9, 9, 9]).resize((64, 48))
    exif = Image.Exif()
    exif[0x0112] = 6
    (test / "OK/B000/R0.png").unlink()
    turned.save(test / "OK/B000/R0.jpg", exif=exif, quality=95)
    (test / "OK/B001/R0.png").unlink()
    Image.fromarray(np.full((64, 64), 4095, dtype=np.uint16)).save(test / "OK/B001/R0.tif")
    samples = from_folders(test, golden, lights=("",), pass_label="OK", board_regex=None)
    report = make_workspace(samples, tmp_path / "ws", lights=("",), fractions=FRACTIONS, seed=7, bit_depth="auto")
    assert "1 images were turned as the EXIF orientation says" in report["notes"]
    assert "1 images were scaled from 12 bits a channel to 8 (--bit-depth)" in report["notes"]
    (upright,) = (tmp_path / "ws").glob("**/B000/PerComponent/R0.png")
    assert Image.open(upright).size == (48, 64)
    (white,) = (tmp_path / "ws").glob("**/B001/PerComponent/R0.png")
    assert np.asarray(Image.open(white)).min() == 255


def test_all_damaged_images_are_named_at_once_and_nothing_is_left(tmp_path: Path) -> None:
    test, golden = make_folders(tmp_path / "in")
    for board in ("B000", "B001", "B002"):
        (test / "OK" / board / "R1.png").write_bytes(b"")
    samples = from_folders(test, golden, lights=("",), pass_label="OK", board_regex=None)
    with pytest.raises(HardStop) as stop:
        make_workspace(samples, tmp_path / "ws", lights=("",), fractions=FRACTIONS, seed=7)
    assert all(board in stop.value.message for board in ("B000", "B001", "B002"))
    assert [p.name for p in tmp_path.iterdir()] == ["in"]


def test_crops_far_larger_than_the_networks_input_are_a_note_with_the_option(tmp_path: Path) -> None:
    test, golden = make_folders(tmp_path / "in")
    for file in [*test.rglob("*.png"), *golden.rglob("*.png")]:
        Image.open(file).resize((300, 300)).save(file)
    samples = from_folders(test, golden, lights=("",), pass_label="OK", board_regex=None)
    report = make_workspace(samples, tmp_path / "ws", lights=("",), fractions=FRACTIONS, seed=7)
    (note,) = (n for n in report["notes"] if "px on the longer side" in n)
    assert "--set dataset.classify.image_width=256" in note
    (finding,) = (f for f in check_workspace(tmp_path / "ws").findings if f.rule == "crop_size")
    assert "image_width=256" in finding.fix
