"""Labels whose name means a good part: none of them is a defect without the user's word."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from deft_aoi.contract.text import PASS, folded_label, means_good
from deft_aoi.workspaces.builder import REPORT_NAME

MAX_REPORT_BYTES = 4 << 20


def good_as_defect(labels: Iterable[str], defect_labels: Sequence[str]) -> list[tuple[str, int]]:
    """Labels other than ``PASS`` that mean a good part, with their rows; those the user named are left out."""
    allowed = {folded_label(label) for label in defect_labels}
    counts = Counter(label for label in labels if label != PASS)
    return [(label, count) for label, count in counts.items() if means_good(label) and folded_label(label) not in allowed]


def named_defects(workspace: Path, said: Sequence[str] = ()) -> list[str]:
    """What the user called a defect: on this command line, or when ``make_workspace.py`` made the workspace."""
    try:
        with (workspace / REPORT_NAME).open("rb") as file:
            kept = json.loads(file.read(MAX_REPORT_BYTES))["parameters"]["defect_labels"]
    except (OSError, ValueError, KeyError, TypeError):
        kept = []
    return [*said, *(label for label in kept if isinstance(label, str))] if isinstance(kept, list) else [*said]
