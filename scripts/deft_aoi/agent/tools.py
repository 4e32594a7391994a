"""Typed tools for a model, made from the scripts' own command lines.

There is no shell: a tool is one script of this skill, its input schema is read from that script's ``build_parser()``,
and a call is one child process without a terminal. ``approve.py``, ``--yes`` and whatever repairs a record are for
people and never become tools or properties.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deft_aoi.contract.errors import HardStop, UsageError
from deft_aoi.contract.programs import run_program

EXPOSED = (
    "list_tao_platforms",
    "check_data",
    "preflight",
    "init_deft_state",
    "run_loop",
    "run_stage",
    "next_stage",
    "status",
    "record_spot_check",
    "log_stage",
    "verify_run",
    "cancel",
    "render_report",
)
"""The scripts that a model may start. A script that is not named here is not a tool."""

REPORTER_EXPOSED = ("status", "verify_run", "render_report")

WITHHELD = frozenset({"help", "version", "json", "yes", "by", "detach", "watch"})
"""Options that never become properties: a person's (``--yes``, ``--by person``), or of no use without a terminal."""

MAX_STDOUT, MAX_STDERR = 8000, 3000
"""Characters of a script's output that reach the model. Scripts print far less; this is the wall behind them."""


@dataclass(frozen=True)
class Tool:
    """One script as a tool.

    Args:
        name: the script's name without ``.py``; the tool's name.
        path: the script.
        description: one line from the script's own parser.
        schema: JSON Schema (object) of the tool's input.
        actions: the parser's actions by property name, for building the command line.
    """

    name: str
    path: Path
    description: str
    schema: dict[str, Any]
    actions: dict[str, argparse.Action] = field(repr=False)

    def as_param(self) -> dict[str, Any]:
        """The tool as the Messages API takes it."""
        return {"name": self.name, "description": self.description, "input_schema": self.schema}

    def argv(self, given: dict[str, Any]) -> list[str]:
        """The script's arguments for a checked input.

        Raises:
            UsageError: a property that the script does not have, a missing one, or a value of another type.
        """
        unknown = sorted(set(given) - set(self.actions))
        missing = [name for name in self.schema.get("required", []) if name not in given]
        if unknown or missing:
            raise UsageError(
                f"{self.name}: the input does not fit the tool",
                expected=f"properties {', '.join(self.actions)}; required {', '.join(self.schema.get('required', [])) or 'none'}",
                found=f"unknown {', '.join(unknown) or 'none'}; missing {', '.join(missing) or 'none'}"[:300],
            )
        options: list[str] = []
        positionals: list[str] = []
        for name, action in self.actions.items():
            if name not in given or given[name] is None:
                continue
            values = _checked(self.name, name, self.schema["properties"][name], given[name])
            if not action.option_strings:
                positionals += [str(v) for v in values]
            elif isinstance(action, argparse.BooleanOptionalAction):
                options.append(action.option_strings[0 if values[0] else 1])
            elif action.nargs == 0:
                options += [action.option_strings[-1]] if values[0] else []
            elif isinstance(action, argparse._AppendAction):
                options += [f"{action.option_strings[-1]}={v}" for v in values]
            elif action.nargs in ("+", "*") or isinstance(action.nargs, int):
                options += [action.option_strings[-1], *(str(v) for v in values)]
            else:
                options.append(f"{action.option_strings[-1]}={values[0]}")
        return [*options, *(["--", *positionals] if positionals else [])]


@dataclass(frozen=True)
class ToolResult:
    """What a call gave: text for the model, the script's exit code (None where no script ran), and the time it took."""

    text: str
    exit_code: int | None = 0
    duration_sec: float = 0.0
    image: dict[str, Any] | None = None

    @property
    def is_error(self) -> bool:
        """True where the model should see the result as an error."""
        return self.exit_code not in (0, 5, 8)


