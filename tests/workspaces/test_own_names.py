"""What names say: lights, patterns of folders, and golden libraries, by the command that a person types."""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd
import pytest

from deft_aoi.contract.errors import HardStop, UsageError
from deft_aoi.workspaces.own_arguments import find_samples
from deft_aoi.workspaces.own_pattern import Pattern, proposed_lights

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))
from tests.workspaces.test_own_workspace import make_folders, picture, write_csv

from make_workspace import build_parser


def find(*argv: object) -> tuple[list, tuple[str, ...], list[str]]:
    return find_samples(build_parser().parse_args(["--output", "x", "--pass-label", "OK", *map(str, argv)]))


def test_lights_in_the_file_names_are_proposed_and_none_is_an_answer(tmp_path: Path) -> None:
    test, golden = make_folders(tmp_path, boards=3, lights=("Solder", "White"))
    (test / "OK/B000/R0_White.png").unlink()  # one that is missing does not hide the others
    with pytest.raises(UsageError) as stop:
        find("--test", test, "--golden", golden)
    assert "--lights Solder,White" in stop.value.hint
    samples, lights, _ = find("--test", test, "--golden", golden, "--lights", "none")
    assert (lights, len(samples)) == (("",), 3 * 4 * 2 - 1)


@pytest.mark.parametrize(
    ("names", "lights"),
    [
        (["B1/R1_Solder", "B1/R1_White", "B2/R1_Solder", "B2/R1_White"], ("Solder", "White")),
        (["B1_R1", "B1_R2", "B2_R1", "B2_R2"], ()),  # parts of a board
        (["R1_1", "R1_2", "R2_1", "R2_2"], ()),  # copies
        (["cap_missing", "res_shifted"], ()),
        (["A_Top", "B_Top"], ()),  # one ending tells nothing apart
        (["A_Top", "A_Side", "B"], ()),
    ],
)
def test_which_endings_are_lights(names: list[str], lights: tuple[str, ...]) -> None:
    assert proposed_lights(names) == lights


def test_a_pattern_fills_board_part_type_object_and_lights(tmp_path: Path) -> None:
    for label, part in (("OK", 0), ("OK", 1), ("bridge", 2)):
        for light in ("Top", "Side"):
            for folder in (f"test/{label}", "golden"):
                file = tmp_path / folder / "B7" / "R0402" / f"R{part}-a_b-{light}.png"
                file.parent.mkdir(parents=True, exist_ok=True)
                picture([part]).save(file)
    samples, lights, _ = find(
        "--test", tmp_path / "test", "--golden", tmp_path / "golden", "--pattern", "{board}/{part_type}/{object}-{light}"
    )
    assert lights == ("Side", "Top")
    assert {(s.board, s.object_name, s.extra["part_type"]) for s in samples} == {("B7", f"R{n}-a_b", "R0402") for n in range(3)}
    assert [p.name for p in samples[0].golden] == [p.name for p in samples[0].test]
    with pytest.raises(HardStop, match="not as --pattern says"):
        find("--test", tmp_path / "test", "--golden", tmp_path / "golden", "--lights", "none", "--pattern", "{board}/{object}")


def test_a_pattern_may_hold_the_label_and_the_light_as_folders(tmp_path: Path) -> None:
    for label in ("OK", "bridge"):
        for light in ("Top", "Side"):
            for folder in (f"test/{light}/{label}", f"golden/{light}"):
                file = tmp_path / folder / f"B1_{label}.png"
                file.parent.mkdir(parents=True, exist_ok=True)
                picture([len(label)]).save(file)
    pattern = "{light}/{label}/{board}_{object}"
    samples, lights, _ = find("--test", tmp_path / "test", "--golden", tmp_path / "golden", "--pattern", pattern)
    assert lights == ("Side", "Top")
    assert {(s.label, s.board, s.object_name) for s in samples} == {("PASS", "B1", "OK"), ("bridge", "B1", "bridge")}
    assert {p.parent.name for s in samples for p in s.golden} == {"Side", "Top"}


@pytest.mark.parametrize("text", ["{board}/{name}", "{board}/{board}", "boards"])
def test_a_pattern_that_cannot_be_read_is_a_usage_error(text: str) -> None:
    with pytest.raises(UsageError, match="--pattern"):
        Pattern(text)


def golden_library(root: Path, names: list[str]) -> Path:
    for number, name in enumerate(names):
        file = root / "library" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        picture([number]).save(file)
    return root / "library"


def test_one_golden_for_all_parts_of_a_type_and_the_first_by_name_of_several(tmp_path: Path) -> None:
    test, _ = make_folders(tmp_path, boards=3)
    library = golden_library(tmp_path, ["B000/b.png", "B000/a.png", "B001.png", "B002.png"])
    samples, _, notes = find(
        "--test",
        test,
        "--golden",
        library,
        "--golden-by",
        "part_type",
        "--pattern",
        "{part_type}/{object}",
        "--board-regex",
        "(B.+)/",
    )
    assert {(s.board, s.golden[0].name, s.extra["golden_source"]) for s in samples} == {
        ("B000", "a.png", "B000/a.png"),
        ("B001", "B001.png", "B001.png"),
        ("B002", "B002.png", "B002.png"),
    }
    assert any("found 12 goldens (column golden_source), 4 of them the first by name of several" in note for note in notes)
    with pytest.raises(HardStop, match="no part type"):
        find("--test", test, "--golden", library, "--golden-by", "part_type")


def test_a_golden_library_for_a_table(tmp_path: Path) -> None:
    file = write_csv(tmp_path)
    frame = pd.read_csv(file, dtype=str).assign(kind=lambda f: "R0" + f["refdes"].str[-1])
    frame.to_csv(file, index=False)
    library = golden_library(tmp_path, ["R00.png", "R01.png", "R02.png"])
    mapping = "input=img,label=verdict,board=serial,object=refdes,part_type=kind"
    with pytest.raises(HardStop, match="no golden image") as stop:
        find("--csv", file, "--map", mapping, "--golden", library, "--golden-by", "part_type")
    assert "R03" in stop.value.expected
    picture([3]).save(library / "R03.png")
    samples, _, notes = find("--csv", file, "--map", mapping, "--golden", library, "--golden-by", "part_type")
    assert {(s.extra["part_type"], s.extra["golden_source"]) for s in samples} == {(f"R0{n}", f"R0{n}.png") for n in range(4)}
    assert any("found 80 goldens" in note for note in notes)
    for wrong in (["--golden", library], ["--golden-by", "file"]):
        with pytest.raises(UsageError):
            find("--csv", file, "--map", mapping, *wrong)
