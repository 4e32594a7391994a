"""Reaching a Docker Engine: the SDK's client, its errors in our words, and a read-only look at it."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator, Mapping
from typing import Any

from deft_aoi.contract.errors import Blocked
from deft_aoi.contract.text import printable
from deft_aoi.platforms import gpus
from deft_aoi.platforms.base import Finding

CLIENT_TIMEOUT_SEC = 60


def connect(options: Mapping[str, str], *, timeout_sec: int = CLIENT_TIMEOUT_SEC) -> Any:
    """Open the SDK's client; each of its requests waits at most ``timeout_sec`` for an answer.

    Raises:
        Blocked: the package ``docker`` is missing, or there is no engine.
    """
    try:
        import docker
        import docker.errors
    except ImportError as error:
        raise Blocked("the Python package docker is missing", hint="run setup_env.py") from error
    try:
        if options.get("host"):
            return docker.DockerClient(base_url=options["host"], timeout=timeout_sec)
        return docker.from_env(timeout=timeout_sec)
    except docker.errors.DockerException as error:
        raise Blocked(
            "the Docker Engine cannot be reached", found=printable(error, 160), hint="start it, and let this user use it"
        ) from error


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """Turn the SDK's errors into ours."""
    import docker.errors
    import requests.exceptions

    try:
        yield
    except docker.errors.APIError as error:
        text = printable(error.explanation or error, 240)
        hint = "read the engine's message"
        if "device driver" in text or "nvidia" in text.lower():
            hint = "install the NVIDIA Container Toolkit on the engine's host"
        raise Blocked("the Docker Engine refused the job", found=text, hint=hint) from error
    except requests.exceptions.RequestException as error:
        raise Blocked("the Docker Engine does not answer", found=printable(error, 160), hint="start it") from error
    except docker.errors.DockerException as error:
        raise Blocked(
            "the Docker Engine cannot be reached", found=printable(error, 160), hint="start it, and let this user use it"
        ) from error


def probe(options: Mapping[str, str]) -> list[Finding]:
    """Read-only look at the engine: does it answer, can it give GPUs."""
    try:
        client = connect(options)
        info = client.info()
    except Blocked as error:
        return [Finding("missing", f"{error.message} {error.found}".strip(), error.hint)]
    except Exception as error:  # whatever the SDK raises: the probe reports, it does not fail
        return [Finding("missing", f"the Docker Engine does not answer: {printable(error, 120)}", "start it")]
    found = [
        Finding(
            "ok",
            f"Docker Engine {printable(info.get('ServerVersion'))}, {printable(info.get('Driver'))}, "
            f"{info.get('NCPU')} processors, {(info.get('MemTotal') or 0) / 2**30:.0f} GiB",
        )
    ]
    if _gives_gpus(info):
        found.append(Finding("ok", "NVIDIA Container Toolkit is known to the engine"))
    else:
        found.append(
            Finding(
                "warn" if gpus.inventory() else "ok",
                "the engine does not know NVIDIA's runtime",
                "install the NVIDIA Container Toolkit and restart the engine",
                blocks_gpus=True,
            )
        )
    return found


def _gives_gpus(info: Mapping[str, Any]) -> bool:
    """Whether containers can ask for GPUs: a configured runtime, a CDI device, or the hook that ``--gpus`` looks for.

    ``CDISpecDirs`` says nothing: newer engines always list those folders.
    """
    devices = (str(d.get("ID")) for d in info.get("DiscoveredDevices") or ())
    return (
        "nvidia" in (info.get("Runtimes") or ())
        or any(d.startswith("nvidia.com/gpu") for d in devices)
        or shutil.which("nvidia-container-runtime-hook") is not None
    )
