"""Paths, names and tables from outside: refused with their line and column, or they come back as they went in."""
# ruff: noqa: E501 - tables of attacks and commands are read line by line

from __future__ import annotations

import csv
import json
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from deft_aoi.contract import spec as specs
from deft_aoi.contract.changenet_csv import ImageLayout, read_changenet_csv, write_changenet_csv
from deft_aoi.contract.errors import DeftError, HardStop
from deft_aoi.contract.paths import resolve_under
from deft_aoi.contract.text import check_name, normalize_label, printable, quoted
from deft_aoi.mining.defect_types import read_defect_spec
from deft_aoi.mining.pregen_scan import scan

from .pregen import pregen, stage_all

QUICK = settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

BAD_PATHS = (
    "..",
    "../x",
    "a/../../b",
    "a/..",
    "/etc/passwd",
    "//etc",
    "/",
    "~",
    "~root/x",
    "a\0b",
    "\0",
    "..\\x",
    "a\\b",
    "\\\\host\\share",
    "a/\n/b",
    "a\tb",
    "\x1b[2J",
    "x" * 256,
    "a/" + "é" * 128,
    "/proc/self/environ",
    "/dev/zero",
)
BAD_NAMES = (
    "",
    ".",
    "..",
    "a/b",
    "a\\b",
    "a\0b",
    "a\nb",
    " a",
    "a ",
    "a,b",
    'a"b',
    "a'b",
    "a;b",
    "a|b",
    "$(id)",
    "`id`",
    "a<b>",
    "a:b",
    "=1+1",
    "a*b",
    "a?b",
    "{x}",
    "{{x}}",
    "\u202egnp.exe",
    "a\u200bb",
    "a\ufeffb",
    "x" * 129,
    "%2e%2e%2f",
    "a&b",
    "#a",
    "a=b",
)


def table(folder: Path, rows: list[dict[str, str]], **override: str) -> Path:
    path = folder / "t.csv"
    columns = ["input_path", "golden_path", "label", "object_name", "boardname"]
    with path.open("w", newline="", encoding="utf-8", errors="surrogatepass") as handle:
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerow(columns)
        for row in rows:
            writer.writerow([row.get(c, "") for c in columns])
    return path


def row(**cells: str) -> dict[str, str]:
    return {"input_path": "a", "golden_path": "g", "label": "PASS", "object_name": "C1", "boardname": "b", **cells}


@pytest.mark.parametrize("bad", BAD_PATHS)
@pytest.mark.parametrize("column", ["input_path", "golden_path"])
def test_a_path_that_leads_elsewhere_is_refused(tmp_path: Path, column: str, bad: str) -> None:
    (tmp_path / "images").mkdir()
    with pytest.raises(HardStop) as stop:
        frame = read_changenet_csv(table(tmp_path, [row(), row(**{column: bad})]), what="training set")
        ImageLayout(tmp_path / "images", ("L",), ".png").missing(frame)
    text = stop.value.render()
    assert "\x1b" not in text
    if not any(c in bad for c in "\0\n") and len(bad) < 200:  # these break the table itself; the line is that of the table
        assert f"training set, line 3, column {column}" in text, text


@pytest.mark.parametrize("bad", BAD_NAMES)
def test_a_name_that_is_no_name_is_refused_everywhere(tmp_path: Path, bad: str) -> None:
    with pytest.raises(HardStop):
        check_name(bad, "object_name")
    if "\0" not in bad and "\n" not in bad:
        with pytest.raises(HardStop, match="object_name") as stop:
            read_changenet_csv(table(tmp_path, [row(), row(object_name=bad)]), what="KPI set")
        assert "line 3, column object_name" in stop.value.message
    if bad:
        with pytest.raises(HardStop):
            specs.lights({"dataset": {"classify": {"input_map": {bad: 0}}}})
    with pytest.raises(HardStop):
        specs.image_ext({"dataset": {"classify": {"image_ext": bad + "/../x"}}})


@pytest.mark.parametrize("kind", ["file", "folder", "chain", "swapped"])
def test_a_symbolic_link_on_the_way_is_refused(tmp_path: Path, kind: str) -> None:
    root, outside = tmp_path / "images", tmp_path / "outside"
    for folder in (root / "a", outside):
        folder.mkdir(parents=True)
    (outside / "C1_L.png").write_bytes(b"canary")
    layout = ImageLayout(root, ("L",), ".png")
    if kind == "file":
        (root / "a" / "C1_L.png").symlink_to(outside / "C1_L.png")
    else:
        (root / "a").rmdir()
        (root / "a").symlink_to(outside if kind != "chain" else root / "b")
        if kind == "chain":
            (root / "b").symlink_to(outside)
    with pytest.raises(HardStop, match="symbolic link"):
        layout.input_paths(row())


