"""A real browser opens the report: no error, no request, no overlap, no sideways scrolling; light, dark, print, phone."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.report.conftest import make_run  # noqa: F401  # the fixture
from tests.report.hostile import PAYLOADS, poison

from deft_aoi.report.render import render_report

sync_api = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
ARGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
VIEWS = {
    "light": (1280, "light", "screen"),
    "dark": (1280, "dark", "screen"),
    "print": (900, "light", "print"),
    "phone": (390, "light", "screen"),
}

LAYOUT = Path(__file__).with_name("report_layout.js").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Debian's Chromium."""
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine")
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGS)
        yield started
        started.close()


class Opened:
    """A page and everything that it said or asked for."""

    def __init__(self, browser: Any, path: Path, view: str) -> None:
        width, scheme, media = VIEWS[view]
        self.context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        self.page = self.context.new_page()
        self.noise: list[str] = []
        self.page.on("console", lambda m: self.noise.append(m.text))
        self.page.on("pageerror", lambda e: self.noise.append(str(e)))
        self.page.on("dialog", lambda d: (self.noise.append(f"dialog {d.message}"), d.dismiss()))
        self.page.on(
            "request", lambda r: None if r.url.startswith((path.as_uri(), "data:image/jpeg")) else self.noise.append(r.url)
        )
        self.page.emulate_media(media=media)
        self.page.goto(path.as_uri())

    def ask(self, script: str) -> Any:
        return self.page.evaluate(script)


@pytest.mark.parametrize("view", list(VIEWS))
@pytest.mark.parametrize("kind", ["finished", "running", "hard_stop"])
def test_page_is_quiet_and_well_laid_out(browser: Any, make_run: Any, tmp_path: Path, kind: str, view: str) -> None:  # noqa: F811
    opened = Opened(browser, render_report(make_run(kind).root), view)
    assert opened.noise == []
    width = VIEWS[view][0]
    assert opened.ask("document.documentElement.scrollWidth") <= width
    found = opened.ask(LAYOUT)
    assert found["text"] == []
    assert found["blocks"] == []
    assert found["contrast"] == []
    assert found["charts"] == found["chartsWithTable"] > 0
    shot = opened.page.screenshot(path=str(tmp_path / f"{kind}_{view}.png"), full_page=True)
    assert len(shot) > 20_000
    assert opened.ask("[...document.images].every(i => i.complete && i.naturalWidth > 0)")
    opened.context.close()


def test_keyboard_reaches_verdict_navigation_and_tables(browser: Any, make_run: Any) -> None:  # noqa: F811
    opened = Opened(browser, render_report(make_run("finished").root), "light")
    seen = []
    for _ in range(60):
        opened.page.keyboard.press("Tab")
        seen.append(
            opened.ask("document.activeElement.tagName + ' ' + (document.activeElement.getAttribute('href') || '')").strip()
        )
    assert seen[0] == "A #verdict"
    assert "SUMMARY" in seen
    assert "DIV" in seen, "a table that scrolls must be reachable"
    opened.page.locator("summary").first.focus()
    opened.page.keyboard.press("Enter")
    assert opened.ask("document.querySelector('details').open")
    opened.context.close()


def test_hostile_values_run_nothing_and_ask_for_nothing(browser: Any, make_run: Any) -> None:  # noqa: F811
    run = make_run("running", 1)
    for start in range(0, len(PAYLOADS), 60):
        poison(run, PAYLOADS[start : start + 60])
        opened = Opened(browser, render_report(run.root), "light")
        opened.page.wait_for_timeout(50)
        assert opened.noise == []
        assert opened.ask("window.__pwned === undefined && document.scripts.length === 0")
        assert opened.ask("document.documentElement.scrollWidth") <= 1280
        opened.context.close()
