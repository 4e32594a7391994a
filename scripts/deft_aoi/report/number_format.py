"""How numbers are said: percent with the digits that matter, intervals, durations, thresholds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from deft_aoi.contract.text import printable
from deft_aoi.contract.text import quoted as in_quotes

MISSING = "not recorded"
DATA_LIMIT = 120
"""Most characters of one untrusted value on the page; what is cut off ends in an ellipsis."""


def cell(value: object, limit: int = DATA_LIMIT) -> str:
    """An untrusted value as one bounded line of plain text (the template escapes it)."""
    return printable(value, limit)


def percent(fraction: Any) -> str:
    """``0.0075`` → ``0.75%``: three significant digits, never rounded to a bare 0% or 100% that it is not."""
    if fraction is None:
        return MISSING
    value = float(fraction)
    if value in (0.0, 1.0):
        return f"{value * 100:.0f}%"
    text = f"{float(f'{value * 100:.3g}'):g}"
    return f"{value * 100:.6g}%" if text == "100" else f"{text}%"


def interval(pair: Sequence[Any] | None) -> str:
    """``[0.002, 0.029]`` → ``0.2% to 2.9%``."""
    if not pair or pair[0] is None or pair[1] is None:
        return MISSING
    return f"{percent(pair[0])} to {percent(pair[1])}"


def count(number: Any) -> str:
    """``1260`` → ``1,260``."""
    return MISSING if number is None else f"{int(number):,}"


def plural(number: int, one: str, many: str | None = None) -> str:
    """``1 defect``, ``2 defects``."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def score(value: Any) -> str:
    """A score or threshold in four significant digits; the full value stands in the table beside it."""
    return MISSING if value is None else f"{float(value):.4g}"


def full(value: Any) -> str:
    """A threshold in full double precision."""
    return MISSING if value is None else repr(float(value))


def duration(seconds: Any) -> str:
    """``103.9`` → ``1 min 44 s``."""
    if seconds is None:
        return MISSING
    whole = round(float(seconds))
    if whole < 1:
        return "under 1 s"
    hours, rest = divmod(whole, 3600)
    minutes, secs = divmod(rest, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {secs} s" if minutes else f"{secs} s"


def moment(ts: str | None) -> str:
    """``2026-11-23T21:24:05.593Z`` → ``2026-11-23 21:24:05 UTC``."""
    return MISSING if not ts else cell(ts.replace("T", " ").split(".")[0].rstrip("Z") + " UTC", 40)


def iteration(label: str) -> str:
    """``iter2`` → ``iteration 2``; the baseline as it is."""
    return f"iteration {label[4:]}" if label.startswith("iter") else label


def quoted(value: object, limit: int = DATA_LIMIT) -> str:
    """An untrusted value inside a sentence of ours: in quotes, so that a reader sees where the data ends."""
    return in_quotes(value, limit)


def kind(label: str) -> str:
    """``PASS`` → ``good part``, any other label in quotes: for sentences, where :func:`part` is for cells."""
    return "good part" if label == "PASS" else quoted(label, 64)


def part(label: str) -> str:
    """``PASS`` → ``good part``, any other label as it is."""
    return "good part" if label == "PASS" else cell(label, 64)
