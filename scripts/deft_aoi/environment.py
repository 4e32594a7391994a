"""Making the skill's own environment (``setup_env.py``). Standard library only.

Packages come from ``requirements.lock`` with their hashes checked; PyTorch is a step of its own, because its wheel
differs by platform and its CPU and CUDA builds have an index of their own.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from .bootstrap import PACKAGE, READY_FILE, env_dir, env_python, has_this_package, package_copy, ready_record, setup_command
from .contract.errors import Blocked, UsageError
from .contract.schema import bundle_root

LOCK_NAME = "requirements.lock"
TORCH_INDEX = "https://download.pytorch.org/whl/"
LARGE = re.compile(r"^\s*(Downloading|Processing) .*\((\d{2,}(\.\d+)? MB|[\d.]+ GB)\)")
"""pip's lines on packages of 10 MB and more."""
TORCH_NAME = "requirements-torch.txt"
"""Beside the lock file: the one release that the lock file was made with (2.10 and later unpickle safely with ``weights_only``:
CVE-2025-32434, CVE-2026-24747)."""

PYTHON_MIN, PYTHON_MAX = (3, 10), (3, 13)


@dataclass(frozen=True)
class Report:
    """What was found or made: one or two lines for a person, the same as values."""

    text: str
    data: dict[str, object]


def lock_file() -> Path:
    """The lock file: beside ``scripts/`` in a checkout or bundle, among the package's data in an installed wheel."""
    lock = bundle_root() / LOCK_NAME
    if not lock.is_file():
        raise Blocked("the lock file is missing", expected=str(lock), found="no such file", hint="install the skill again")
    return lock


def check() -> Report:
    """Says what is there.

    Raises:
        Blocked: there is no finished environment, or it was made from another lock file.
    """
    python = env_python()
    if python is None:
        raise Blocked(
            "the skill's environment is not there",
            expected=str(env_dir()),
            found="nothing finished" if not ready_record() else "one without this build of the package",
            hint=setup_command(),
        )
    record = ready_record()
    if record.get("lock_sha256") != _sha256(lock_file()):
        raise Blocked(
            "the skill's environment was made from another lock file",
            expected=str(lock_file()),
            found=f"{env_dir()} of an earlier version",
            hint=setup_command(),
        )
    return Report(
        f"environment: {env_dir()} (Python {record.get('python')}, torch {record.get('torch')})",
        {"env": str(env_dir()), "python": str(python), **record},
    )


def create(torch: str = "default", wheels: str | None = None, *, force: bool = False) -> Report:
    """Makes the environment, or confirms it. A second call at the same time waits for the first.

    Args:
        torch: ``default`` or ``cuda`` (the package index), ``cpu``, ``none``, or a tag such as ``cu130``.
        wheels: folder of wheels to install from, without network.
        force: install again although the environment is complete.

    Raises:
        UsageError: an unknown build of PyTorch.
        Blocked: Python is too old or too new, ``venv`` is missing, or pip failed; pip's last lines are in the message.
    """
    torch = "default" if torch == "cuda" else torch
    if not re.fullmatch(r"default|cpu|none|cu\d{3}", torch):
        raise UsageError("--torch names no build", expected="cuda, cpu, none or a tag such as cu130", found=torch[:40])
    if not PYTHON_MIN <= sys.version_info[:2] <= PYTHON_MAX:
        raise Blocked(
            "this Python is not supported",
            expected="Python 3.10 to 3.13",
            found=sys.version.split()[0],
            hint="start setup_env.py with another python3",
        )
    if wheels is not None and not Path(wheels).is_dir():
        raise UsageError("--wheels names no folder", expected="a folder of wheels", found=wheels[:200])
    lock, target = lock_file(), env_dir()
    target.parent.mkdir(parents=True, exist_ok=True)
    with (target.parent / "env.lock").open("w") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)
        ready = ready_record()
        made = ready.get("lock_sha256") == _sha256(lock) and ready.get("build") == torch
        if made and not force:
            _copy_package()
            return check()
        (target / READY_FILE).unlink(missing_ok=True)
        _step([sys.executable, "-m", "venv", str(target)], "making the environment")
        python = str(target / "bin" / "python")
        pip = [python, "-m", "pip", "install", "--disable-pip-version-check", "--no-input", "--progress-bar", "off"]
        source = ["--no-index", "--find-links", str(Path(wheels).resolve())] if wheels else []
        if torch != "none":
            index = [] if wheels or torch == "default" else ["--index-url", TORCH_INDEX + torch]
            _step([*pip, *source, *index, "-r", str(lock.with_name(TORCH_NAME))], "installing PyTorch")
        _step([*pip, *source, "--require-hashes", "--no-deps", "-r", str(lock)], "installing the locked packages")
        record = {
            "lock_sha256": _sha256(lock),
            "build": torch,
            "python": _ask(python, "platform", "python_version()"),
            "torch": _ask(python, "torch", "__version__") if torch != "none" else "none",
        }
        _copy_package()
        _write_ready(target / READY_FILE, record)
    return check()


def _copy_package() -> None:
    """Gives the environment this wheel's package, whole or not at all; nothing to do for a checkout or plugin."""
    if has_this_package():
        return
    final = package_copy()
    fresh, old = final.with_name(".deft_aoi.new"), final.with_name(".deft_aoi.old")
    for left in (fresh, old):
        shutil.rmtree(left, ignore_errors=True)
    shutil.copytree(PACKAGE, fresh, ignore=shutil.ignore_patterns("__pycache__"))
    if final.exists():
        final.rename(old)
    fresh.rename(final)
    shutil.rmtree(old, ignore_errors=True)


def _step(argv: list[str], what: str) -> None:
    """One command; that it runs, and what it downloads of 10 MB and more with its size, is said on standard error."""
    print(what, file=sys.stderr, flush=True)
    lines = []
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8", errors="replace") as process:
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line.strip()[:200])
            if LARGE.search(line):
                print(f"  {lines[-1]}", file=sys.stderr, flush=True)
    if process.returncode != 0:
        raise Blocked(
            f"{what} failed",
            expected="exit code 0",
            found=f"exit code {process.returncode}: {' | '.join([line for line in lines if line][-3:])}",
            hint="check the network or give --wheels DIR; then the same command again",
        )


def _ask(python: str, module: str, attribute: str) -> str:
    code = f"import {module}; print({module}.{attribute})"
    done = subprocess.run([python, "-c", code], capture_output=True, encoding="utf-8", errors="replace")
    return done.stdout.strip() or "unknown"


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _write_ready(path: Path, record: dict[str, str]) -> None:
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("w", encoding="utf-8") as handle:
        json.dump(record, handle, sort_keys=True, indent=1)
        handle.flush()
        os.fsync(handle.fileno())
    temporary.replace(path)