@pytest.mark.parametrize("what", ["table", "spec", "defect_spec"])
def test_a_table_or_spec_that_is_a_link_is_refused_and_nothing_of_it_is_shown(tmp_path: Path, what: str) -> None:
    outside = tmp_path / "outside"
    outside.write_text("canary5c1d,x\ncanary5c1d: [")
    link = tmp_path / "ws" / "defect_spec.jsonl"
    link.parent.mkdir()
    link.symlink_to(outside)
    read = {"table": lambda p: read_changenet_csv(p, what="pool"), "spec": specs.load_spec, "defect_spec": read_defect_spec}
    with pytest.raises(HardStop, match="symbolic link") as stop:
        read[what](link)
    assert "canary5c1d" not in stop.value.render()


@QUICK
@given(
    parts=st.lists(
        st.text(st.characters(codec="utf-8"), max_size=12) | st.sampled_from(["..", ".", "link", "a", "/", "~"]), max_size=5
    )
)
@example(parts=["link", "x"])
@example(parts=["a", "..", ".."])
def test_an_accepted_path_is_below_its_root(tmp_path: Path, parts: list[str]) -> None:
    root = tmp_path / "root"
    (root / "a").mkdir(parents=True, exist_ok=True)
    if not (root / "link").is_symlink():
        (root / "link").symlink_to(tmp_path)
    try:
        found = resolve_under(root, *parts)
    except HardStop:
        return
    assert Path(os.path.realpath(found)).is_relative_to(os.path.realpath(root))


CELL = st.text(st.characters(codec="utf-8"), max_size=30) | st.sampled_from(
    [
        "=cmd|'/c calc'!A1",
        "+1",
        "-1",
        "@SUM(A1)",
        'a"b',
        "a,b",
        "a\r\nb",
        "a\nb",
        '"',
        "'",
        "\ufeff",
        "\u2028",
        "PASS",
        "pass",
        "ÅÄÖ",
        "缺件",
        "\0",
    ]
)


@QUICK
@given(
    rows=st.lists(
        st.fixed_dictionaries({"label": CELL, "object_name": CELL, "boardname": CELL, "input_path": CELL}), min_size=1, max_size=4
    )
)
def test_a_table_is_refused_or_comes_back_as_it_went_in(tmp_path: Path, rows: list[dict[str, str]]) -> None:
    try:
        path = table(tmp_path, [row(**cells) for cells in rows])
    except (UnicodeEncodeError, csv.Error):
        return
    try:
        frame = read_changenet_csv(path, what="training set")
    except HardStop as error:
        assert all(len(line) < 400 and line.isprintable() for line in error.render().split("\n"))
        return
    assert len(frame) == len(rows)
    copy = tmp_path / "copy.csv"
    write_changenet_csv(frame, copy)
    again = read_changenet_csv(copy, what="training set")
    for name in ("label", "object_name", "boardname", "input_path"):
        assert frame[name].tolist() == [r[name] for r in rows] == again[name].tolist()


@QUICK
@given(
    stems=st.lists(
        st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=20),
        min_size=1,
        max_size=3,
        unique=True,
    )
)
@example(stems=["a,b"])
@example(stems=["a\nkpi,kpi,PASS,injected_row"])
@example(stems=['"', "=1+1"])
def test_file_names_are_refused_or_give_one_row_a_pair(tmp_path_factory, stems: list[str]) -> None:
    root = tmp_path_factory.mktemp("names")
    try:
        workspace = pregen(root, *stems)
    except OSError:
        return
    try:
        staged = stage_all(workspace)
    except HardStop as error:
        assert all(c.isprintable() or c == "\n" for c in error.render())
        return
    count = len(scan(workspace, ("L",), ".png", decode=False).pairs)
    again = read_changenet_csv(root / "out" / "sdg_rows.csv", what="staged rows")
    assert len(staged.rows) == len(again) == count
    assert set(again["label"]) <= {normalize_label(label) for label in again["label"]}


