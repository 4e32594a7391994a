"""The review page as a file: bounded, closed, and tied to the files that it shows."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deft_aoi.contract.errors import HardStop
from deft_aoi.contract.schema import read_checked
from deft_aoi.report import review_page
from deft_aoi.report.review_page import Part, write_page

SOURCE = {"run": "run_x", "iteration": "iter1", "checkpoint_sha256": "0" * 64, "threshold": 0.5}


def page(folder: Path, parts: list[Part], choices: tuple[str, ...] = ("PASS", "missing")) -> dict:
    return write_page(folder, parts, choices, kind="boards", title="run_x", source=SOURCE)


def part(folder: Path, name: str = "b1/R1", side: int = 48) -> Part:
    """Two lights of noise: the worst that a JPEG can be given."""
    paths = []
    for at in range(4):
        path = folder / f"{name.replace('/', '-')}-{at}.png"
        Image.fromarray(np.random.default_rng(at).integers(0, 256, (side, side, 3), dtype=np.uint8)).save(path)
        paths.append(str(path))
    return Part(name, "flagged", tuple(paths[:2]), tuple(paths[2:]), (), "", 0.7)


def data_of(folder: Path) -> dict:
    text = (folder / "review.html").read_text(encoding="utf-8")
    return json.loads(re.search(r'id="data">(.*?)</script>', text, re.S).group(1))


def test_page_and_its_list_belong_together(tmp_path: Path) -> None:
    first = part(tmp_path)
    assert page(tmp_path, [first])["parts"] == 1
    listed, shown = read_checked(tmp_path / "review.json", "review"), data_of(tmp_path)
    assert listed["page"] == shown["page"]
    assert [p["id"] for p in shown["parts"]] == [p["id"] for p in listed["parts"]] == ["p0001"]
    assert listed["parts"][0]["tests"][1]["sha256"] == hashlib.sha256(Path(first.tests[1]).read_bytes()).hexdigest()
    picture = Image.open(io.BytesIO(base64.b64decode(shown["parts"][0]["test"])))
    assert picture.size == (96, 48), "both lights side by side"
    Path(first.tests[0]).write_bytes(Path(first.tests[1]).read_bytes())
    page(tmp_path, [first])
    assert data_of(tmp_path)["page"] != listed["page"], "other pixels, another page"


def test_registered_golden_is_shown_and_the_users_own_is_listed(tmp_path: Path) -> None:
    own, other = part(tmp_path), part(tmp_path, "b2/R2", 32)
    page(tmp_path, [Part(own.name, "", own.tests, own.goldens, other.goldens)])
    assert Image.open(io.BytesIO(base64.b64decode(data_of(tmp_path)["parts"][0]["golden"]))).size == (64, 32)
    assert read_checked(tmp_path / "review.json", "review")["parts"][0]["goldens"][0]["path"] == own.goldens[0]


def test_nothing_can_be_added_to_the_page_by_a_name(tmp_path: Path) -> None:
    bad = part(tmp_path)
    page(tmp_path, [Part("</script><script>alert(1)</script>", "\u202egnp.exe", bad.tests, bad.goldens)])
    text = (tmp_path / "review.html").read_text(encoding="utf-8")
    assert text.count("</script>") == 2
    assert "\u202e" not in text
    script = re.search(r"<script>(.*?)</script>", text, re.S).group(1)
    assert base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() in text, "the policy allows this script alone"
    assert not re.search(r"https?://", text)


def test_size_of_a_page_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(review_page, "TOTAL_BYTES", 40_000)
    monkeypatch.setattr(review_page, "MAX_PARTS", 10)
    big = part(tmp_path, side=400)
    found = page(tmp_path, [big] * 12)
    assert (found["parts"], found["left_out"]) == (10, 2)
    pictures = [p[side] for p in data_of(tmp_path)["parts"] for side in ("test", "golden")]
    assert sum(len(base64.b64decode(p)) for p in pictures) <= 40_000


@pytest.mark.parametrize(("parts", "choices"), [(0, 2), (1, 0), (1, 10)])
def test_page_without_parts_or_answers_is_refused(tmp_path: Path, parts: int, choices: int) -> None:
    with pytest.raises(HardStop, match="no page to make"):
        page(tmp_path, [part(tmp_path)] * parts, tuple(f"d{i}" for i in range(choices)))
    assert not list(tmp_path.glob("review.*"))
