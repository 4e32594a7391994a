"""Whoever is stopped by data is told what to do about it: every hard stop of these rooms names a remedy."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

LIBRARY = Path(__file__).resolve().parents[2] / "scripts" / "deft_aoi"
ROOMS = ("analysis", "contract", "mining", "workspaces", "loop/checks")
CODE_ONLY = {"errors"}
"""Defines the errors and raises none."""
FILES = [f for room in ROOMS for f in sorted((LIBRARY / room).glob("*.py")) if "HardStop(" in f.read_text(encoding="utf-8")]


def test_every_room_that_reads_data_is_looked_at() -> None:
    assert len(FILES) > 40
    assert {f.parent.relative_to(LIBRARY).as_posix() for f in FILES} == set(ROOMS)


@pytest.mark.parametrize("file", [f for f in FILES if f.stem not in CODE_ONLY], ids=lambda f: f.stem)
def test_every_hard_stop_on_data_names_its_remedy(file: Path) -> None:
    calls = [n for n in ast.walk(ast.parse(file.read_text(encoding="utf-8"))) if isinstance(n, ast.Call)]
    stops = [n for n in calls if getattr(n.func, "id", "") in ("HardStop", "Finding")]
    assert stops, "nothing was looked at"
    for stop in stops:
        named = any(k.arg == "hint" for k in stop.keywords) or len(stop.args) >= 5  # a Finding's fifth value
        assert named, f"{file.name}:{stop.lineno} says what is wrong and not what to do"
