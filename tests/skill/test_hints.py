"""What an error tells its reader to try exists: every command, option, file and ``make`` target of every hint of the code."""

from __future__ import annotations

import ast
import contextlib
import functools
import io
import re
import runpy
import sys
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = ROOT / "scripts"
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]*")
HINTS = {"hint", "fix"}
OTHERS = ("scancel", "pip", "kubectl", "docker")
"""Other people's commands: their options are theirs."""


def texts(node: ast.AST) -> Iterator[str]:
    """The texts that an expression can give; ``{x}`` where a value is filled in."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif isinstance(node, ast.JoinedStr):
        yield "".join(part.value if isinstance(part, ast.Constant) else _filled(part) for part in node.values)
    elif isinstance(node, ast.Call) and not isinstance(node.func, ast.Attribute):
        return
    else:
        for child in ast.iter_child_nodes(node):
            yield from texts(child)


def _filled(part: ast.AST) -> str:
    call = part.value if isinstance(part, ast.FormattedValue) else part
    ours = isinstance(call, ast.Call) and ast.unparse(call.func).endswith("command")
    if ours and call.args and isinstance(call.args[0], ast.Constant):
        return f"{call.args[0].value}.py"  # contract.commands.command(verb)
    return "{x}"


def hints() -> list[tuple[str, str]]:
    """``(file:line, text)`` of every hint: keyword arguments, and the fourth part of a finding."""
    found = []
    for path in sorted([*SCRIPTS.rglob("*.py"), *(ROOT / "hooks").glob("*.py")]):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                parts = [k.value for k in node.keywords if k.arg in HINTS]
                if isinstance(node.func, ast.Attribute) and node.func.attr == "add" and len(node.args) == 4:
                    parts.append(node.args[3])
                where = f"{path.relative_to(ROOT)}:{node.lineno}"
                found += [(where, text) for part in parts for text in texts(part)]
    return found


@functools.cache
def options() -> dict[str, set[str]]:
    """The options of every script."""
    found = {}
    for path in sorted(SCRIPTS.glob("*.py")):
        said = io.StringIO()
        called = mock.patch.object(sys, "argv", [str(path), "--help"])
        with called, contextlib.redirect_stdout(said), contextlib.suppress(SystemExit):
            runpy.run_path(str(path), run_name="__main__")
        found[path.name] = set(OPTION.findall(said.getvalue()))
        assert found[path.name], path
    return found


def wrong(text: str) -> list[str]:
    """What a hint names that does not exist."""
    known, found = options(), []
    for clause in re.split(r"[;,:] | or | and ", text):
        scripts = [f"{name}.py" for name in re.findall(r"(?<![\w/{}])(?:scripts/)?(\w+)\.py\b", clause)]
        found += [name for name in scripts if name not in known]
        mine = set().union(*(known.get(name, set()) for name in scripts or known))
        others = any(re.search(rf"\b{tool}\b", clause) for tool in OTHERS)
        found += [option for option in OPTION.findall(clause) if option not in mine and not others]
    found += [p for p in re.findall(r"\b(?:references|docs|schemas|specs)/[\w.-]+\.\w+", text) if not (ROOT / p).exists()]
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    found += [f"make {t}" for t in re.findall(r"(?:`|\brun )make (\w+)", text) if t not in targets]
    return found


def test_every_hint_names_what_exists() -> None:
    found = hints()
    assert len(found) > 300
    bad = [f"{where}: {names} in {text!r}" for where, text in found if (names := wrong(text))]
    assert not bad, "\n".join(bad)


@pytest.mark.parametrize(
    "text",
    [
        "run no_such_script.py",
        "run preflight.py --no-such-option",
        "see references/no-such-page.md",
        "verify_run.py --kpi-target x",
    ],
)
def test_a_hint_that_names_what_is_not_there_is_found(text: str) -> None:
    assert wrong(text)
