"""Whether an image is in the Docker Engine, what it is, and its pull after approval."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from deft_aoi.contract.errors import Blocked, HardStop
from deft_aoi.contract.text import printable, quoted
from deft_aoi.platforms.docker_engine import connect

REGISTRY_TIMEOUT_SEC = 20

Images = Mapping[str, Mapping[str, Any]]
"""By tool: ``reference``, ``id``, ``digest``; see :func:`deft_aoi.engines.container_images.resolve_for`."""


def look_up(images: Images, options: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """The images with what the engine and the registry know of them; read-only.

    Args:
        images: what is wanted.
        options: the platform's options; ``host`` names another engine than the environment's.

    Returns:
        The same, with the ``id`` of what the engine holds, else the registry's ``digest`` where that tells it.
    """
    found = {tool: dict(entry) for tool, entry in images.items()}
    try:
        client = connect(options, timeout_sec=REGISTRY_TIMEOUT_SEC)
    except Blocked:
        return found  # the platform's own probe says so
    import docker.errors
    import requests.exceptions

    for reference in dict.fromkeys(entry["reference"] for entry in found.values()):
        same = [entry for entry in found.values() if entry["reference"] == reference]
        try:
            told = {"id": client.images.get(reference).id}
        except docker.errors.ImageNotFound:
            told = {"digest": same[0]["digest"] or _registry_digest(client, reference)}
        except (docker.errors.DockerException, requests.exceptions.RequestException):
            return found
        for entry in same:
            entry.update(told)
    return found


def _registry_digest(client: Any, reference: str) -> str | None:
    import docker.errors
    import requests.exceptions

    try:
        return str(client.images.get_registry_data(reference).id)
    except (docker.errors.DockerException, requests.exceptions.RequestException):
        return None  # no network, or the registry wants a log-in: pinned after the pull


def ensure_present(images: Images, options: Mapping[str, str]) -> tuple[list[str], dict[str, str]]:
    """Pull what is missing; only after approval. The registry's password goes through the engine's API, never an argument.

    Returns:
        ``(references that were pulled, id by reference)``.

    Raises:
        Blocked: the pull failed, or the image has to be built first.
        HardStop: what came is not what the plan pinned.
    """
    client, pulled, ids = connect(options), [], {}
    import docker.errors
    import requests.exceptions

    for entry in {e["reference"]: e for e in images.values()}.values():
        reference, pinned = entry["reference"], entry.get("id") or entry.get("digest")
        try:
            image = client.images.get(reference)
        except docker.errors.ImageNotFound:
            if "/" not in reference:
                raise Blocked(f"the image {reference} is not here", hint="build it from packaging/docker/Dockerfile") from None
            try:
                image = client.images.pull(reference, auth_config=_login(reference))
            except (docker.errors.DockerException, requests.exceptions.RequestException) as error:
                raise Blocked(
                    f"the image {reference} cannot be pulled",
                    found=printable(error, 200),
                    hint="check the network, NGC_API_KEY, and the name",
                ) from error
            pulled.append(reference)
        known = {image.id, *(d.rpartition("@")[2] for d in image.attrs.get("RepoDigests") or ())}
        if pinned and pinned not in known:
            raise HardStop(
                f"the image {reference} is not the approved one",
                expected=str(pinned),
                found=quoted(image.id),
                hint="run the pre-flight again",
            )
        ids[reference] = str(image.id)
    return pulled, ids


def _login(reference: str) -> dict[str, str] | None:
    key = os.environ.get("NGC_API_KEY", "").strip() or os.environ.get("NGC_KEY", "").strip()
    return {"username": "$oauthtoken", "password": key} if key and reference.startswith("nvcr.io/") else None
