"""Three weeks on a small rendered line: boards arrive, a browser judges, a challenger wins once and is refused once."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from tests.integration.test_report_browser import Opened, browser  # noqa: F401  # the fixture
from tests.integration.test_review_browser import saved
from tests.loop.conftest import deft

pytestmark = pytest.mark.integration
TARGET = ("--kpi-target", "FAR < 0.0001% at recall=100%", "--max-iterations", 1, "--registration", "off", "--yes")


def ok(script: str, *args: object) -> str:
    said = deft(script, *args, timeout=1800)
    assert said.code == 0, said.out + said.err
    return said.out


def newest(workspace: Path) -> Path:
    return sorted((workspace / "results").glob("run_*"))[-1]


def best(run: Path) -> dict[str, Any]:
    return json.loads((run / "best_model.json").read_text())


def judged(browser: Any, run: Path, boards: Path, out: Path) -> int:  # noqa: F811
    """Score the boards of another line's pool, judge the first part by a key and the second by mouse; the pool's new rows."""
    ok("infer", "--model", run, "--csv", boards / "mining_pool.csv", "--images", boards, "--output", out)
    on = Opened(browser, out / "review.html", "light")
    on.page.fill("#by", "Ana")
    on.page.locator("#by").blur()
    on.page.keyboard.press("1")
    if on.ask("parts.length") > 1:
        on.page.click("#labels [value='other defect']")
    rows = saved(on, out, lambda: on.page.keyboard.press("s"))
    on.context.close()
    said = ok(
        "import_review",
        out / "labels.csv",
        *("--review", out / "review.json", "--workspace", run.parents[1], "--leave-out-leaks"),
    )
    assert f" of {len(rows)} judged parts appended" in said
    return int(said.split()[0])


def test_three_weeks(browser: Any, tmp_path: Path) -> None:  # noqa: F811
    line, other = tmp_path / "line", tmp_path / "other"
    ok("make_demo_workspace", "--output", line, "--scale", "small", "--seed", 3)
    ok("make_demo_workspace", "--output", other, "--scale", "small", "--seed", 11)
    pool = line / "augmentation/mining_pool/mining_pool.csv"
    rows = [len(pd.read_csv(pool))]

    ok("run_loop", "--workspace", line, *TARGET, "--training-epochs", 1)
    first = newest(line)
    appended = judged(browser, first, other / "augmentation/mining_pool", tmp_path / "week1")
    rows.append(len(pd.read_csv(pool)))
    assert rows[1] == rows[0] + appended > rows[0]

    ok("run_loop", "--workspace", line, "--continue-from", first, *TARGET, "--training-epochs", 12)
    second = newest(line)
    assert best(second)["history"][-1]["outcome"] == "challenger handed over"
    judged(browser, second, other / "augmentation/mining_pool", tmp_path / "week2")

    still = ("--set", "train.optim.lr=1e-12")  # a challenger that learns nothing is not better
    ok("run_loop", "--workspace", line, "--continue-from", second, *TARGET, "--training-epochs", 1, *still)
    third = newest(line)
    champion = best(third)["champion"]
    assert champion["stays"]
    assert champion["refused"][0]["iteration"] == "iter1"
    assert best(third)["checkpoint"]["sha256"] == best(second)["checkpoint"]["sha256"]
    assert [week["run"] for week in best(third)["history"]] == [first.name, second.name, third.name]
    said = ok("compare_runs", third)
    assert "champion stays" in said
    assert "challenger handed over" in said
    for run in (first, second, third):
        assert "everything holds" in ok("verify_run", "--results-dir", run)
    shutil.rmtree(other)
