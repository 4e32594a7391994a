"""A run's folder, and the order of stages in one place for the tests of the record."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from deft_aoi.record import log

Append = Callable[..., log.Ack]


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    folder = tmp_path / "ws" / "results" / "run_20260101_120000"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def append(run_dir: Path) -> Append:
    """``append("baseline", "train")``: an ``ok`` event with the usual key."""

    def call(label: str, stage: str, status: str = "ok", **kwargs: Any) -> log.Ack:
        values: dict[str, Any] = {"summary": f"{label} {stage}", "op_id": None, "duration_sec": 1.0, **kwargs}
        if stage == "loop_stop":
            values.setdefault("data", {"reason": "kpi_met"})
        return log.append(run_dir, iter_label=label, stage=stage, status=status, **values)

    return call


@pytest.fixture
def begun(append: Append) -> Append:
    """A run with its first three events on record."""
    append("run", "approve", data={"config": {"max_iterations": 2}, "plan_digest": "d" * 64})
    append("run", "assets")
    append("run", "prestage")
    return append
