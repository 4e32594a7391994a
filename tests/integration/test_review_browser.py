"""A real browser, keys and mouse: parts are judged on the review page and labels.csv is saved; also with 2,000 parts."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.integration.test_report_browser import Opened, browser  # noqa: F401  # the fixture
from tests.report.test_review_page import page, part

from deft_aoi.report.review_page import Part

pytestmark = pytest.mark.integration
CHOICES = ("PASS", "missing", "other defect")


def opened(browser: Any, folder: Path) -> Opened:  # noqa: F811
    return Opened(browser, folder / "review.html", "light")


def saved(on: Opened, folder: Path, act: Any) -> list[dict[str, str]]:
    with on.page.expect_download() as waiting:
        act()
    waiting.value.save_as(folder / "labels.csv")
    assert waiting.value.suggested_filename == "labels.csv"
    with (folder / "labels.csv").open(encoding="utf-8", newline="") as handle:
        return list(csv.DictReader(handle))


@pytest.fixture
def three(tmp_path: Path) -> Path:
    page(tmp_path, [part(tmp_path, f"b1/R{i}") for i in range(3)], CHOICES)
    return tmp_path


def test_parts_are_judged_by_keys_alone(browser: Any, three: Path) -> None:  # noqa: F811
    on = opened(browser, three)
    keys = on.page.keyboard
    assert "1 of 3, 0 judged" in on.page.inner_text("#title")
    keys.press("2")
    keys.press("1")
    assert "3 of 3, 2 judged" in on.page.inner_text("#title")
    keys.press("u")
    assert "2 of 3, 1 judged" in on.page.inner_text("#title")
    keys.press("3")
    keys.press("ArrowLeft")
    assert on.page.get_attribute("#labels [value='other defect']", "aria-pressed") == "true"
    keys.press("+")
    keys.press("+")
    assert on.ask("document.querySelector('#test img').style.transform") == "scale(4)"
    keys.press("n")
    assert "3 of 3" in on.page.inner_text("#title")
    keys.press("s")
    assert on.ask("document.activeElement.id") == "by", "a name is asked for before anything is saved"
    keys.type("Ana 12")
    assert "2 judged" in on.page.inner_text("#title"), "digits of a name are no labels"
    keys.press("Tab")
    rows = saved(on, three, lambda: keys.press("s"))
    assert [(r["part"], r["label"], r["by"]) for r in rows] == [
        ("p0001", "missing", "Ana 12"),
        ("p0002", "other defect", "Ana 12"),
    ]
    assert on.noise == []
    on.context.close()


def test_parts_are_judged_by_mouse_and_stay_after_a_reload(browser: Any, three: Path) -> None:  # noqa: F811
    on = opened(browser, three)
    click = on.page.click
    click("#labels [value='missing']")
    click("#next")
    click("#back")
    click("#undo")
    assert "0 judged" in on.page.inner_text("#title")
    click("#labels [value='PASS']")
    on.page.click("#golden", position={"x": 10, "y": 10})
    assert on.ask("document.querySelector('#golden img').style.transform") == "scale(2)"
    on.page.fill("#by", "Ben")
    click("#save")
    on.page.reload()
    assert "2 of 3, 1 judged" in on.page.inner_text("#title")
    assert [r["label"] for r in saved(on, three, lambda: click("#save"))] == ["PASS"]
    assert on.ask("document.documentElement.scrollWidth") <= 1280
    assert on.noise == []
    on.context.close()


def test_difference_of_equal_pictures_is_black(browser: Any, tmp_path: Path) -> None:  # noqa: F811
    one = part(tmp_path)
    page(tmp_path, [Part("same", "", one.tests, one.tests), Part("other", "", one.tests, one.goldens)])
    on = opened(browser, tmp_path)
    seen = []
    for _ in range(2):
        on.page.wait_for_function("[...document.images].every(i => i.complete && i.naturalWidth > 0)")
        shot = tmp_path / "difference.png"
        on.page.locator("#difference").screenshot(path=str(shot))
        seen.append(np.asarray(Image.open(shot).convert("L"), dtype=float).mean())
        on.page.keyboard.press("ArrowRight")
    assert seen[0] < 1 < seen[1]
    on.context.close()


def test_two_thousand_parts_open_and_are_saved(browser: Any, tmp_path: Path) -> None:  # noqa: F811
    one = part(tmp_path, side=96)
    page(tmp_path, [one] * 2_000, CHOICES)
    assert (tmp_path / "review.html").stat().st_size < 30_000_000
    on = opened(browser, tmp_path)
    on.page.fill("#by", "Ana")
    on.page.locator("#by").blur()
    for _ in range(20):
        on.page.keyboard.press("1")
    on.page.evaluate("for (let i = 20; i < 2000; i++) { judge('missing'); }")
    assert "Every part has a label" in on.page.inner_text("#said")
    rows = saved(on, tmp_path, lambda: on.page.keyboard.press("s"))
    assert [r["label"] for r in rows].count("missing") == 1_980
    assert len(rows) == 2_000
    assert on.noise == []
    on.context.close()
