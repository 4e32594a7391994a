"""Labels, names and the one way to show text that came from outside.

Everything read from data (labels, file names, CSV cells, logs, spec values) is data, never an instruction; it reaches a
terminal, a log line or an agent only through :func:`quoted`.
"""

from __future__ import annotations

import json
import re
import unicodedata

from deft_aoi.contract.errors import HardStop

PASS = "PASS"
"""The one label of a good part. TAO compares it case-sensitively."""

MAX_LABEL = 64
MAX_NAME = 128
_LABEL_EXTRA = frozenset(" _.+-")
_NAME_EXTRA = frozenset(" @_.+-")
_PLAIN_NAME = re.compile("[A-Za-z0-9_][A-Za-z0-9@_.+-]*")
# CSI/OSC sequences first: dropping only ESC would leave "[31m" behind as text.
_ANSI = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\-_])|\x9b[0-?]*[ -/]*[@-~]")


def printable(value: object, limit: int = 80) -> str:
    """Return ``value`` as one printable line of at most ``limit`` characters, without quotes.

    NFKC, then terminal sequences, control, format (bidirectional, zero-width), surrogate, private and unassigned
    characters are dropped, and runs of white space collapse.
    """
    text = unicodedata.normalize("NFKC", _ANSI.sub(" ", str(value)[: 20 * limit]))
    kept = "".join(" " if c.isspace() else c for c in text if c.isspace() or unicodedata.category(c)[0] != "C")
    line = " ".join(kept.split())
    return line if len(line) <= limit else line[: max(limit - 1, 0)] + "…"


def quoted(value: object, limit: int = 80) -> str:
    """Return ``value`` as a JSON-quoted, bounded, one-line string: visibly data."""
    return json.dumps(printable(value, limit), ensure_ascii=False)


def shown_label(label: object, limit: int = 64) -> str:
    """A label as it is shown in a line or a sentence: ``PASS`` is ours, every other one is data and stands in quotes."""
    return PASS if label == PASS else quoted(label, limit)


def has_hidden(text: str) -> bool:
    """Whether ``text`` has a character that moves, hides or breaks what is shown: control, format, line separator."""
    if text.isprintable():
        return False
    return any(unicodedata.category(c)[0] == "C" or unicodedata.category(c) in ("Zl", "Zp") for c in text)


def is_pass(label: str) -> bool:
    """Whether TAO takes the label as a good part: exact, case-sensitive, no stripping."""
    return label == PASS


def _allowed(text: str, extra: frozenset[str]) -> bool:
    return all(c in extra or c.isalnum() or unicodedata.category(c)[0] == "M" for c in text)


def normalize_label(raw: str) -> str:
    """Return the label in its canonical spelling: ``PASS`` verbatim, every other lower-cased, stripped, NFC.

    Raises:
        HardStop: empty, longer than 64 characters, a PASS that TAO would take as a defect (``pass``, ``PASS ``), or a
            character other than letters and digits of any script, space and ``_ . + -``.
    """
    if raw == PASS:
        return PASS
    label = unicodedata.normalize("NFC", raw).strip().lower()
    if not label:
        raise HardStop("a label is empty", expected="PASS or the name of a defect", hint="fill in the label column")
    if label == "pass":
        raise HardStop(
            f"the label {quoted(raw)} is not PASS",
            expected="PASS, in capitals, without spaces",
            found=quoted(raw),
            hint="write PASS: TAO compares the label case-sensitively and would train this good part as a defect",
        )
    if len(label) > MAX_LABEL or has_hidden(raw) or not _allowed(label, _LABEL_EXTRA) or not label[0].isalnum():
        raise HardStop(
            f"the label {quoted(raw)} is not allowed",
            expected="at most 64 letters and digits of any script, space and _ . + -, beginning with a letter or digit",
            found=quoted(raw),
            hint="rename the defect in the label column",
        )
    return label


def check_name(name: str, what: str = "name") -> str:
    """Return ``name`` if it may become part of a file name.

    Raises:
        HardStop: empty, ``.``/``..``, over 128 characters, or a character other than letters and digits of any script,
            space and ``@ _ . + -``.
    """
    if len(name) <= MAX_NAME and _PLAIN_NAME.fullmatch(name):
        return name  # nearly every name of a large table, in a tenth of the time
    if not name or name in (".", "..") or len(name) > MAX_NAME or not _allowed(name, _NAME_EXTRA) or name != name.strip():
        raise HardStop(
            f"{what} {quoted(name)} is not allowed",
            expected="1 to 128 letters and digits of any script, space and @ _ . + -, no separator",
            found=quoted(name),
            hint="rename it",
        )
    return name
