"""How a person or an agent calls a verb of this installation: a script of the checkout or plugin, or ``deft`` of a wheel."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any, NamedTuple

WHEEL_DATA = Path(__file__).resolve().parents[1] / "_bundle"
"""What a wheel carries of the checkout's top level; there is no such folder in a checkout or plugin."""

SCRIPTS = Path(__file__).resolve().parents[2]


def command(verb: str) -> str:
    """The words that start a verb.

    Args:
        verb: a script's name without ``.py``, such as ``run_loop``.

    Returns:
        ``python scripts/run_loop.py`` in a checkout or plugin, ``deft run_loop`` where a wheel is installed.
    """
    return f"deft {verb}" if WHEEL_DATA.is_dir() else f"python scripts/{verb}.py"


def absolute_command(verb: str) -> str:
    """The same for a person in any folder: ``python3 /SKILL/scripts/approve.py``."""
    return command(verb) if WHEEL_DATA.is_dir() else f"python3 {shlex.quote(str(SCRIPTS / verb) + '.py')}"


class CommandResult(NamedTuple):
    """What a verb has to say: lines for a person or an agent, the same as JSON, and its exit code."""

    text: str
    data: dict[str, Any]
    exit_code: int = 0
