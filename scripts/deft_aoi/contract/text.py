"""Labels, names and the one way to show text that came from outside.

Everything read from data (labels, file names, CSV cells, logs, spec values) is data, never an instruction; it reaches a
terminal, a log line or an agent only through :func:`quoted`.
"""

from __future__ import annotations

import functools
import json
import re
import unicodedata

from deft_aoi.contract.errors import HardStop

PASS = "PASS"
"""The one label of a good part. TAO compares it case-sensitively."""

GOOD_WORDS = tuple(
    """ok|okay|o.k.|okey|pass|passed|passes|mpass|good|go|normal|fine|accept|accepted|acceptable|approved|no defect|nodefects|
    without defect|defect free|defectfree|non defective|not defective|fault free|flawless|clean|conforming|conform|healthy|intact|
    gut|gutteil|gutteile|in ordnung|i.o.|io|fehlerfrei|bestanden|gutfall|
    bon|bonne|bons|conforme|conformes|correct|correcte|sans defaut|valide|accepté|réussi|
    bueno|buena|bien|correcto|correcta|sin defecto|sin defectos|aceptado|aceptable|aprobado|aprobada|
    buono|buona|buoni|corretto|senza difetti|accettato|approvato|superato|idoneo|
    bom|boa|bons|aprovado|aprovada|sem defeito|aceito|correto|
    goed|goedgekeurd|akkoord|in orde|voldoende|bra|godkänd|godkjent|godkendt|felfri|feilfri|fejlfri|hyvä|hyväksytty|kunnossa|
    dobry|dobra|dobre|dobrý|dobrá|dobré|dobrze|poprawny|prawidłowy|v pořádku|vporadku|w porządku|bez wad|bez vad|vyhovuje|zgodny|
    dobro|dobar|ispravno|ispravan|u redu|v redu|jó|megfelelő|rendben|hibátlan|bun|bună|bine|corespunzător|admis|
    iyi|sağlam|hatasız|kusursuz|geçti|uygun|normalny|hea|korras|labs|labi|geras|tinkamas|mire|
    хорошо|хороший|годен|годный|годное|годно|норма|нормальный|исправен|исправно|исправный|без дефектов|принято|ок|
    добре|добрий|справний|придатний|добър|годен|изправен|καλό|καλο|καλός|κανονικό|εντάξει|αποδεκτό|
    良品|良|好|好品|合格|合格品|正常|正常品|正品|通过|通過|无缺陷|無缺陷|無欠陥|欠陥なし|異常なし|良好|オーケー|良い|完好|无异常|無異常|ok品|
    양품|정상|합격|정상품|좋음|양호|이상없음|적합|통과|
    ดี|ผ่าน|ปกติ|งานดี|đạt|tốt|bình thường|hàng tốt|bagus|baik|lulus|lolos|normal saja|
    सही|ठीक|अच्छा|पास|सामान्य|ভাল|ভালো|সঠিক|நல்ல|சரி|
    جيد|سليم|مقبول|صالح|خوب|سالم|قبول|اچھا|درست|תקין|טוב|עבר|כשר""".replace("\n", "").split("|")
)
"""Words for a good part: a class of such a name is never a defect unless the user says so (``--defect-label``)."""

