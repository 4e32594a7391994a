"""Death at a few fault points of each stage of a real loop; ``run.py`` does hundreds, and whole loops (``make faults``)."""

from __future__ import annotations

from pathlib import Path

import fault_stages
from rig import Budget


def test_a_killed_stage_is_continued_to_the_same_run(tmp_path: Path) -> None:
    # It ends at its twelve cases, some 30 s; the budget only ends a hang (at load 25 on two processors 240 s were five cases).
    row = fault_stages.stages(tmp_path, Budget(900), short=True)
    assert row.met, row.text()
