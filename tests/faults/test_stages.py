"""Death at a few fault points of each stage of a real loop; ``run.py`` does hundreds, and whole loops (``make faults``)."""

from __future__ import annotations

import math
from pathlib import Path

import fault_stages
from rig import Budget


def test_a_killed_stage_is_continued_to_the_same_run(tmp_path: Path) -> None:
    row = fault_stages.stages(tmp_path, Budget(math.inf), short=True)  # it ends at its twelve cases
    assert row.met, row.text()
