"""A short version of every fault of the record; ``run.py`` runs them at length (``make faults``)."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import run
from rig import Budget

SHORT = {name: function for name, _share, function in run.record_faults(short=True)}


@pytest.mark.parametrize("name", SHORT)
def test_the_record_stands_the_fault(name: str, tmp_path: Path) -> None:
    row = SHORT[name](tmp_path, Budget(math.inf))
    if row.skipped:
        pytest.skip(row.skipped)
    assert row.met, row.text()


def test_a_missed_target_is_an_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert run.main(["--only", "kill", "--only", "flip", "--budget-sec", "0"]) == 1
    assert "MISSED" in capsys.readouterr().out
