"""Names, labels, paths, CSVs, specs and targets: what is let in, and what is refused with its place."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deft_aoi.contract import files, manifests
from deft_aoi.contract import spec as specs
from deft_aoi.contract.changenet_csv import ImageLayout, read_changenet_csv, write_changenet_csv
from deft_aoi.contract.errors import Blocked, HardStop, UsageError
from deft_aoi.contract.files import atomic_write_text, copy_hashed, sha256_bytes, sha256_file
from deft_aoi.contract.kpi_target import parse_kpi_target
from deft_aoi.contract.manifests import verify_manifest, write_manifest
from deft_aoi.contract.paths import resolve_under
from deft_aoi.contract.text import check_name, normalize_label, printable, quoted

HEADER = "input_path,golden_path,label,object_name\n"


@pytest.mark.parametrize(
    ("raw", "want"),
    [("PASS", "PASS"), ("Missing", "missing"), (" Bridge+2 ", "bridge+2"), ("缺件", "缺件"), ("Lo\u0308tbrücke", "lötbrücke")],
)
def test_labels_are_canonical(raw: str, want: str) -> None:
    assert normalize_label(raw) == want


@pytest.mark.parametrize("raw", ["pass", " PASS", "Pass", "", "  ", "a" * 65, "x<script>", "a\nb", "-dash", "a,b", "=1+1"])
def test_labels_that_would_train_wrongly_or_do_harm_are_refused(raw: str) -> None:
    with pytest.raises(HardStop):
        normalize_label(raw)


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a\\b", "a\0b", "x" * 129, "a:b", " a", "a\n"])
def test_names_with_separators_are_refused(name: str) -> None:
    with pytest.raises(HardStop):
        check_name(name)


@given(st.text(max_size=300))
def test_safe_text_is_one_quoted_bounded_line(text: str) -> None:
    shown = quoted(text)
    assert shown.startswith('"')
    assert shown.endswith('"')
    assert len(printable(text)) <= 80
    assert not any(ord(c) < 32 or c in "\u202e\u200b\u2066\x7f\x9b" for c in shown)


@pytest.mark.parametrize(
    ("text", "far", "recall", "op"),
    [
        ("FAR < 0.1% at recall=100%", 0.001, 1.0, "<"),
        ("FAR<=1% at recall>=99.5%", 0.01, 0.995, "<="),
        ("far < 5 % @ recall = 98 %", 0.05, 0.98, "<"),
    ],
)
def test_kpi_targets_are_read(text: str, far: float, recall: float, op: str) -> None:
    target = parse_kpi_target(text)
    assert (target.far_fraction, target.recall_fraction, target.far_op) == (pytest.approx(far), pytest.approx(recall), op)
    assert parse_kpi_target(target.text) == target


@pytest.mark.parametrize("text", ["", "FAR > 1% at recall=100%", "FAR < 0% at recall=100%", "FAR < 1% at recall=101%", "1%"])
def test_kpi_targets_that_mean_nothing_are_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_kpi_target(text)


def test_strict_is_strict() -> None:
    assert not parse_kpi_target("FAR < 1% at recall=100%").is_met(0.01)
    assert parse_kpi_target("FAR <= 1% at recall=100%").is_met(0.01)


def _csv(folder: Path, body: str, header: str = HEADER) -> Path:
    path = folder / "set.csv"
    path.write_text(header + body, encoding="utf-8")
    return path


def test_leading_zeros_and_empty_cells_survive(tmp_path: Path) -> None:
    path = _csv(tmp_path, "a,g,PASS,001,00041138,\n", HEADER.strip() + ",boardname,extra\n")
    frame = read_changenet_csv(path, what="training set")
    assert frame.iloc[0].tolist() == ["a", "g", "PASS", "001", "00041138", ""]
    write_changenet_csv(frame, tmp_path / "out.csv")
    again = read_changenet_csv(tmp_path / "out.csv", what="copy")
    assert again[["object_name", "boardname", "extra"]].iloc[0].tolist() == ["001", "00041138", ""]


@pytest.mark.parametrize(
    ("body", "header", "named"),
    [
        ("a,g,PASS,x\n", "input_path,golden_path,label\n", "object_name"),
        ("", HEADER, "no rows"),
        ("a,g,pass,x\n", HEADER, "line 2, column label"),
        ("a,g,PASS,x\nb,g,NG,y,extra\n", HEADER, "well-formed"),
        ("a,g,PASS,x\n../b,g,NG,y\n", HEADER, "line 3, column input_path"),
        ("a,/etc,PASS,x\n", HEADER, "line 2, column golden_path"),
        ("a,g,PASS,x/y\n", HEADER, "line 2, column object_name"),
        ("a,g,PASS,x\n", "input_path,label,label,object_name\n", "duplicate"),
    ],
)
def test_bad_rows_are_refused_with_their_place(tmp_path: Path, body: str, header: str, named: str) -> None:
    with pytest.raises(HardStop) as stop:
        read_changenet_csv(_csv(tmp_path, body, header), what="training set")
    assert named in stop.value.render()


def test_missing_image_is_named_with_line_column_and_path(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x_Top.png").write_bytes(b"")
    frame = read_changenet_csv(_csv(tmp_path, "a,g,PASS,x\n"), what="training set")
    with pytest.raises(HardStop) as stop:
        ImageLayout(tmp_path, ("Top",), ".png").require(frame, "the training set")
    assert "line 2, column golden_path" in stop.value.message
    assert "g/x_Top.png" in stop.value.expected


@given(st.lists(st.text(max_size=40), min_size=1, max_size=3))
def test_resolved_paths_stay_below_their_root(parts: list[str]) -> None:
    root = Path("/nonexistent/root")
    try:
        path = resolve_under(root, *parts)
    except HardStop:
        return
    assert os.path.normpath(path) == str(path) or str(path) == str(root)
    assert str(path) == str(root) or str(path).startswith(str(root) + "/")


def test_symbolic_links_on_the_way_are_refused(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with pytest.raises(HardStop, match="symbolic link"):
        resolve_under(tmp_path, "link", "x.png")


@pytest.mark.parametrize(
    "text",
    [
        "a: &x [1]\nb: *x\n",
        "a: 1\na: 2\n",
        "a: !!python/object/apply:os.system ['true']\n",
        "[1, 2]\n",
        "a: [1\n",
        "{" * 60,
    ],
)
def test_yaml_with_tricks_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(text)
    with pytest.raises(HardStop):
        specs.load_spec(path)


def test_newline_in_a_value_round_trips_as_one_scalar(tmp_path: Path) -> None:
    specs.dump_spec({"model": "m\nbatch_size: 999"}, tmp_path / "s.yaml")
    assert specs.load_spec(tmp_path / "s.yaml") == {"model": "m\nbatch_size: 999"}


def test_overrides_apply_over_a_copy() -> None:
    base = {"train": {"optim": {"lr": 0.1}}}
    assert specs.apply_overrides(base, ["train.optim.lr=1e-4", "train.seed=7"]) == {"train": {"optim": {"lr": 1e-4}, "seed": 7}}
    assert base == {"train": {"optim": {"lr": 0.1}}}
    with pytest.raises(HardStop):
        specs.apply_overrides(base, ["nonsense"])


def test_manifest_names_what_changed(tmp_path: Path) -> None:
    atomic_write_text(tmp_path / "a.txt", "one")
    atomic_write_text(tmp_path / "b.txt", "two")
    write_manifest(tmp_path, inputs_digest="x")
    assert verify_manifest(tmp_path) == []
    (tmp_path / "a.txt").write_text("ONE")
    (tmp_path / "b.txt").unlink()
    (tmp_path / "c.txt").write_text("new")
    assert sorted(verify_manifest(tmp_path)) == ["changed: a.txt", "missing: b.txt", "not in the manifest: c.txt"]


def test_copies_are_private_and_digested(tmp_path: Path) -> None:
    (tmp_path / "src").write_bytes(os.urandom(3_000_000))
    size, digest = copy_hashed(tmp_path / "src", tmp_path / "dst")
    assert (size, digest) == (3_000_000, sha256_file(tmp_path / "dst"))
    assert (tmp_path / "src").stat().st_ino != (tmp_path / "dst").stat().st_ino
    (tmp_path / "link").symlink_to(tmp_path / "src")
    with pytest.raises(HardStop):
        copy_hashed(tmp_path / "link", tmp_path / "dst2")
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(HardStop):
        copy_hashed(tmp_path / "fifo", tmp_path / "dst3")


def test_shared_extents_are_digested_as_the_copy_has_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file systems of CI share no extents, so the call that asks for it is answered here: it clones, as btrfs would."""
    source, target = tmp_path / "src", tmp_path / "dst"
    source.write_bytes(b"picture" * 1000)

    def ficlone(destination: int, request: int, origin: int) -> int:
        assert request == 0x40049409
        os.pwrite(destination, os.pread(origin, 1 << 20, 0), 0)
        source.write_bytes(b"changed at once")  # a reading of the source would see this
        return 0

    monkeypatch.setattr("fcntl.ioctl", ficlone)
    size, digest = copy_hashed(source, target)
    assert (size, digest) == (7000, sha256_bytes(b"picture" * 1000))
    assert target.read_bytes() == b"picture" * 1000
    assert target.stat().st_ino != source.stat().st_ino


def test_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import errno

    target = tmp_path / "f.txt"
    atomic_write_text(target, "old")

    def _full(*_args: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", _full)
    with pytest.raises(Blocked, match="no space"):
        atomic_write_text(target, "new")
    monkeypatch.undo()
    assert target.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["f.txt"]


def test_a_folder_that_cannot_be_read_is_an_error_not_an_empty_folder(tmp_path, monkeypatch):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.txt").write_text("a")
    assert manifests.list_files(tmp_path) == ["sub/a.txt"]
    assert manifests.list_files(tmp_path / "absent") == []
    real = os.scandir

    def scandir(path):
        if os.path.basename(path) == "sub":
            raise PermissionError(13, "Permission denied", path)
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    for reader in (manifests.list_files, files.fsync_tree):
        with pytest.raises(PermissionError):
            reader(tmp_path)
