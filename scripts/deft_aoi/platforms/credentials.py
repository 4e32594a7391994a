"""Which credentials a run needs, and whether they are there: presence only, never a value."""

from __future__ import annotations

import os
import re
from collections.abc import MutableMapping
from pathlib import Path

from deft_aoi.contract.errors import HardStop
from deft_aoi.contract.files import open_file

KNOWN = ("NGC_API_KEY", "NGC_KEY", "HF_TOKEN")
_MAX_BYTES = 1 << 16


def needed(
    platform: str, engine: str, encoder: str, *, air_gapped: bool = False, pulls: bool = True, fetches: bool = True
) -> list[tuple[str, ...]]:
    """Credentials that this run may need, each as the names of which one is enough.

    Args:
        platform: where jobs run.
        engine: what answers.
        encoder: the mining encoder; SigLIP is fetched from a model hub, the others are ours.
        air_gapped: nothing is fetched, so nothing is needed.
        pulls: an image is not here yet.
        fetches: weights are not here yet.
    """
    if air_gapped:
        return []
    names: list[tuple[str, ...]] = []
    if pulls and engine == "tao" and platform != "local":
        names.append(("NGC_API_KEY", "NGC_KEY"))
    if fetches and (engine == "tao" or encoder.lower() in ("siglip", "clip")):
        names.append(("HF_TOKEN",))
    return names


def read_file(path: Path) -> dict[str, str]:
    """Read a credentials file: bare ``KEY=value`` lines, ``export`` and quotes allowed, no expansion.

    Only the known names are taken, and an empty value counts as absent: the template's empty lines must never override a
    good value of the environment.
    """
    try:
        with os.fdopen(open_file(path), "rb") as handle:
            text = handle.read(_MAX_BYTES).decode("utf-8-sig", "replace")
    except (OSError, HardStop):  # absent, not ours to read, or no file at all: a FIFO is not waited for
        return {}
    found = {}
    for line in text.splitlines():
        key, sep, value = line.strip().removeprefix("export ").partition("=")
        value = value.strip()
        if value[:1] in ("'", '"') and value.find(value[0], 1) > 0:
            value = value[1 : value.find(value[0], 1)].strip()
        else:  # a comment behind a value needs a space before it
            value = re.split(r"(?:^|\s)#", value, maxsplit=1)[0].strip()
        if sep and key.strip() in KNOWN and value and not value.startswith("$"):
            found[key.strip()] = value
    return found


def present(env_file: Path) -> set[str]:
    """Names of the known credentials that the environment or the file holds."""
    return {n for n in KNOWN if os.environ.get(n, "").strip()} | set(read_file(env_file))


def load(env_file: Path, environment: MutableMapping[str, str] | None = None) -> list[str]:
    """Put the file's credentials into the environment where it has none; returns the names that were added."""
    target = os.environ if environment is None else environment
    added = []
    for name, value in read_file(env_file).items():
        if not target.get(name, "").strip():
            target[name] = value
            added.append(name)
    return added
