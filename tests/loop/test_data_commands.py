"""The preview before a workspace is written, and the page of the data check."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from PIL import Image

from deft_aoi.contract.errors import Canceled
from deft_aoi.loop import data_commands
from tests.workspaces.test_own_workspace import make_folders

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))
import check_data
import make_workspace


def make(root: Path, *argv: str) -> tuple[str, dict]:
    test, golden = (root / "in/test", root / "in/golden") if (root / "in").exists() else make_folders(root / "in")
    arguments = ["--test", str(test), "--golden", str(golden), "--pass-label", "OK", "--output", str(root / "ws"), *argv]
    return data_commands.make_from(make_workspace.build_parser().parse_args(arguments))


class Terminal:
    """A terminal at which a person types."""

    def __init__(self, typed: str = "") -> None:
        self.typed = typed

    def isatty(self) -> bool:
        return True

    def readline(self) -> str:
        return self.typed

    def write(self, text: str) -> int:
        return len(text)

    def flush(self) -> None: ...


def test_the_preview_shows_counts_and_ten_pairs_and_writes_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    make_folders(tmp_path / "in")
    (tmp_path / "in/test/OK/B000/Thumbs.db").write_bytes(b"x")
    text, _ = make(tmp_path, "--preview", str(tmp_path / "page.html"))
    page = (tmp_path / "page.html").read_text()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in", "page.html"]
    assert "page.html" in text
    assert page.count('<img src="data:image/jpeg') == 20
    for shown in ("PASS", "bridge", "missing", "B019", "one image a part", ".db", "80 parts of 20 boards"):
        assert shown in page


def test_at_a_terminal_the_answer_decides_and_yes_does_not_ask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setattr(sys, "stdin", Terminal("no\n"))
    with pytest.raises(Canceled):
        make(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in", "ws-preview.html"]
    make(tmp_path, "--yes")
    monkeypatch.setattr(sys, "stdin", Terminal("yes\n"))
    make(tmp_path, "--output", str(tmp_path / "ws2"))
    assert all((tmp_path / name / "kpi/testing_set.csv").is_file() for name in ("ws", "ws2"))


def test_the_check_shows_near_duplicates_suspect_labels_and_damaged_images(tmp_path: Path) -> None:
    make(tmp_path)
    train = sorted((tmp_path / "ws/kpi/images").glob("B*/PerComponent/R0.png"))
    rows = (tmp_path / "ws/train/base/training_set.csv").read_text()
    judged = (tmp_path / "ws/kpi/testing_set.csv").read_text()
    (first, second, *_) = [p for p in train if p.parent.parent.name in rows]
    (kpi, *_) = [p for p in train if p.parent.parent.name in judged]
    Image.open(kpi).transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(first)
    second.write_bytes(b"not an image")
    arguments = ["--workspace", str(tmp_path / "ws"), "--html", str(tmp_path / "check.html")]
    text, data, code = data_commands.check_from(check_data.build_parser().parse_args(arguments))
    page = (tmp_path / "check.html").read_text()
    assert code == 3
    assert {"near_duplicate", "image_undecodable", "suspect_label"} <= {f["rule"] for f in data["findings"]}
    for shown in ("Near-duplicates", "Suspect labels", "Damaged images", "(cannot be shown)"):
        assert shown in page
    assert page.count("<img") > 10
