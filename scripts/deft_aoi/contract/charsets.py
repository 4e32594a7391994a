"""Which encoding and which separator a table has, from its bytes: as spreadsheets and MES exports write them.

Order: byte-order mark, UTF-16 without one (NUL bytes), UTF-8 (strict), then the encodings of factories' spreadsheets. Of
those that decode without an error the most plausible one is taken: letters of one script that stand together as in
words. What was detected is always said, and a user can name it.
"""

from __future__ import annotations

import codecs
import csv
import io
import unicodedata
from collections.abc import Sequence

LEGACY = (
    "cp1252",
    "gb18030",
    "shift_jis",
    "cp932",
    "big5",
    "cp949",
    "euc_jp",
    "cp1250",
    "cp1251",
    "cp1253",
    "cp1254",
    "cp1255",
    "cp1256",
    "cp1258",
    "cp874",
    "cp850",
    "mac_roman",
)
"""Tried in this order; of two equally plausible ones the first is taken."""

DELIMITERS = (",", ";", "\t", "|")
DELIMITER_NAMES = {",": "comma", ";": "semicolon", "\t": "tab", "|": "vertical bar"}
SAMPLE_BYTES = 1 << 18
_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# Frequent letters beyond ASCII of Latin languages: what a table in cp1252, cp1250 or cp1254 holds.
_LATIN = frozenset("äöüßéèêàâçùûîïôœáíóúñãõåæøìòëÿąćęłńśźżčďěňřšťůžőűăâîșțşğıİÄÖÜÉÈÀÁÍÓÚÑÅÆØŁŚŻŹČŘŠŽÇŞĞ")
_SIGNS = frozenset("°µ±×²³½¼«»„“”’‘–—…€£§®™№")


def encoding_of_bytes(data: bytes) -> str:
    """The encoding of a table's first bytes, as Python calls it.

    Returns:
        ``utf-8`` for plain text; never raises: the last candidate decodes every byte.
    """
    for mark, name in _BOMS:
        if data.startswith(mark):
            return name
    sample = data[:4096]
    if sample.count(0) > len(sample) // 8:
        return "utf-16-le" if sample[1::2].count(0) >= sample[0::2].count(0) else "utf-16-be"
    try:
        # A sample may end within a character.
        codecs.getincrementaldecoder("utf-8")().decode(data, final=False)
        return "utf-8"
    except UnicodeDecodeError:
        pass
    best, best_score = "cp1252", float("-inf")
    for name in LEGACY:
        try:
            text = codecs.getincrementaldecoder(name)().decode(data, final=False)
        except UnicodeDecodeError:
            continue
        score = plausibility(text, name)
        if score > best_score:
            best, best_score = name, score
    return "cp932" if best == "shift_jis" else best


def plausibility(text: str, encoding: str) -> float:
    """Mean score of the characters beyond ASCII, about -3 to 2; higher is more plausible."""
    total, count = 0.0, 0
    before = " "
    for position, char in enumerate(text):
        if char >= "\x80":
            after = text[position + 1] if position + 1 < len(text) else " "
            total += _char_score(char, before, after, encoding)
            count += 1
        before = char
    return total / count if count else 0.0


def _char_score(char: str, before: str, after: str, encoding: str) -> float:
    kind = unicodedata.category(char)
    if kind in ("Cc", "Cn", "Co", "Cs"):
        return -3.0
    script = _script(char)
    if script == "han":
        return _han_score(char, encoding)
    if script == "kana":
        # Half-width katakana are what cp1252 looks like in Shift-JIS.
        if "\uff61" <= char <= "\uff9f":
            return -0.5
        # Every East Asian standard has kana; only Japanese text uses them.
        return 1.6 if encoding in ("shift_jis", "cp932", "euc_jp") else -0.5
    if script == "hangul":
        return 1.4 if 0xB0 <= _lead_byte(char, "euc_kr") <= 0xC8 else -0.8
    if script == "latin":
        neighbours = [c for c in (before, after) if c.isalpha()]
        strange = any(_script(c) != "latin" for c in neighbours)
        capital_inside = char.isupper() and before.islower()
        run = before >= "\x80" and after >= "\x80"
        return (1.0 if char in _LATIN else -0.2) - 1.5 * strange - 1.0 * capital_inside - 0.8 * run
    if char in _SIGNS:
        return 0.3 if not (before >= "\x80" and after >= "\x80") and not (before.isalpha() and after.isalpha()) else -0.8
    if kind[0] in "LM":  # Cyrillic, Greek, Hebrew, Arabic, Thai: words of one script, never beside Latin letters
        near = [_script(c) for c in (before, after) if c.isalpha()]
        same, other = near.count(script), len(near) - near.count(script)
        capital_inside = char.isupper() and before.islower()
        return 0.3 + 0.4 * same - 1.5 * other - 1.0 * capital_inside
    if "\u3000" <= char <= "\u303f" or "\uff00" <= char <= "\uff60":
        return 0.5
    return -0.8


def _script(char: str) -> str:
    if char < "\u0250" or "\u1e00" <= char <= "\u1eff":
        return "latin" if char.isalpha() else "other"
    if "\u4e00" <= char <= "\u9fff" or "\uf900" <= char <= "\ufaff":
        return "han"
    if "\u3040" <= char <= "\u30ff" or "\uff61" <= char <= "\uff9f":
        return "kana"
    if "\uac00" <= char <= "\ud7a3":
        return "hangul"
    return unicodedata.name(char, "other").partition(" ")[0].lower()


def _han_score(char: str, encoding: str) -> float:
    """Frequent characters are in the first level of each national standard; the same bytes elsewhere are rare ones."""
    lead = _lead_byte(char, {"gb18030": "gb2312", "cp932": "shift_jis"}.get(encoding, encoding))
    first_level = {
        "gb18030": 0xB0 <= lead <= 0xD7,
        "shift_jis": 0x88 <= lead <= 0x97,
        "cp932": 0x88 <= lead <= 0x97,
        "big5": 0xA4 <= lead <= 0xC6,
        "euc_jp": 0xB0 <= lead <= 0xCF,
    }.get(encoding, False)
    return 1.2 if first_level else -0.8


def _lead_byte(char: str, encoding: str) -> int:
    try:
        return char.encode(encoding)[0]
    except UnicodeEncodeError:
        return 0


def delimiter_of(lines: Sequence[str], wanted: Sequence[str] = ()) -> str:
    """The separator of the first lines: the one whose header has the wanted columns, else the most even one.

    Args:
        lines: decoded lines, the header first.
        wanted: columns that should be there.
    """

    def rank(delimiter: str) -> tuple[int, int, int]:
        try:
            rows = [row for row in csv.reader(io.StringIO("\n".join(lines)), delimiter=delimiter) if row]
        except csv.Error:
            return (0, 0, 0)
        if not rows:
            return (0, 0, 0)
        names = {folded_name(c) for c in rows[0]}
        hits = sum(folded_name(w) in names for w in wanted)
        even = sum(len(row) == len(rows[0]) for row in rows) if len(rows[0]) > 1 else 0
        return (hits, even, len(rows[0]))

    return max(DELIMITERS, key=rank)


def folded_name(name: str) -> str:
    """A column's name without what spreadsheets change: width and composition of letters, case, blanks around it."""
    return " ".join(unicodedata.normalize("NFKC", name).replace("\ufeff", "").casefold().split())
