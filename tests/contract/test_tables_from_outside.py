"""Tables, labels, images and specs as they come from outside: detected and said, or refused with the cause named."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import pytest

from deft_aoi.contract.changenet_csv import read_changenet_csv
from deft_aoi.contract.charsets import encoding_of_bytes
from deft_aoi.contract.errors import HardStop
from deft_aoi.contract.images import open_image
from deft_aoi.contract.spec import lights, load_spec
from deft_aoi.contract.tao_cells import tao_misreads
from deft_aoi.contract.text import means_good, normalize_label
from deft_aoi.contract.user_table import read_user_table

HEADER = "input_path,golden_path,label,object_name\n"


@pytest.mark.parametrize("raw", ["ＰＡＳＳ", "ｐａｓｓ", "ＰＡＳＳ ", "РАЅЅ", "PАSS", "Páss", "ᴘᴀꜱꜱ"])
def test_a_label_that_only_looks_like_pass_is_refused(raw: str) -> None:
    with pytest.raises(HardStop, match="is not PASS"):
        normalize_label(raw)


def test_full_width_and_plain_letters_are_one_defect_and_mixed_scripts_none() -> None:
    assert normalize_label("ｓｈｏｒｔ") == "short"
    assert normalize_label("замыкание") == "замыкание"
    with pytest.raises(HardStop, match="two scripts"):
        normalize_label("\u0455hort")


@pytest.mark.parametrize("word", ["OK", "o.k.", "Gut", "i.O.", "良品", "ＯＫ", "годен", "양품", "合格", "no_defect", "Conforme"])
def test_words_for_a_good_part_are_known(word: str) -> None:
    assert means_good(word)


@pytest.mark.parametrize("word", ["n.i.O.", "NOK", "not ok", "不良", "short", "bridge", "брак", "불량"])
def test_words_for_a_defect_are_not_words_for_good(word: str) -> None:
    assert not means_good(word)


@pytest.mark.parametrize(
    ("data", "named"),
    [
        (HEADER.replace(",", ";").encode() + b"a;b;PASS;R1\n", "semicolon"),
        (HEADER.replace(",", "\t").encode() + b"a\tb\tPASS\tR1\n", "tab"),
        ((HEADER + "a,b,PASS,R1\n").encode("utf-16"), "UTF-16"),
        (HEADER.replace("\n", "\r").encode() + b"a,b,PASS,R1\r", "line end"),
        (HEADER.replace("\n", ",,\n").encode() + b"a,b,PASS,R1,,\n", "empty column"),
        (HEADER.encode() + "a,b,Brücke,R1\n".encode("cp1252"), "cp1252"),
        (HEADER.replace("label", "Label").encode() + b"a,b,PASS,R1\n", 'rename "Label" to label'),
    ],
)
def test_a_workspace_csv_of_another_kind_is_refused_with_its_cause(tmp_path: Path, data: bytes, named: str) -> None:
    (tmp_path / "t.csv").write_bytes(data)
    with pytest.raises(HardStop) as stop:
        read_changenet_csv(tmp_path / "t.csv", what="training set")
    error = stop.value
    assert named in " ".join((error.message, error.expected, error.found, error.hint))


def test_empty_lines_do_not_shift_the_line_in_a_message(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(HEADER + "a,b,PASS,R1\n\na,b,PASS,R2\n\n\na,b,pass,R3\n", encoding="utf-8")
    with pytest.raises(HardStop) as stop:
        read_changenet_csv(tmp_path / "t.csv", what="training set")
    assert "line 7" in stop.value.message


@pytest.mark.parametrize(
    ("encoding", "label"),
    [
        ("cp1252", "Brücke"),
        ("gb18030", "缺件"),
        ("cp932", "はんだ不足"),
        ("cp949", "불량"),
        ("cp1251", "замыкание"),
        ("utf-16", "ü"),
    ],
)
def test_a_users_table_is_read_whatever_the_spreadsheet_chose(tmp_path: Path, encoding: str, label: str) -> None:
    (tmp_path / "t.csv").write_bytes(f"Bild;Befund ;Maß\n\nR1.png;{label};0,5\n;;\n".encode(encoding, "replace"))
    table = read_user_table(tmp_path / "t.csv", what="data CSV", wanted=["bild", "befund"])
    assert table.frame["befund"].tolist() == [label]
    assert table.lines == (3,)
    assert any("semicolon" in note for note in table.notes)
    assert encoding == "utf-16" or any(table.encoding in note for note in table.notes)


def test_utf8_without_a_mark_is_not_taken_for_a_code_page() -> None:
    assert encoding_of_bytes("Prüfbild,良品\n".encode()) == "utf-8"


@pytest.mark.parametrize(("color", "channels"), [(2, 3), (4, 2), (6, 4), (0, 1)])
def test_sixteen_bits_a_channel_are_refused_in_every_colour_type(tmp_path: Path, color: int, channels: int) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", 4, 4, 16, color, 0, 0, 0)
    rows = zlib.compress((b"\0" + b"\x0f\xff" * 4 * channels) * 4)
    file = tmp_path / "deep.png"
    file.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b""))
    with pytest.raises(HardStop, match="more than 8 bits"):
        open_image(file)


def test_tao_reads_missing_words_and_numbers_and_that_is_found(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(HEADER + "00041,b,PASS,0012\n00041,b,null,NA\n", encoding="utf-8")
    frame = read_changenet_csv(tmp_path / "t.csv", what="training set")
    assert [(m[0], m[2]) for m in tao_misreads(frame)] == [("input_path", "00041"), ("label", "null"), ("object_name", "NA")]


def test_names_in_a_spec_stay_what_was_written(tmp_path: Path) -> None:
    text = "dataset:\n  classify:\n    input_map: {On: 0, 010: 1, No: 2}\n    x: 2026-01-01\n    y: yes\n"
    (tmp_path / "s.yaml").write_text(text, encoding="utf-8")
    spec = load_spec(tmp_path / "s.yaml")
    assert lights(spec) == ("On", "010", "No")
    assert (spec["dataset"]["classify"]["x"], spec["dataset"]["classify"]["y"]) == ("2026-01-01", "yes")


def test_a_number_to_the_base_of_sixty_is_refused_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text("a: 1\nx: " + "1:" * 50_000 + "1.\n", encoding="utf-8")
    with pytest.raises(HardStop) as stop:
        load_spec(tmp_path / "s.yaml")
    assert "line 2" in stop.value.found
