"""What vouches for a folder: every file with its size and digest, written last.

Paths are plain strings: descriptors and ``lstat`` rule here, and the record's start must not pay for pathlib.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, Any

from deft_aoi.contract.errors import HardStop
from deft_aoi.contract.files import atomic_write_json, raise_unreadable, read_json, sha256_file
from deft_aoi.contract.stages import MANIFEST

if TYPE_CHECKING:
    from deft_aoi.contract.safe_open import StrPath

MANIFEST_NAME = MANIFEST


def list_files(root: StrPath) -> list[str]:
    """Relative POSIX paths of every entry under ``root`` that is no real folder, sorted; the manifest itself left out.

    Raises:
        OSError: a folder under ``root`` cannot be read; its files would be missing without a word.
    """
    top, found = os.fspath(root), []
    for folder, dirs, names in os.walk(top, onerror=raise_unreadable):
        for name in [*names, *(d for d in dirs if os.path.islink(os.path.join(folder, d)))]:
            rel = os.path.relpath(os.path.join(folder, name), top)
            if rel != MANIFEST_NAME:
                found.append(rel)
    return sorted(found)


def _entry(root: str, rel: str) -> dict[str, Any]:
    full = os.path.join(root, rel)
    if os.path.islink(full):
        link = os.readlink(full)
        if os.path.isabs(link) or ".." in link.split(os.sep):
            raise HardStop(
                f"symbolic link leaves its folder: {rel}",
                found=link,
                hint="remove the link, or put a copy of the data there",
            )
        return {"path": rel, "link": link}
    if not stat.S_ISREG(os.lstat(full).st_mode):
        raise HardStop(
            f"a special file is in a stage's folder: {rel}",
            found="a FIFO, a socket or a device",
            hint="remove it: a job writes plain files only",
        )
    return {"path": rel, "size": os.stat(full).st_size, "sha256": sha256_file(full)}


def require_plain(root: StrPath) -> None:
    """Stop when something lies under ``root`` that is no file, folder or link within its own folder.

    Raises:
        HardStop: a link that leaves its folder (reading or copying it would bring in what lies elsewhere), or a special file.
    """
    top = os.fspath(root)
    for rel in list_files(top):
        full = os.path.join(top, rel)
        if os.path.islink(full) or not os.path.isfile(full):
            _entry(top, rel)


def write_manifest(root: StrPath, *, inputs_digest: str, extra: dict[str, Any] | None = None) -> str:
    """Vouch for every file under ``root``; written last, so that its presence means that the folder is whole.

    Args:
        root: the folder.
        inputs_digest: digest of everything that the content was made from.
        extra: further facts to keep.

    Returns:
        Hex SHA-256 of the manifest file.
    """
    top = os.fspath(root)
    body = {
        "version": 1,
        "inputs_digest": inputs_digest,
        "files": [_entry(top, rel) for rel in list_files(top)],
        "extra": extra or {},
    }
    atomic_write_json(os.path.join(top, MANIFEST_NAME), body)
    return sha256_file(os.path.join(top, MANIFEST_NAME))


def read_manifest(root: StrPath) -> dict[str, Any]:
    """Read the folder's manifest.

    Raises:
        HardStop: there is none, or it is damaged.
    """
    body = read_json(os.path.join(root, MANIFEST_NAME), what="folder manifest")
    if not isinstance(body, dict) or not isinstance(body.get("files"), list):
        raise HardStop(
            "folder manifest is damaged",
            found=os.path.join(root, MANIFEST_NAME),
            hint="verify_run.py says what else is; run the stage again from a backup of the folder",
        )
    return body


def verify_manifest(root: StrPath) -> list[str]:
    """Compare the folder with its manifest.

    Returns:
        One line for each thing that does not hold; an empty list means that the folder is as it was published.
    """
    top = os.fspath(root)
    listed = {entry["path"]: entry for entry in read_manifest(top)["files"]}
    problems = [f"not in the manifest: {rel}" for rel in list_files(top) if rel not in listed]
    for rel, entry in listed.items():
        full = os.path.join(top, rel)
        if not os.path.lexists(full):
            problems.append(f"missing: {rel}")
        elif _entry(top, rel) != entry:
            problems.append(f"changed: {rel}")
    return problems
