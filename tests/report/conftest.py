"""Runs to report on: finished, running, hard-stopped, failed."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.report.run_maker import RunMaker

Make = Callable[..., RunMaker]


@pytest.fixture
def make_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    """``make_run(kind)``: a run folder; its clock ticks one second an event, from a fixed moment."""
    ticks = iter(range(1_767_225_600, 1_767_325_600))
    monkeypatch.setattr(time, "time", lambda: float(next(ticks)))

    def make(kind: str = "finished", iterations: int = 2, **options: object) -> RunMaker:
        run = RunMaker(tmp_path / kind, **options).begin()
        if kind == "empty":
            return run
        run.baseline()
        if kind == "hard_stop":
            return run.fail("iter1", "routing", "iter1 routing: the pool's CSV lost 3 rows").stop("hard_stop")
        if kind == "failed":
            return run.fail("iter1", "routing", "iter1 routing: no space left")
        for number in range(1, iterations + 1):
            run.iterate(number)
        if kind == "finished":
            run.stop("max_iterations").holdout()
        return run

    return make
