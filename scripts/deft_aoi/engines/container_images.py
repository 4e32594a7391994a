"""Which image answers a command: ``specs/versions.yaml``, the user's skill bank, the platform's options."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from deft_aoi.contract import spec as specs
from deft_aoi.contract.errors import Blocked, HardStop, UsageError
from deft_aoi.contract.paths import given
from deft_aoi.contract.schema import bundle_root
from deft_aoi.contract.text import quoted

_KEY = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")
_REFERENCE = re.compile(r"[a-z0-9][A-Za-z0-9._:/@-]{0,254}")
_DIGEST = re.compile(r"@(sha256:[0-9a-f]{64})$")
_TOOLS = ("visual_changenet", "embedding")


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
        raise UsageError("not a key", expected="dotted names, as in images.tao_toolkit.pyt", found=quoted(key))
    path = versions_file(bank)
    value = specs.get(specs.load_spec(given(path), what="versions file"), key)
    if isinstance(value, Mapping) and "reference" in value:
        value = value["reference"]
    if value is None or isinstance(value, Mapping | list):
        raise HardStop(f"{path.name} has no single value at {key}", found=quoted(value), hint=f"see {path}")
    return str(value)


def check_reference(reference: str) -> str:
    """Return an image reference that names a tag or a digest.

    Raises:
        HardStop: malformed, or neither tag nor digest (that would mean "whatever is newest").
    """
    last = reference.rpartition("/")[2]
    if not _REFERENCE.fullmatch(reference) or (":" not in last and "@" not in last):
        raise HardStop("an image reference is malformed", expected="name:tag or name@sha256:…", found=quoted(reference))
    return reference


def resolve_for(platform: str, engine: str, options: Mapping[str, str] | None = None) -> dict[str, dict[str, Any]]:
    """The images that a run needs; nobody is asked for them.

    Args:
        platform: where jobs run.
        engine: what answers.
        options: the platform's options: ``image`` and ``embedding_image`` override the file.

    Returns:
        By tool: ``reference``, ``digest`` (where the reference names it) and ``id``, which is ``None`` until the Docker
        Engine has been asked. Empty where jobs run without an image.
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
    return {tool: dict(found[reference]) for tool, reference in wanted.items()}


def pinned_image(image: Mapping[str, Any], events: Iterable[Mapping[str, Any]]) -> str | None:
    """The id or digest that a job's image must have: the plan's, else that of the image which the assets stage pulled.

    Args:
        image: an entry of the plan's ``images``; empty where the job runs from none.
        events: the record.
    """
    pinned = image.get("id") or image.get("digest")
    if pinned or not image:
        return pinned
    for event in events:
        if event["stage"] == "assets" and event["status"] == "ok":
            pinned = (event["data"].get("image_ids") or {}).get(image["reference"]) or pinned
    return pinned
