"""The skill's own interpreter: find it, switch to it, or say how to make it. Standard library only.

A plugin install brings source files and no packages. ``ensure_interpreter`` is called before anything heavy: where the
running interpreter lacks a package, the script starts again under the environment that ``setup_env.py`` made in
``$XDG_DATA_HOME/deft-aoi/env``, with the same arguments; where that does not help it is exit 4 with the one command
that does. A script of a checkout or plugin brings the package with it (``scripts/`` is its first import path); that of
an installed wheel finds the copy of the package that ``setup_env.py`` put into the environment.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from pathlib import Path

from .contract.commands import WHEEL_DATA, absolute_command
from .contract.errors import Blocked
from .contract.user_folders import user_folder

READY_FILE = ".deft-aoi-ready.json"
"""Written last by ``setup_env.py``: an environment without it is half made and is never used."""

_SWITCHED = "DEFT_AOI_SWITCHED"
"""Set across the switch, so that an environment that lacks a package is reported and not entered again and again."""

PACKAGE = Path(__file__).resolve().parent
BUILD_FILE = "BUILD.sha256"
"""In a wheel's data: one digest over the whole package, written when the wheel was built (``setup.py``)."""


def env_dir() -> Path:
    """Folder of the skill's own environment: ``$XDG_DATA_HOME/deft-aoi/env`` (``~/.local/share`` where unset)."""
    return Path(user_folder("data")) / "env"


def env_python() -> Path | None:
    """The environment's interpreter, or None where ``setup_env.py`` has not finished making it for this package."""
    python = env_dir() / "bin" / "python"
    if not (env_dir() / READY_FILE).is_file() or not os.access(python, os.X_OK) or not has_this_package():
        return None
    return python


def package_copy() -> Path:
    """Where the environment keeps its copy of an installed wheel's package."""
    libraries = sorted((env_dir() / "lib").glob("python3*")) or [env_dir() / "lib" / "python3"]
    return libraries[-1] / "site-packages" / PACKAGE.name


def has_this_package() -> bool:
    """True where the environment can import this very build of the package; a checkout needs no copy there."""
    if not WHEEL_DATA.is_dir():
        return True
    try:
        return (package_copy() / "_bundle" / BUILD_FILE).read_bytes() == (WHEEL_DATA / BUILD_FILE).read_bytes()
    except OSError:
        return False


def ready_record() -> dict[str, object]:
    """What ``setup_env.py`` recorded about the finished environment; empty where there is none."""
    try:
        record = json.loads((env_dir() / READY_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def missing(requires: tuple[str, ...]) -> list[str]:
    """The top-level modules of ``requires`` that this interpreter cannot find (nothing is imported)."""
    absent = []
    for name in requires:
        try:
            found = importlib.util.find_spec(name.partition(".")[0]) is not None
        except (ImportError, ValueError):
            found = False
        if not found:
            absent.append(name)
    return absent


def setup_command() -> str:
    """The one command that makes the environment."""
    return absolute_command("setup_env")


def ensure_interpreter(requires: tuple[str, ...]) -> None:
    """Returns when this interpreter has every module of ``requires``; else starts the script again where it has.

    Args:
        requires: importable module names, such as ``("pandas", "pyarrow")``.

    Raises:
        Blocked: there is no environment that has them. The message holds the one command that makes it.
    """
    absent = missing(requires)
    if not absent:
        return
    python = env_python()
    if python is None or os.environ.get(_SWITCHED) == "1":
        where = str(python) if python is not None and os.environ.get(_SWITCHED) == "1" else sys.executable
        raise Blocked(
            f"Python packages are missing: {', '.join(absent)}",
            expected="the skill's own environment",
            found=f"{where} without them",
            hint=setup_command(),
        )
    os.environ[_SWITCHED] = "1"
    sys.stdout.flush()
    sys.stderr.flush()
    # sys.orig_argv keeps interpreter switches and `-m module`, which sys.argv has lost by now.
    os.execv(str(python), [str(python), *sys.orig_argv[1:]])