def load_tools(scripts_dir: Path, names: tuple[str, ...] = EXPOSED) -> dict[str, Tool]:
    """The tools by name.

    Raises:
        HardStop: a script is missing: the bundle is not complete.
    """
    missing = [name for name in names if not (scripts_dir / f"{name}.py").is_file()]
    if missing:
        raise HardStop(
            "the skill is not complete",
            expected=f"scripts {', '.join(names)}",
            found=f"missing: {', '.join(missing)}",
            hint="ask the user to install the skill again",
        )
    return {name: _tool(scripts_dir / f"{name}.py") for name in names}


def run_script(tool: Tool, given: dict[str, Any], *, cwd: Path, timeout_sec: float | None = None) -> ToolResult:
    """Runs one script as a child process without a terminal and without the model's credentials.

    Returns:
        The exit code and the bounded output; a call that does not fit the script is exit code 2 and nothing is started.
    """
    try:
        argv = tool.argv(given)
    except UsageError as error:
        return ToolResult(f"exit 2 (wrong usage)\n{error.render()}", 2)
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("ANTHROPIC_", "CLAUDE"))}
    start = time.monotonic()
    try:
        done = run_program([sys.executable, str(tool.path), *argv], cwd=str(cwd), env=environment, timeout_sec=timeout_sec)
    except subprocess.TimeoutExpired:
        return ToolResult(f"exit 4 (no answer within {timeout_sec:.0f} s; what it started may still run)", 4)
    parts = [f"exit {done.returncode}", _bounded(done.stdout, MAX_STDOUT), _bounded(done.stderr, MAX_STDERR)]
    return ToolResult("\n".join(p for p in parts if p), done.returncode, time.monotonic() - start)


def _tool(path: Path) -> Tool:
    specification = importlib.util.spec_from_file_location(f"deft_script_{path.stem}", path)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    parser: argparse.ArgumentParser = module.build_parser()
    actions, properties, required = {}, {}, []
    for action in parser._actions:
        if action.dest in WITHHELD or isinstance(action, argparse._HelpAction | argparse._VersionAction):
            continue
        actions[action.dest] = action
        properties[action.dest] = _property(action)
        if action.required and not (not action.option_strings and action.nargs in ("?", "*")):
            required.append(action.dest)
    schema = {"type": "object", "properties": properties, "required": required, "additionalProperties": False}
    return Tool(path.stem, path, (parser.description or path.stem).strip(), schema, actions)


def _property(action: argparse.Action) -> dict[str, Any]:
    if action.nargs == 0 or isinstance(action, argparse.BooleanOptionalAction):
        kind: dict[str, Any] = {"type": "boolean"}
    else:
        kind = {"type": "integer" if action.type is int else "number" if action.type is float else "string"}
        if action.choices is not None:
            kind["enum"] = list(action.choices)
        if action.nargs in ("+", "*") or isinstance(action.nargs, int) or isinstance(action, argparse._AppendAction):
            kind = {"type": "array", "items": kind}
    if action.help and action.help is not argparse.SUPPRESS:
        kind["description"] = " ".join((action.help % _help_values(action)).split())
    return kind


def _help_values(action: argparse.Action) -> dict[str, Any]:
    return {**vars(action), "prog": "", "default": action.default}


def _checked(tool: str, name: str, kind: dict[str, Any], value: Any) -> list[Any]:
    types: dict[str, type | tuple[type, ...]] = {
        "string": str,
        "integer": int,
        "number": (int, float),
        "boolean": bool,
        "array": list,
    }
    expected = types[kind["type"]]
    wrong = not isinstance(value, expected) or (kind["type"] in ("integer", "number") and isinstance(value, bool))
    if wrong or ("enum" in kind and value not in kind["enum"]) or (isinstance(value, str) and "\x00" in value):
        wanted = f"one of {', '.join(map(str, kind['enum']))}" if "enum" in kind else kind["type"]
        raise UsageError(f"{tool}: {name} has a wrong value", expected=wanted, found=type(value).__name__)
    if kind["type"] == "array":
        return [item for entry in value for item in _checked(tool, name, kind["items"], entry)]
    return [value]


def _bounded(text: str, limit: int) -> str:
    text = text.strip()
    return text if len(text) <= limit else f"{text[: limit - 40]}\n… ({len(text) - limit + 40} characters left out)"
