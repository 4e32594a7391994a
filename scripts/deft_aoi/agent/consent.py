"""Is this a clear go? A person's words as approval of the plan whose Summary was just shown.

Everything that is not plainly a go is not one. The words must be made, from the first to the last, of phrases of one
language that say go or stand beside a go (politeness, praise, "now", "let me know when it is done"); one of them must say go.
So a question, a condition, a negation, a number or a parameter's name never approves anything. Hooks load this module.
"""

from __future__ import annotations

import functools
import json
import os
import re
import unicodedata

from . import consent_words

MAX_CHARACTERS = 160
MAX_TAIL = 600
"""Characters that may follow the Summary in the message that shows it: "Reply go to start" in some more words."""

_COMMON_GO = r"ok|okay|go|go ahead|yes|start|lgtm|approved"
_COMMON_BESIDE = r"please|thanks|thank you|thx|great|perfect|super|good|now|plan|🙏|🎉|🙂|😀|😊|😄|👏|💪|:\)|:-\)|:d|;\)"
_UNSPACED = {"zh", "ja", "ko", "th"}
_SCRIPTS = (
    (r"[\u3040-\u30ff]", ("ja",)),
    (r"[\uac00-\ud7a3\u3131-\u318e]", ("ko",)),
    (r"[\u4e00-\u9fff]", ("zh", "ja")),
    (r"[\u0400-\u04ff]", ("ru", "uk", "sr")),
    (r"[\u0370-\u03ff]", ("el",)),
    (r"[\u0600-\u06ff]", ("ar", "fa", "ur")),
    (r"[\u0590-\u05ff]", ("he",)),
    (r"[\u0900-\u097f]", ("hi",)),
    (r"[\u0980-\u09ff]", ("bn",)),
    (r"[\u0e00-\u0e7f]", ("th",)),
)
_LATIN = ("en", "de", "fr", "es", "it", "pt", "nl", "pl", "cs", "nordic", "hu", "ro", "sr", "tr", "vi", "id", "hi")
_SEPARATORS = re.compile(r"[.,!;:\s…·、。¡—–~～।۔،؛]+(?![)d-])")
_QUESTION = re.compile(r"[?¿؟;՞]")
_MARKS = re.compile("[👍🚀✅🆗👌🏻🏼🏽🏾🏿\ufe0f\u200d]")


def _fold(text: str) -> str:
    """Accents of Latin, Greek and Cyrillic letters away; every other script as it is."""
    parts = (c for c in unicodedata.normalize("NFD", text) if not "\u0300" <= c <= "\u036f")
    return unicodedata.normalize("NFC", "".join(parts))


def plain(words: str) -> str:
    """A text as the tables spell theirs: NFKC, folded case, no apostrophes or accents, single spaces."""
    text = re.sub(r"['’‘`´]", "", _fold(unicodedata.normalize("NFKC", words).casefold()))
    text = re.sub(r"(?<=\w)-(?=\w)|(?<=\w)/(?=\w)", " ", text)
    return _SEPARATORS.sub(" ", f"{text} ").strip()


def why_not(words: str, digest: str = "") -> str:
    """Why these words are not a clear go; the empty string where they are one.

    Args:
        words: exactly what the person typed.
        digest: the plan's digest; it, its first 12 or its last 6 characters may stand beside a go.

    Returns:
        A short reason, fit to be shown, that repeats nothing of ``words``.
    """
    if any(unicodedata.category(c) in ("Cc", "Cf") and c not in "\n\r\t\u200d\ufe0f" for c in words):
        return "it contains invisible characters"
    if len(words) > MAX_CHARACTERS:
        return "it is more than a short answer"
    folded = unicodedata.normalize("NFKC", words)
    if _QUESTION.search(words) or _QUESTION.search(folded):
        return "it asks something"
    text = plain(_MARKS.sub(" ", words))
    marked = bool(re.search("[👍🚀✅🆗👌]", words))
    for part in (digest, digest[:12], digest[-6:]) if digest else ():
        text = re.sub(rf"(?<!\w){part}(?!\w)", " ", text)
    text = re.sub(r" +", " ", text).strip()
    if not text:
        return "" if marked else "it does not say go" if words.strip() else "it is empty"
    covered = False
    for language in languages(text):
        covers, says_go = _read(text, language)
        if covers and (says_go or marked):
            return ""
        covered = covered or covers
    return "it does not say go" if covered else _reason(text)


def is_clear_go(words: str, digest: str = "") -> bool:
    """True where the words approve the plan that was just shown, and say nothing else."""
    return not why_not(words, digest)


def _reason(text: str) -> str:
    tokens = f" {text} "
    if re.search(rf" (?:{_fold(consent_words.NO)}) ", tokens) or any(sign in text for sign in consent_words.NO_SIGNS):
        return "it says no, or not yet"
    if re.search(rf"^ (?:{consent_words.ASKING}) ", tokens) or any(sign in text for sign in consent_words.ASKING_SIGNS):
        return "it asks something"
    if re.search(rf"\d| (?:{consent_words.CONDITION}) ", tokens):
        return "it sets a condition or changes something"
    return "it says something else than a plain go"


