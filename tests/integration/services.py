"""What the integration fixtures share: is a service possible here, and how Debian's packages get onto this machine."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

CACHE = Path(os.environ.get("DEFT_INTEGRATION_CACHE", "/var/tmp/deft-aoi-integration"))


def unavailable(reason: str) -> None:
    """Skip with a reason, or fail where the service is required (CI sets ``DEFT_INTEGRATION=required``)."""
    if os.environ.get("DEFT_INTEGRATION") == "required":
        pytest.fail(reason)
    pytest.skip(reason)


def need_root() -> None:
    if os.getuid() != 0:
        unavailable("needs root to start a service")


def need_commands(commands: dict[str, str]) -> None:
    """Install the Debian packages whose commands are missing."""
    missing = sorted({package for command, package in commands.items() if shutil.which(command, path=_path()) is None})
    if not missing:
        return
    if shutil.which("apt-get") is None:
        unavailable(f"needs {', '.join(missing)}, and there is no apt-get")
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    lock = ["-o", "DPkg::Lock::Timeout=300"]
    for attempt in range(3):
        subprocess.run(["nice", "apt-get", "update", "-q", *lock], env=quiet, capture_output=True, timeout=600, check=False)
        done = subprocess.run(
            ["nice", "apt-get", "install", "-y", "-q", "--no-install-recommends", *lock, *missing],
            env=quiet,
            capture_output=True,
            text=True,
            timeout=900,
            check=False,
        )
        if done.returncode == 0:
            return
        time.sleep(10 * (attempt + 1))
    unavailable(f"cannot install {', '.join(missing)}: {done.stderr[-300:]}")


def _path() -> str:
    return f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"


def which(command: str) -> str:
    found = shutil.which(command, path=_path())
    assert found, command
    return found


def wait_for(condition, seconds: float, what: str, every: float = 0.1):
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < end, f"timed out: {what}"
        time.sleep(every)
