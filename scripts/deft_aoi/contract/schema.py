"""JSON Schemas of every file and log line that the project writes; checked on write and on read."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

from deft_aoi.contract.errors import HardStop
from deft_aoi.contract.files import atomic_write_json, read_json
from deft_aoi.contract.safe_open import StrPath
from deft_aoi.contract.text import quoted


def bundle_root() -> Path:
    """The folder that holds ``specs/``, ``schemas/`` and ``scripts/``: the checkout, or the installed package's data.

    In a checkout (and in a plugin) the package is ``<root>/scripts/deft_aoi``; in a wheel the data lies in
    ``deft_aoi/_bundle``.
    """
    package = Path(__file__).resolve().parents[1]
    data = package / "_bundle"
    return data if data.is_dir() else package.parents[1]


def schema_path(name: str) -> Path:
    """Path of ``schemas/<name>.schema.json``."""
    return bundle_root() / "schemas" / f"{name}.schema.json"


@lru_cache(maxsize=64)
def _validator(name: str) -> Any:
    from jsonschema import Draft202012Validator

    path = schema_path(name)
    if not path.is_file():
        raise HardStop(f"the schema {name} is missing from the bundle", expected=str(path), hint="reinstall the skill")
    schema = read_json(path, what=f"schema {name}")
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


def validate(obj: Any, name: str) -> None:
    """Check ``obj`` against ``schemas/<name>.schema.json``.

    Raises:
        HardStop: the first violation, with its JSON path.
    """
    errors = sorted(_validator(name).iter_errors(obj), key=lambda e: (len(e.absolute_path), list(map(str, e.absolute_path))))
    if errors:
        first = errors[0]
        where = "/" + "/".join(str(p) for p in first.absolute_path)
        raise HardStop(
            f"the {name} record breaks its schema at {quoted(where)}",
            expected=quoted(f"{first.validator}: {first.validator_value}", 200),
            found=quoted(first.instance, 120),
            hint="write it with the command that makes it, not by hand",
        )


def write_checked(path: StrPath, obj: Any, name: str) -> None:
    """Validate, then write atomically."""
    validate(obj, name)
    atomic_write_json(path, obj)


def read_checked(path: StrPath, name: str) -> Any:
    """Read, then validate."""
    obj = read_json(path, what=f"{name} file")
    validate(obj, name)
    return obj