def languages(text: str) -> tuple[str, ...]:
    """The languages that a text may be in, by its letters."""
    for letters, found in _SCRIPTS:
        if re.search(letters, text):
            return found
    return _LATIN


@functools.cache
def _phrases(language: str) -> tuple[re.Pattern[str], re.Pattern[str]]:
    """What is a go and what may stand beside one, in one language."""
    go = f"{consent_words.GO.get(language, '')}|{_COMMON_GO}"
    beside = f"{consent_words.BESIDE.get(language, '')}|{_COMMON_BESIDE}"
    if language in _UNSPACED:
        go, beside = go.replace(" ", "").replace("_?", ""), beside.replace(" ", "")
    return re.compile(_fold(go.casefold())), re.compile(_fold(beside.casefold()))


def _read(text: str, language: str) -> tuple[bool, bool]:
    """Whether phrases of a language make up all of a text, and whether one of them is a go."""
    go, beside = _phrases(language)
    unspaced = language in _UNSPACED
    units: list[str] = list(text.replace(" ", "")) if unspaced else text.split(" ")
    reached = {0: False}
    for start in range(len(units)):
        if start not in reached:
            continue
        for end in range(start + 1, min(len(units), start + (28 if unspaced else 14)) + 1):
            piece = ("" if unspaced else " ").join(units[start:end])
            if _found_at(go, piece, units, end, unspaced):
                reached[end] = True
            elif _found_at(beside, piece, units, end, unspaced):
                reached[end] = reached.get(end, False) or reached[start]
    return len(units) in reached, reached.get(len(units), False)


def _found_at(phrases: re.Pattern[str], piece: str, units: list[str], end: int, unspaced: bool) -> bool:
    """True where a piece is one of the phrases; in scripts without spaces, what follows may deny it ("好" before "了")."""
    if not phrases.fullmatch(piece):
        return False
    whole = piece + "".join(units[end : end + 2])
    return not unspaced or not re.search("^(?:好|行|对)了.?$|(?:确认|確認)一下$", whole)


def please_reply(words: str) -> str:
    """The sentence that asks for a go, in the language of the words where it is known, else in English."""
    text = plain(words)
    if re.search(r"[\u3040-\u9fff\uac00-\ud7a3\u0370-\u06ff\u0900-\u0e7f]", text):
        return consent_words.REPLY.get(languages(text)[0], consent_words.REPLY["en"])
    tokens = set(text.split(" "))
    score = {name: len(tokens & set(hints.split())) for name, hints in consent_words.HINTS.items()}
    best = max(score, key=lambda name: score[name])
    return consent_words.REPLY[best if score[best] else "en"]


def what_to_answer(words: str) -> str:
    """What an agent should do with an answer that is no go."""
    return (
        "Answer the user; where a parameter changes run preflight.py again; then show the whole Summary, with nothing "
        f'after it but: "{please_reply(words)}". Wait for the answer.'
    )


def why_not_shown(shown: str, digest: str, summary: str) -> str:
    """Why a message is not the Summary of the plan as the last thing shown; the empty string where it is.

    Args:
        shown: the assistant's last message.
        digest: the pending plan's.
        summary: the Summary as pre-flight printed it; empty where none was kept (then its title and digest line count).
    """
    message = " ".join(shown.split())
    lines = [" ".join(line.split()) for line in summary.splitlines()] or ["Pre-Flight Summary", f"Plan digest {digest}"]
    ends = [at for at, line in enumerate(lines) if digest in line]
    wanted = [line for line in lines[: ends[0] + 1 if ends else None] if line]
    start = 0
    for line in wanted:
        letters = re.sub(r"[\W_]+", "", line)
        pattern = r"[\W_]*".join(re.escape(c) for c in letters)  # markdown and tables may stand between the letters
        found = re.compile(pattern).search(message, start) if letters else None
        if letters and found is None:
            return "the Summary of this plan was not shown whole"
        start = found.end() if found else start
    tail = message[start:]
    if len(tail) > MAX_TAIL or _QUESTION.search(tail):
        return "the Summary was not the last thing shown"
    return ""


def last_shown(transcript_path: str) -> str:
    """The text of the assistant's last message in a conversation of Claude Code (subagents' messages do not count)."""
    with open(transcript_path, "rb") as handle:  # noqa: PTH123  (hooks load no pathlib)
        size = handle.seek(0, os.SEEK_END)
        handle.seek(max(0, size - 1_000_000))
        lines = handle.read().splitlines()
    message_id: object = None
    texts: list[str] = []
    for line in reversed(lines):
        try:
            entry = json.loads(line)
        except ValueError:
            continue  # the first line of the window may be cut
        if not isinstance(entry, dict) or entry.get("type") != "assistant" or entry.get("isSidechain"):
            continue
        message = entry.get("message") or {}
        if message_id is not None and message.get("id") != message_id:
            break
        message_id = message.get("id")
        blocks = message.get("content")
        if isinstance(blocks, list):
            texts += [str(b.get("text", "")) for b in blocks if isinstance(b, dict) and b.get("type") == "text"]
    return "\n".join(reversed(texts))
