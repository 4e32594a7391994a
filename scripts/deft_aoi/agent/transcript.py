"""Transcripts: one JSON object a line, the first about the session, then one model turn a line.

::

    {"deft_transcript": 1, "name": "…", "prompt": "…", "workspace": "…", "answers": ["go"], "args": ["--max-turns=40"]}
    {"expect": {…}, "reply": {…}, "capture": {…}}

``expect`` (each key optional) is what the request that asks for this turn must look like: ``fresh`` (a new
conversation: one message), ``role`` (``main`` or ``reporter``), ``results`` (a list, in order, of ``{tool, exit,
contains, lacks}``), ``user`` (``{contains, lacks}`` of the last message's own text).

``reply`` is the model's turn: ``content`` (text and tool_use blocks; ids are given by the server), ``stop_reason``
(inferred), ``usage``; or ``error`` (``{status, type}``: the API refuses), or ``cut`` (the stream breaks half way).

``optional`` turns are passed over where the request does not fit them: a loop may end an iteration earlier.

``capture`` names values of earlier tool results, so that real ones flow: ``{"digest": {"tool": "preflight", "after":
"digest: "}}`` is the run of non-blanks after that text in the last result of that tool (``"result": 3``: in the
third result of the session). ``${digest}`` in a later reply is that value; ``${workspace}`` is always there.
"""

from __future__ import annotations

import json
import re
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deft_aoi.contract.errors import HardStop

VERSION = 1
_REFERENCE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_TOKEN = re.compile(r"[^\s'\"`(){}\[\],;]{6,}")


@dataclass(frozen=True)
class Turn:
    """One model turn of a transcript, with its line number."""

    line: int
    expect: dict[str, Any]
    reply: dict[str, Any]
    capture: dict[str, dict[str, Any]]
    optional: bool = False


@dataclass(frozen=True)
class Transcript:
    """A read transcript."""

    path: Path
    header: dict[str, Any]
    turns: tuple[Turn, ...]


def read(path: Path) -> Transcript:
    """Reads and checks a transcript.

    Raises:
        HardStop: not one; the message names the line. A transcript without turns is refused too: it would prove nothing.
    """
    header, turns = None, []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
        except ValueError as error:
            raise _bad(path, number, "JSON", str(error)) from error
        if header is None:
            if not isinstance(entry, dict) or entry.get("deft_transcript") != VERSION or "prompt" not in entry:
                raise _bad(path, number, f'a first line with "deft_transcript": {VERSION} and "prompt"', "something else")
            header = entry
            continue
        unknown = set(entry) - {"expect", "reply", "capture", "optional", "ts", "note"}
        if unknown or not isinstance(entry.get("reply"), dict):
            raise _bad(path, number, "keys expect, reply, capture, optional, ts, note", ", ".join(sorted(entry))[:100])
        wrong = set(entry.get("expect", {})) - {"fresh", "role", "results", "user"}
        if wrong:
            raise _bad(path, number, "expect keys fresh, role, results, user", ", ".join(sorted(wrong)))
        turns.append(Turn(number, entry.get("expect", {}), entry["reply"], entry.get("capture", {}), bool(entry.get("optional"))))
    if header is None or not turns:
        raise _bad(path, 1, "a header and at least one turn", "none")
    return Transcript(path, header, tuple(turns))


def substitute(value: Any, values: dict[str, str]) -> Any:
    """Replaces ``${name}`` in every string of a JSON value.

    Raises:
        KeyError: a name that no capture has given.
    """
    if isinstance(value, str):
        return _REFERENCE.sub(lambda match: values[match.group(1)], value)
    if isinstance(value, list):
        return [substitute(item, values) for item in value]
    if isinstance(value, dict):
        return {key: substitute(item, values) for key, item in value.items()}
    return value


def captured(rule: dict[str, Any], results: list[tuple[str, str]]) -> str | None:
    """The value that a capture rule names among the (tool, text) results so far, or None."""
    texts = [text for tool, text in results if rule.get("tool") in (None, tool)]
    if "result" in rule:
        texts = [results[rule["result"] - 1][1]] if rule["result"] <= len(results) else []
    if not texts:
        return None
    _, found, rest = texts[-1].partition(rule["after"])
    match = _TOKEN.match(rest.lstrip(" ")) if found else None
    return match.group(0).rstrip(".:") if match else None


@dataclass
class Recorder:
    """Writes a session as a transcript that replays, one line a turn as it happens.

    Values that a tool gave and the model used again (a digest, a run folder) become references, and the workspace
    becomes ``${workspace}``; the results themselves are not kept.
    """

    path: Path
    header: dict[str, Any]
    results: list[tuple[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._append({"deft_transcript": VERSION, **self.header}, mode="w")

    def result(self, tool: str, text: str) -> None:
        """A tool's result, as the model will see it."""
        self.results.append((tool, text))

    def answer(self, words: str) -> None:
        """A person's answer; the header gets it when the session ends."""
        self.header.setdefault("answers", []).append(words)

    def turn(self, expect: dict[str, Any], reply: dict[str, Any]) -> None:
        """One model turn."""
        capture: dict[str, dict[str, Any]] = {}
        content = [self._abstract(block, capture) if block.get("type") == "tool_use" else block for block in reply["content"]]
        entry: dict[str, Any] = {"ts": _now(), "expect": expect, "reply": {**reply, "content": content}}
        if capture:
            entry["capture"] = capture
        self._append(entry)

    def close(self) -> None:
        """Completes the header with the answers that people gave."""
        _, _, rest = self.path.read_text(encoding="utf-8").partition("\n")
        head = json.dumps({"deft_transcript": VERSION, **self.header}, ensure_ascii=True)
        self.path.write_text(f"{head}\n{rest}", encoding="utf-8")

    def _abstract(self, block: dict[str, Any], capture: dict[str, dict[str, Any]]) -> dict[str, Any]:
        def walk(value: Any) -> Any:
            if isinstance(value, str):
                return self._reference(value, capture)
            if isinstance(value, list):
                return [walk(item) for item in value]
            return {key: walk(item) for key, item in value.items()} if isinstance(value, dict) else value

        return {**block, "input": walk(block.get("input", {}))}

    def _reference(self, value: str, capture: dict[str, dict[str, Any]]) -> str:
        workspace = self.header.get("recorded_workspace", "")
        for number, (_, text) in reversed(list(enumerate(self.results, 1))):
            for match in sorted(_TOKEN.finditer(text), key=lambda m: -len(m.group(0))):
                token = match.group(0).rstrip(".:")
                if len(token) < 6 or token not in value or token == workspace or "${" in value:
                    continue
                before = text[: match.start()].rpartition("\n")[2][-40:]
                # A plain word flows from nowhere; a mark with a number in it (a time, a count) is another one next time.
                if not any(c.isdigit() or c == "/" for c in token) or any(c.isdigit() for c in before):
                    continue
                rule = {"result": number, "after": before}
                if before.strip() and captured(rule, self.results) == token:
                    name = f"v{number}_{match.start()}"
                    capture[name] = rule
                    return value.replace(token, f"${{{name}}}")
        return value.replace(workspace, "${workspace}") if workspace else value

    def _append(self, entry: dict[str, Any], mode: str = "a") -> None:
        with self.path.open(mode, encoding="utf-8") as handle:
            handle.write(json.dumps(entry, ensure_ascii=True) + "\n")


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def _bad(path: Path, line: int, expected: str, found: str) -> HardStop:
    return HardStop(f"{path.name}, line {line}: not a transcript", expected=expected, found=found)