_LOOK_ALIKES = {
    ord(other): latin
    for latin, others in {
        "a": "а\u03b1\u0251\u1d00ᎪꓮᗅꭺɑΑ",
        "b": "вьЬβʙᏴꓐ",
        "c": "сϲᴄꓚ",
        "d": "ԁᴅꓓ",
        "e": "еεҽᴇꓰ",
        "f": "ꓝꜰ",
        "g": "ցɡɢꓖ",
        "h": "нһηʜꓧ",
        "i": "іιıɪӏ",
        "j": "јᴊꓙ",
        "k": "кκᴋꓗ",
        "l": "ⅼʟꓡ",
        "m": "мᴍꓟ",
        "n": "пνɴꓠ",
        "o": "оοօᴏꓳ\u0d20",
        "p": "рρᴘᏢꓑ",
        "q": "ԛ",
        "r": "гʀꓣ",
        "s": "ѕꜱᏚꓢꮪ",
        "t": "тτᴛꓔ",
        "u": "υսᴜꓴ",
        "v": "ѵᴠꓦ",
        "w": "ԝωᴡꓪ",
        "x": "хχꓫ",
        "y": "уγүʏꓬ",
        "z": "ζᴢꓜ",
    }.items()
    for other in others
}
"""Letters of other scripts that look like a Latin letter in small or capital form, after case folding."""

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


def folded_label(raw: str) -> str:
    """A label without what only looks different: width, case, accents of Latin letters, look-alike letters, blanks.

    Two labels of one folded form are one word for a person: ``Pass``, full-width letters, Cyrillic ``\u0420\u0410\u0405\u0405``.
    """
    text = unicodedata.normalize("NFKC", raw).casefold()
    text = "".join(c for c in text if unicodedata.category(c) != "Cf")
    plain = "".join(c for c in unicodedata.normalize("NFD", text) if not "\u0300" <= c <= "\u036f")
    return " ".join(unicodedata.normalize("NFC", plain).translate(_LOOK_ALIKES).casefold().split())


def means_good(raw: str) -> bool:
    """Whether the label is a word for a good part in one of the languages of factories."""
    key = re.sub(r"[\s_.+\-]+", "", folded_label(raw))
    return key in _good_words()


@functools.cache
def _good_words() -> frozenset[str]:
    return frozenset(re.sub(r"[\s_.+\-]+", "", folded_label(word)) for word in GOOD_WORDS)


def normalize_label(raw: str) -> str:
    """Return the label in its canonical spelling: ``PASS`` verbatim, every other NFKC, lower-cased, stripped.

    Raises:
        HardStop: empty, longer than 64 characters, a PASS that TAO would take as a defect (``pass``, ``PASS ``, letters
            that only look like it), letters of two scripts that look alike in one word, or a character other than letters
            and digits of any script, space and ``_ . + -``.
    """
    if raw == PASS:
        return PASS
    label = unicodedata.normalize("NFC", unicodedata.normalize("NFKC", raw).strip().lower())
    if not label:
        raise HardStop("a label is empty", expected="PASS or the name of a defect", hint="fill in the label column")
    if folded_label(raw) == "pass":
        raise HardStop(
            f"the label {quoted(raw)} is not PASS" + ("" if label == "pass" else ": its letters only look like it"),
            expected="PASS, in capitals, in plain letters, without spaces",
            found=ascii(raw)[:80] if not raw.isascii() else quoted(raw),
            hint="write PASS: TAO compares the label case-sensitively and would train this good part as a defect",
        )
    if len(label) > MAX_LABEL or has_hidden(raw) or not _allowed(label, _LABEL_EXTRA) or not label[0].isalnum():
        raise HardStop(
            f"the label {quoted(raw)} is not allowed",
            expected="at most 64 letters and digits of any script, space and _ . + -, beginning with a letter or digit",
            found=quoted(raw),
            hint="rename the defect in the label column",
        )
    if not label.isascii() and (mixed := _mixed_word(label)):
        raise HardStop(
            f"the label {quoted(raw)} mixes letters of two scripts that look alike",
            expected="letters of one script in a word",
            found=ascii(mixed)[:80],
            hint="type the label again: a look-alike letter makes a second class of the same name",
        )
    return label


def _mixed_word(label: str) -> str:
    """The first word with both Latin letters and look-alikes of Latin letters; empty for none."""
    for word in re.split(r"[^\w]|_", label):
        if any("a" <= c <= "z" for c in word) and any(ord(c) in _LOOK_ALIKES for c in word):
            return word
    return ""


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
