"""The reporter's findings: checked against the files they cite, so that no number on the page is an agent's memory."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from deft_aoi.contract.errors import DeftError, HardStop
from deft_aoi.contract.files import read_json
from deft_aoi.contract.paths import RunPaths, resolve_under
from deft_aoi.contract.schema import read_checked
from deft_aoi.contract.text import printable, quoted
from deft_aoi.report import number_format as fmt

FILE_NAME = "findings.json"
MAX_CITED_BYTES = 5_000_000


@dataclass(frozen=True)
class Finding:
    """One finding that holds: ``evidence`` says what it rests on."""

    title: str
    text: str
    kind: str
    evidence: tuple[str, ...]


def read(run: RunPaths) -> tuple[list[Finding], list[str]]:
    """Read and check ``run/findings.json``.

    Returns:
        ``(findings that hold, what was refused and why)``; nothing and nothing when there is no file.
    """
    path = run.run / FILE_NAME
    if not path.is_file():
        return [], []
    try:
        body = read_checked(path, "report_findings")
    except DeftError as error:
        return [], [printable(f"findings.json: {error.message}: expected {error.expected}, found {error.found}", 300)]
    held, refused = [], []
    for number, item in enumerate(body["findings"], start=1):
        problems = [p for e in item["evidence"] if (p := _problem(run, e))]
        if problems:
            refused.append(printable(f"finding {number} ({item['title']}): {problems[0]}", 300))
        else:
            shown = tuple(f"{fmt.cell(e['file'])} {fmt.cell(e['key'])} = {fmt.cell(e['value'])}" for e in item["evidence"])
            held.append(Finding(fmt.cell(item["title"]), fmt.cell(item["text"], 600), item.get("kind", "result"), shown))
    return held, refused


def require(run: RunPaths) -> None:
    """Raise when a finding does not hold.

    Raises:
        HardStop: names each finding and what the file really says.
    """
    _held, refused = read(run)
    if refused:
        raise HardStop(
            f"{len(refused)} of the reporter's findings do not hold; the report was written without them",
            expected="findings whose cited values are the ones on disk",
            found="; ".join(refused)[:1200],
            hint="correct run/findings.json, or delete it; then render again",
        )


def _problem(run: RunPaths, evidence: dict[str, Any]) -> str | None:
    name, key, value = evidence["file"], evidence["key"], evidence["value"]
    try:
        path = resolve_under(run.root, name)
        if path.suffix != ".json" or not path.is_file() or path.stat().st_size > MAX_CITED_BYTES:
            return f"{quoted(name)} is not a JSON file of this run"
        found = look_up(read_json(path, what=path.name), key)
    except DeftError as error:
        return error.message
    except LookupError:
        return f"{quoted(name)} has no {quoted(key)}"
    if isinstance(found, (dict, list)):
        return f"{quoted(name)} {quoted(key)} is not a single value"
    return None if _same(found, value) else f"{quoted(name)} {quoted(key)} is {quoted(found)}, not {quoted(value)}"


def _same(found: Any, cited: Any) -> bool:
    if isinstance(found, bool) or isinstance(cited, bool) or not isinstance(found, (int, float)):
        return bool(found == cited)
    return isinstance(cited, (int, float)) and math.isclose(found, cited, rel_tol=1e-9, abs_tol=0.0)


def look_up(document: Any, key: str) -> Any:
    """The value at a JSON pointer (RFC 6901), or at the same path written with dots.

    Raises:
        LookupError: there is no such value.
    """
    pointer = key.startswith("/")
    steps = [s.replace("~1", "/").replace("~0", "~") for s in key[1:].split("/")] if pointer else key.split(".")
    for step in steps:
        if isinstance(document, list):
            if not step.isdecimal() or int(step) >= len(document):
                raise LookupError(key)
            document = document[int(step)]
        elif isinstance(document, dict) and step in document:
            document = document[step]
        else:
            raise LookupError(key)
    return document
