"""The table of ``make faults`` in CI: every fault at length, with a fixed budget."""

from __future__ import annotations

import os

import pytest
import run

BUDGET_SEC = 1500.0


@pytest.mark.integration
@pytest.mark.skipif("DEFT_LONG_FAULTS" not in os.environ, reason="25 minutes: set DEFT_LONG_FAULTS=1, or run `make faults`")
def test_every_fault_reaches_its_target(capsys: pytest.CaptureFixture[str]) -> None:
    code = run.main(["--budget-sec", str(BUDGET_SEC)])
    table = capsys.readouterr().out
    with capsys.disabled():
        print(f"\n{table}")
    assert code == 0, table