BAD_YAML = {
    "a tag that runs": "a: !!python/object/apply:os.system ['touch PWNED']",
    "a tag that imports": "a: !!python/name:os.system",
    "an object": "!!python/object/new:os.system ['touch PWNED']",
    "an unknown tag": "a: !evil b",
    "aliases": "a: &x [1]\nb: *x",
    "a bomb of aliases": "a: &a [x,x]\n"
    + "\n".join(f"{chr(98 + i)}: &{chr(98 + i)} [*{chr(97 + i)},*{chr(97 + i)}]" for i in range(20)),
    "a secret of the environment": "a: {b: ['${oc.env:HF_TOKEN}']}",
    "a resolver named by another key": "x: env\na: ${oc.${x}:HF_TOKEN}",
    "a nested resolver": "a: x${oc.decode:${oc.env:HF_TOKEN}}",
    "a merge key": "a: &x {b: 1}\nc:\n  <<: *x",
    "a key twice": "a: 1\na: 2",
    "a key twice, deep": "a:\n  b: 1\n  b: 2",
    "a list as key": "? [1]\n: 2",
    "two documents": "a: 1\n---\nb: 2",
    "too deep": "a: " + "[" * 40 + "]" * 40,
    "far too deep": "[" * 5000,
    "not text": "\x00",
    "half": "a: [1, 2",
}


@pytest.mark.parametrize("name", BAD_YAML)
def test_a_spec_that_is_more_than_values_is_refused(tmp_path: Path, monkeypatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "s.yaml").write_text(BAD_YAML[name])
    with pytest.raises(HardStop):
        specs.load_spec(tmp_path / "s.yaml")
    assert not (tmp_path / "PWNED").exists()
    if "\n" not in BAD_YAML[name] and name.startswith(("a tag", "an unknown")):
        with pytest.raises(HardStop):
            specs.apply_overrides({}, ["a.b=" + BAD_YAML[name].removeprefix("a: ")])


def test_an_override_cannot_ask_for_the_environment() -> None:
    for value in ("${oc.env:HF_TOKEN}", "{a: ['${oc.env:HF_TOKEN}']}", "${oc.${x}:HF_TOKEN}"):
        with pytest.raises(HardStop, match="outside"):
            specs.apply_overrides({}, [f"train.x={value}"])
    assert specs.apply_overrides({}, ["a.b=${results_dir}/x"]) == {"a": {"b": "${results_dir}/x"}}


def test_a_spec_of_ten_megabytes_is_refused_before_it_is_parsed(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text("a: " + "x" * (10 << 20))
    with pytest.raises(HardStop, match="too large"):
        specs.load_spec(tmp_path / "s.yaml")


@QUICK
@given(
    value=st.text(max_size=40)
    | st.sampled_from(["m\nbatch_size: 9\nextra: injected", "!!python/name:os.system", "*x", "&a b", "# c", "yes", "0E0", "1e-4"])
)
def test_a_value_stays_one_value(tmp_path: Path, value: str) -> None:
    path = tmp_path / "out.yaml"
    specs.dump_spec({"model_path": value, "batch_size": 4}, path)
    try:
        assert specs.load_spec(path) == {"model_path": value, "batch_size": 4}
    except HardStop:
        assert any(not c.isprintable() for c in value)


@QUICK
@given(text=st.text(max_size=400))
def test_shown_text_is_one_bounded_quoted_line(text: str) -> None:
    shown, plain = quoted(text), printable(text, 80)
    assert len(plain) <= 80
    assert shown.startswith('"')
    assert json.loads(shown) == plain
    assert shown.isprintable()
    assert "\n" not in plain


FUZZED = {
    "CSV": (
        b"input_path,golden_path,label,object_name\na,g,PASS,C1\na,g,bridge,C2\n",
        lambda p: read_changenet_csv(p, what="pool"),
    ),
    "YAML": (b"model:\n  backbone: {type: embedded_siamese}\ndataset: {classify: {input_map: {L: 0}}}\n", specs.load_spec),
    "defect_spec": (
        b'{"defect_type": "bridge", "stems": ["a"], "count": 1}\n{"defect_type": "open", "stem_prefix": "b"}\n',
        read_defect_spec,
    ),
}


@pytest.mark.parametrize("kind", FUZZED)
@settings(max_examples=150, deadline=2000, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(data=st.data())
def test_changed_bytes_give_a_typed_error_or_a_value(tmp_path: Path, kind: str, data: st.DataObject) -> None:
    seed, read = FUZZED[kind]
    body = bytearray(seed)
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(body)))
        body[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=4))
    path = tmp_path / "fuzzed"
    path.write_bytes(bytes(body))
    try:
        read(path)
        return
    except DeftError as error:
        said = error
    assert said.exit_code in (3, 4)
    assert all(len(line) < 500 for line in said.render().split("\n"))


def test_a_cell_of_many_kilobytes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(HardStop, match="too long"):
        read_changenet_csv(table(tmp_path, [row(boardname="x" * 5000)]), what="pool")
