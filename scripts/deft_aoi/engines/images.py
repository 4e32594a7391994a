"""Which image answers a command, and whether it is here: ``specs/versions.yaml``, the user's bank, Docker (read-only)."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deft_aoi.contract import spec as specs
from deft_aoi.contract.errors import Blocked, HardStop, UsageError
from deft_aoi.contract.paths import given
from deft_aoi.contract.schema import bundle_root
from deft_aoi.contract.text import plain_text, safe_text

_KEY = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")
_REFERENCE = re.compile(r"[a-z0-9][A-Za-z0-9._:/@-]{0,254}")
_DIGEST = re.compile(r"@(sha256:[0-9a-f]{64})$")
_TOOLS = ("visual_changenet", "embedding")
_REGISTRY_TIMEOUT_SEC = 20


def versions_file(bank: str | None = None) -> Path:
    """The file with the image references: the user's skill bank's, else our own.

    Args:
        bank: a skill bank's folder; ``None`` means ``$TAO_SKILL_BANK_PATH`` where it is set and has a ``versions.yaml``.

    Raises:
        Blocked: a bank was given that has no such file.
    """
    if bank is not None:
        path = Path(bank).expanduser() / "versions.yaml"
        if not path.is_file():
            raise Blocked("the skill bank has no versions.yaml", expected=str(path), hint="check --skill-bank")
        return path
    set_by_user = os.environ.get("TAO_SKILL_BANK_PATH")
    if set_by_user and (Path(set_by_user).expanduser() / "versions.yaml").is_file():
        return Path(set_by_user).expanduser() / "versions.yaml"
    return bundle_root() / "specs" / "versions.yaml"


def resolve_key(key: str, bank: str | None = None) -> str:
    """The value of a dotted key such as ``images.tao_toolkit.pyt``.

    Raises:
        UsageError: not a dotted key.
        HardStop: the file has no such key, or its value is not one reference.
        Blocked: there is no versions file.
    """
    if not _KEY.fullmatch(key):
        raise UsageError("not a key", expected="dotted names, as in images.tao_toolkit.pyt", found=safe_text(key))
    path = versions_file(bank)
    value = specs.get(specs.load_spec(given(path), what="versions file"), key)
    if isinstance(value, Mapping) and "reference" in value:
        value = value["reference"]
    if value is None or isinstance(value, Mapping | list):
        raise HardStop(f"{path.name} has no single value at {key}", found=safe_text(value), hint=f"see {path}")
    return str(value)


def check_reference(reference: str) -> str:
    """Return an image reference that names a tag or a digest.

    Raises:
        HardStop: malformed, or neither tag nor digest (that would mean "whatever is newest").
    """
    last = reference.rpartition("/")[2]
    if not _REFERENCE.fullmatch(reference) or (":" not in last and "@" not in last):
        raise HardStop("an image reference is malformed", expected="name:tag or name@sha256:…", found=safe_text(reference))
    return reference


def resolve_for(platform: str, engine: str, options: Mapping[str, str] | None = None) -> dict[str, dict[str, Any]]:
    """The images that a run needs, without pulling or logging in.

    Args:
        platform: where jobs run.
        engine: what answers.
        options: the platform's options: ``image`` and ``embedding_image`` override the file; ``host`` for Docker.

    Returns:
        By tool: ``reference``, ``id`` (of the image that the Docker Engine holds; ``None`` where it is not here or where it
        cannot be looked at) and ``digest`` (of the registry, where the reference or the registry tells it). Empty where jobs
        run without an image.
    """
    given = dict(options or {})
    if platform == "local" or (platform == "slurm" and "image" not in given and (engine == "embedded" or "tao_python" in given)):
        return {}
    if engine == "embedded":
        reference = given.get("image") or resolve_key("images.deft_aoi.embedded")
        wanted = dict.fromkeys(_TOOLS, reference)
    else:
        wanted = {
            "visual_changenet": given.get("image") or resolve_key("images.tao_toolkit.pyt"),
            "embedding": given.get("embedding_image") or resolve_key("images.tao_toolkit.data_services"),
        }
    found = {}
    for reference in dict.fromkeys(wanted.values()):
        check_reference(reference)
        named = _DIGEST.search(reference)
        found[reference] = {"reference": reference, "id": None, "digest": named[1] if named else None}
    if platform == "docker":
        _look_up(found, given)
    return {tool: dict(found[reference]) for tool, reference in wanted.items()}


def _look_up(found: dict[str, dict[str, Any]], options: Mapping[str, str]) -> None:
    import docker.errors
    import requests.exceptions

    try:
        client = _client(options)
    except Blocked:
        return  # the platform's own probe says so
    for reference, entry in found.items():
        try:
            entry["id"] = client.images.get(reference).id
        except docker.errors.ImageNotFound:
            if entry["digest"] is None:
                entry["digest"] = _registry_digest(client, reference)
        except (docker.errors.DockerException, requests.exceptions.RequestException):
            return


def _registry_digest(client: Any, reference: str) -> str | None:
    import docker.errors
    import requests.exceptions

    try:
        return str(client.images.get_registry_data(reference).id)
    except (docker.errors.DockerException, requests.exceptions.RequestException):
        return None  # no network, or the registry wants a log-in: pinned after the pull


def _client(options: Mapping[str, str]) -> Any:
    try:
        import docker
        import docker.errors
    except ImportError as error:
        raise Blocked("the Python package docker is missing", hint="run setup_env.py") from error
    try:
        if options.get("host"):
            return docker.DockerClient(base_url=options["host"], timeout=_REGISTRY_TIMEOUT_SEC)
        return docker.from_env(timeout=_REGISTRY_TIMEOUT_SEC)
    except docker.errors.DockerException as error:
        raise Blocked("the Docker Engine cannot be reached", found=plain_text(error, 160), hint="start it") from error


def ensure_present(
    platform: str, images: Mapping[str, Mapping[str, Any]], options: Mapping[str, str] | None = None
) -> tuple[list[str], dict[str, str]]:
    """Pull what is missing; only after approval. The registry's password goes through the engine's API, never an argument.

    Returns:
        ``(references that were pulled, id by reference)``; nothing where a scheduler's nodes fetch for themselves.

    Raises:
        Blocked: the pull failed, or the image has to be built first.
        HardStop: what came is not what the plan pinned.
    """
    if platform != "docker":
        return [], {}
    import docker.errors
    import requests.exceptions

    client, pulled, ids = _client(options or {}), [], {}
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
                raise Blocked(f"the image {reference} cannot be pulled", found=plain_text(error, 200),
                              hint="check the network, NGC_API_KEY, and the name") from error
            pulled.append(reference)
        known = {image.id, *(d.rpartition("@")[2] for d in image.attrs.get("RepoDigests") or ())}
        if pinned and pinned not in known:
            raise HardStop(f"the image {reference} is not the approved one", expected=str(pinned), found=safe_text(image.id),
                           hint="run the pre-flight again")
        ids[reference] = str(image.id)
    return pulled, ids


def _login(reference: str) -> dict[str, str] | None:
    key = os.environ.get("NGC_API_KEY", "").strip() or os.environ.get("NGC_KEY", "").strip()
    return {"username": "$oauthtoken", "password": key} if key and reference.startswith("nvcr.io/") else None
