"""Does a Python hold NVIDIA's TAO? Asked of that interpreter, without importing any of it."""

from __future__ import annotations

import subprocess
from pathlib import Path

from deft_aoi.contract.programs import run_program

_LOOK = """
import importlib.metadata, importlib.util
if importlib.util.find_spec("nvidia_tao_pytorch") is None:
    raise SystemExit(3)
try:
    print(importlib.metadata.version("nvidia-tao-pytorch"))
except importlib.metadata.PackageNotFoundError:
    print("")
"""
_TIMEOUT_SEC = 60


def installed(python: str) -> str | None:
    """The release of ``nvidia-tao-pytorch`` in an environment.

    Args:
        python: its interpreter; the jobs' console command ``visual_changenet`` lies beside it.

    Returns:
        The release, an empty text where TAO is there but its release is not told, ``None`` where there is no TAO.
    """
    try:
        done = run_program([python, "-c", _LOOK], timeout_sec=_TIMEOUT_SEC)
    except (OSError, subprocess.SubprocessError):
        return None
    if done.returncode == 0:
        return done.stdout.strip()
    return "" if Path(python).with_name("visual_changenet").is_file() else None
