"""Runs to report on: finished, running, hard-stopped, failed."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.report.run_maker import RunMaker

from deft_aoi.record import log

Make = Callable[..., RunMaker]


@pytest.fixture
def make_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    """``make_run(kind)``: a run folder; its clock ticks one second an event, from a fixed moment."""
    now = [1_767_225_600.0]
    monkeypatch.setattr(time, "time", lambda: now[0])
    append = log.append

    def tick_and_append(*args: object, **kwargs: object) -> object:
        now[0] += 1  # an event, not a look at the clock: an import may look at it too
        return append(*args, **kwargs)

    monkeypatch.setattr(log, "append", tick_and_append)

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
