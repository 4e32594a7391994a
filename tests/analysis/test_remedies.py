"""Whoever is stopped by data is told what to do about it: every hard stop of these rooms names a remedy."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

LIBRARY = Path(__file__).resolve().parents[2] / "scripts" / "deft_aoi"
DATA = ["compare", "dataset", "dataset_rules", "gaps", "gaps_output", "kpi", "leakage", "score_table", "scored"]
FILES = [*(LIBRARY / "analysis" / f"{name}.py" for name in DATA), LIBRARY / "contract" / "changenet_csv.py"]


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.stem)
def test_every_hard_stop_on_data_names_its_remedy(file: Path) -> None:
    calls = [n for n in ast.walk(ast.parse(file.read_text(encoding="utf-8"))) if isinstance(n, ast.Call)]
    stops = [n for n in calls if getattr(n.func, "id", "") in ("HardStop", "Finding")]
    assert stops, "nothing was looked at"
    for stop in stops:
        named = any(k.arg == "hint" for k in stop.keywords) or len(stop.args) >= 5  # a Finding's fifth value
        assert named, f"{file.name}:{stop.lineno} says what is wrong and not what to do"
