"""The defect type of a pre-generated pair: from ``defect_spec.jsonl``, else from its stem, else ``ng``."""

from __future__ import annotations

import fnmatch
import json
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deft_aoi.contract.errors import HardStop
from deft_aoi.contract.safe_open import open_regular
from deft_aoi.contract.schema import validate
from deft_aoi.contract.text import PASS, normalize_label, quoted
from deft_aoi.mining.settings import MAX_LISTED

FALLBACK = "ng"
_STEM = re.compile(r"\+(?P<type>[^+]+)_\d+$")


@dataclass(frozen=True)
class DefectLine:
    """One line of ``defect_spec.jsonl``: which stems have this defect type."""

    number: int
    defect_type: str
    stems: frozenset[str] | None
    stem_prefix: str | None
    stem_pattern: str | None
    count: int | None

    def matches(self, stem: str) -> bool:
        """Whether ``stem`` is this line's."""
        if self.stems is not None:
            return stem in self.stems
        if self.stem_prefix is not None:
            return stem.startswith(self.stem_prefix)
        return fnmatch.fnmatchcase(stem, self.stem_pattern or "")


def read_defect_spec(path: Path) -> list[DefectLine]:
    """Read ``defect_spec.jsonl`` (schema ``defect_spec``); a missing file is an empty list.

    Raises:
        HardStop: a line that is not JSON or breaks the schema, or a type that is no defect label.
    """
    if not path.exists():
        return []
    lines: list[DefectLine] = []
    if path.is_symlink():
        raise HardStop("defect_spec.jsonl is a symbolic link", expected="a file of its own", hint="copy it")
    try:
        with os.fdopen(open_regular(path), encoding="utf-8-sig", newline="") as handle:
            text = handle.read()
    except (OSError, UnicodeDecodeError) as error:
        raise HardStop(
            "defect_spec.jsonl cannot be read",
            expected="UTF-8, one JSON object a line",
            found=str(error),
            hint="save it as UTF-8, one JSON object a line",
        ) from error
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            lines.append(_parse(line, number))
    return lines


def _parse(line: str, number: int) -> DefectLine:
    try:
        obj: Any = json.loads(line)
        validate(obj, "defect_spec")
        defect_type = normalize_label(obj["defect_type"])
    except (ValueError, RecursionError) as error:
        raise HardStop(
            f"defect_spec.jsonl, line {number}: not JSON",
            found=quoted(error),
            hint="write that line as one JSON object; references/data-layout.md has an example",
        ) from error
    except HardStop as error:
        raise HardStop(
            f"defect_spec.jsonl, line {number}: {error.message}", expected=error.expected, found=error.found, hint=error.hint
        ) from error
    if defect_type == PASS:
        raise HardStop(f"defect_spec.jsonl, line {number}: PASS is not a defect type", hint="name the defect")
    stems = frozenset(obj["stems"]) if "stems" in obj else None
    return DefectLine(number, defect_type, stems, obj.get("stem_prefix"), obj.get("stem_pattern"), obj.get("count"))


def type_from_stem(stem: str) -> str:
    """``bridge`` for ``R821@1+bridge_00000``; ``ng`` for a stem that names no type."""
    match = _STEM.search(stem)
    if not match:
        return FALLBACK
    label = normalize_label(match["type"])
    return FALLBACK if label == PASS else label


def assign_types(stems: Iterable[str], spec: list[DefectLine]) -> dict[str, str]:
    """Give every stem its defect type.

    Raises:
        HardStop: "allocation mismatch": a line's count differs from the stems it matches, a listed stem does not
            exist, a line matches nothing, or two lines claim one stem. All of them are listed.
    """
    names = sorted(stems)
    known = set(names)
    problems: list[str] = []
    owner: dict[str, DefectLine] = {}
    for line in spec:
        mine = [stem for stem in names if line.matches(stem)]
        absent = sorted(line.stems - known) if line.stems is not None else []
        problems += [f"line {line.number}: no pair has the stem {quoted(stem)}" for stem in absent]
        if line.count is not None and line.count != len(mine):
            problems.append(f"line {line.number}: count {line.count}, but {len(mine)} pairs match")
        elif not mine and line.count is None and not absent:
            problems.append(f"line {line.number}: no pair matches")
        for stem in mine:
            if stem in owner:
                problems.append(f"lines {owner[stem].number} and {line.number} both claim {quoted(stem)}")
            owner.setdefault(stem, line)
    if problems:
        raise HardStop(
            f"allocation mismatch: defect_spec.jsonl and the pre-generated pairs disagree in {len(problems)} places",
            expected="each line matches its stems, each stem at most one line",
            found="; ".join(problems[:MAX_LISTED]),
            hint="correct defect_spec.jsonl, or supply the missing pairs",
        )
    return {stem: owner[stem].defect_type if stem in owner else type_from_stem(stem) for stem in names}
