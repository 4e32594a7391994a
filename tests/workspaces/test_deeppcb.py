"""The DeepPCB import, on a small clone in DeepPCB's layout."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deft_aoi.contract.changenet_csv import read_changenet_csv
from deft_aoi.contract.errors import Blocked, HardStop, UsageError
from deft_aoi.contract.files import sha256_file
from deft_aoi.contract.paths import Workspace
from deft_aoi.mining.pregen_scan import scan
from deft_aoi.workspaces.builder import SPLITS
from deft_aoi.workspaces.check_workspace import check_workspace
from deft_aoi.workspaces.deeppcb import LIGHT, Options, changed_pixels, copper_is_dark, import_deeppcb
from deft_aoi.workspaces.deeppcb_clone import find_pcbdata, read_boards
from deft_aoi.workspaces.etching import draw_defect

_maker = importlib.util.spec_from_file_location("deeppcb_clone_maker", Path(__file__).with_name("deeppcb_clone_maker.py"))
assert _maker is not None
maker = importlib.util.module_from_spec(_maker)
_maker.loader.exec_module(maker)  # type: ignore[union-attr]

SMALL = Options(rows_scale=0.1)


@pytest.fixture(scope="session")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return maker.make_clone(tmp_path_factory.mktemp("clone"), 30)


@pytest.fixture(scope="session")
def imported(clone: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:
    output = tmp_path_factory.mktemp("imported") / "ws"
    return output, import_deeppcb(clone, output, SMALL)


def test_comma_and_space_annotations_are_read_alike(clone: Path) -> None:
    boards = {b.name: b for b in read_boards(find_pcbdata(clone))}
    assert len(boards) == 30
    comma, space = boards["00041000"], boards["20085001"]
    assert [b.label for b in comma.boxes] == [b.label for b in space.boxes]
    assert comma.test.name == "00041000_test.jpg"
    assert comma.template.name == "00041000_temp.jpg"


def test_the_pcbdata_folder_itself_is_accepted(clone: Path) -> None:
    assert find_pcbdata(clone / "PCBData") == find_pcbdata(clone)


def test_a_clone_without_list_files_is_read_from_its_folders(tmp_path: Path) -> None:
    root = maker.make_clone(tmp_path, 3)
    before = [b.name for b in read_boards(root / "PCBData")]
    for name in ("trainval.txt", "test.txt"):
        (root / "PCBData" / name).unlink()
    assert [b.name for b in read_boards(root / "PCBData")] == before


def test_parts_share_no_board_and_twins_stay_together(imported: tuple[Path, dict]) -> None:
    output, report = imported
    where: dict[str, set[str]] = {}
    for name, part in SPLITS.items():
        frame = read_changenet_csv(output / part.csv, what=name)
        for board in set(frame["boardname"]):
            where.setdefault(board, set()).add(name)
    assert all(len(parts) == 1 for parts in where.values())
    assert "30 boards in 29 groups" in report["notes"][0]
    twins = [where[b] for b in ("00041000", "20085001") if b in where]
    assert len({frozenset(t) for t in twins}) == 1


def test_every_defect_crop_shows_enough_change_and_one_class(imported: tuple[Path, dict], clone: Path) -> None:
    output, _ = imported
    boards = {b.name: b for b in read_boards(find_pcbdata(clone))}
    seen = 0
    for name, part in SPLITS.items():
        frame = read_changenet_csv(output / part.csv, what=name)
        for row in frame.to_dict("records"):
            files = [
                output / part.images_dir / row[c] / f"{row['object_name']}_{LIGHT}.jpg" for c in ("input_path", "golden_path")
            ]
            test, golden = (Image.open(f) for f in files)
            assert test.size == golden.size == (64, 64)
            met = {b.label for b in boards[row["boardname"]].boxes if b.meets(int(row["crop_x"]), int(row["crop_y"]), 64)}
            if row["label"] == "PASS":
                assert not met
            else:
                seen += 1
                assert met == {row["label"]}
                assert changed_pixels(test, golden) >= 20 - 4  # re-encoding may move a pixel or two over the level
    assert seen >= 30


def test_pass_crops_include_blank_ones(imported: tuple[Path, dict]) -> None:
    output, _ = imported
    frame = read_changenet_csv(output / SPLITS["pool"].csv, what="pool")
    blank = 0
    for row in frame[frame["label"] == "PASS"].to_dict("records"):
        image = Image.open(output / SPLITS["pool"].images_dir / row["golden_path"] / f"{row['object_name']}_{LIGHT}.jpg")
        low, high = image.convert("L").getextrema()
        blank += high - low < 60
    assert 0 < blank < (frame["label"] == "PASS").sum()


def test_base_training_has_the_gap(imported: tuple[Path, dict]) -> None:
    labels = imported[1]["splits"]
    assert set(labels["train"]["labels"]) == {"PASS", "open", "short"}
    assert len(labels["kpi"]["labels"]) == len(labels["pool"]["labels"]) == 7


def test_synthetic_pairs_are_of_the_missing_classes_and_really_differ(imported: tuple[Path, dict]) -> None:
    output, report = imported
    pairs = scan(Workspace.at(output), (LIGHT,), ".jpg")
    assert pairs.counts_by_type == report["pregenerated"] == dict.fromkeys(("copper", "mousebite", "pinhole", "spur"), 4)
    for pair in pairs.pairs:
        assert re.fullmatch(r"\d+_x\d+y\d+\+[a-z]+_\d{5}", pair.stem)
        assert changed_pixels(Image.open(output / pair.ng), Image.open(output / pair.ok)) >= 10


def test_the_data_check_accepts_it_without_leaks(imported: tuple[Path, dict]) -> None:
    report = check_workspace(imported[0], allow_near=True)  # the clone draws every open, on every board, alike
    assert [f.message for f in report.findings if f.level == "error" or f.rule in ("leakage", "shared_board")] == []


def test_same_clone_same_workspace(clone: Path, imported: tuple[Path, dict], tmp_path: Path) -> None:
    import_deeppcb(clone, tmp_path / "again", SMALL)
    for file in imported[0].rglob("*"):
        if file.is_file():
            assert sha256_file(file) == sha256_file(tmp_path / "again" / file.relative_to(imported[0]))


def test_polarity_of_the_copper_is_found(tmp_path: Path) -> None:
    root = maker.make_clone(tmp_path, 2)
    assert copper_is_dark(read_boards(root / "PCBData")) == {"group00041": True, "group20085": True}
    for file in root.rglob("*.jpg"):
        Image.fromarray(255 - np.asarray(Image.open(file))).save(file, quality=92)
    assert copper_is_dark(read_boards(root / "PCBData")) == {"group00041": False, "group20085": False}


@pytest.mark.parametrize("label", ["open", "short", "mousebite", "spur", "copper", "pinhole"])
@pytest.mark.parametrize("dark", [True, False])
def test_drawn_defects_do_to_the_copper_what_their_name_says(label: str, dark: bool) -> None:
    from scipy import ndimage

    template = maker.draw_template(4)
    # Traces of two pads each for open and short; the solid area for the others.
    box = (200, 130, 264, 194) if label in ("open", "short", "mousebite", "spur", "copper") else (40, 474, 104, 538)
    levels = np.asarray(template.crop(box).convert("RGB"))
    golden = Image.fromarray(levels if dark else 255 - levels)
    drawn = draw_defect(golden, label, copper_dark=dark, rng=np.random.default_rng(2))
    assert drawn is not None

    def copper(image: Image.Image) -> np.ndarray:
        grey = np.asarray(image.convert("L"))
        return grey < 128 if dark else grey > 128

    before, after = copper(golden), copper(drawn)
    eight = np.ones((3, 3))
    pieces = ndimage.label(after, eight)[1] - ndimage.label(before, eight)[1]
    gained, lost = (after & ~before).sum(), (before & ~after).sum()
    assert {"open": pieces > 0, "short": pieces < 0, "copper": pieces == 1}.get(label, pieces == 0)
    assert (gained > lost) == (label in ("short", "spur", "copper"))
    assert gained + lost >= 10


def test_no_clone_is_blocked_with_the_command(tmp_path: Path) -> None:
    with pytest.raises(Blocked) as stop:
        import_deeppcb(tmp_path, tmp_path / "ws", SMALL)
    assert "git clone" in stop.value.hint
    assert not (tmp_path / "ws").exists()


@pytest.mark.parametrize(("line", "number"), [("1 2 3", 3), ("10,10,20,20,9", 3), ("a b c d 1", 3)])
def test_a_bad_annotation_names_file_and_line(tmp_path: Path, line: str, number: int) -> None:
    root = maker.make_clone(tmp_path, 2)
    file = root / "PCBData/group00041/00041_not/00041000.txt"
    lines = file.read_text().splitlines()
    file.write_text("\n".join([*lines[: number - 1], line, *lines[number:]]))
    with pytest.raises(HardStop, match=r"00041000.txt, line 3"):
        read_boards(root / "PCBData")


def test_a_listed_board_without_template_is_named(tmp_path: Path) -> None:
    root = maker.make_clone(tmp_path, 2)
    (root / "PCBData/group20085/20085/20085001_temp.jpg").unlink()
    with pytest.raises(HardStop) as stop:
        read_boards(root / "PCBData")
    assert "line 1" in stop.value.message
    assert "20085001_temp.jpg" in stop.value.expected


def test_a_list_file_cannot_lead_out_of_the_clone(tmp_path: Path) -> None:
    root = maker.make_clone(tmp_path, 2)
    (root / "PCBData/trainval.txt").write_text("../../etc/x.jpg ../../etc/x.txt\n")
    with pytest.raises(HardStop, match="leaves its folder"):
        read_boards(root / "PCBData")


def test_a_clone_that_is_too_small_leaves_nothing_behind(tmp_path: Path) -> None:
    root = maker.make_clone(tmp_path / "clone", 4)
    with pytest.raises(HardStop, match="too few boards"):
        import_deeppcb(root, tmp_path / "ws", SMALL)
    assert [p.name for p in tmp_path.iterdir()] == ["clone"]


def test_unknown_base_labels_are_a_usage_error(clone: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        import_deeppcb(clone, tmp_path / "ws", Options(base_labels=("open", "scratch")))
