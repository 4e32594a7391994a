"""Publishing a stage's folder: work aside, vouch for it, rename it, and find it again after a crash.

``<final>.tmp-<n>/`` holds the work of an attempt. The manifest is written last and names the digest of the inputs, so a
folder with a manifest is whole, and one for other inputs is not taken for this stage's. The rename is the publication.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from deft_aoi.contract.errors import HardStop
from deft_aoi.contract.files import atomic_write_text, fsync_dir, fsync_tree, sha256_file
from deft_aoi.contract.manifests import MANIFEST_NAME, read_manifest, verify_manifest, write_manifest
from deft_aoi.record.log_file import error_from_os

StrPath = str | os.PathLike[str]
_MARK = ".inputs"


# Left by an atomic write that was killed (contract.files names them so): never part of what is published.
TEMPORARY = re.compile(r"\..+\.[0-9]+\.tmp")


@contextlib.contextmanager
def _refusing(what: str) -> Iterator[None]:
    """Make the operating system's refusal an error that says what to do; nothing was published by halves."""
    try:
        yield
    except OSError as error:
        raise error_from_os(error, what) from error


def _attempts(final: str) -> list[tuple[int, str]]:
    parent, name = os.path.split(final)
    pattern = re.compile(re.escape(name) + r"\.tmp-([0-9]+)")
    if not os.path.isdir(parent):
        return []
    found = ((pattern.fullmatch(entry), entry) for entry in os.listdir(parent))
    return sorted((int(m[1]), os.path.join(parent, entry)) for m, entry in found if m)


@_refusing("preparing a stage's folder")
def attempt_dir(final: StrPath, *, inputs_digest: str = "") -> str:
    """The folder to work in: the unfinished attempt for the same inputs, else a new one.

    An attempt for other inputs is set aside as ``<final>.stale`` (the newest only).
    """
    target = os.fspath(final)
    os.makedirs(os.path.dirname(target), exist_ok=True)
    attempts = _attempts(target)
    _sweep_unfinished_marks(target)
    number = attempts[-1][0] if attempts else 0
    for _number, path in attempts:
        if path == attempts[-1][1] and _marked(path) == inputs_digest:
            _unlink(os.path.join(path, MANIFEST_NAME))  # it vouches for nothing while work goes on
            return path
        _unlink(path + _MARK)
        _quarantine(path, target)
    path = f"{target}.tmp-{number + 1}"
    atomic_write_text(path + _MARK, inputs_digest)
    os.mkdir(path)
    fsync_dir(os.path.dirname(target))
    return path


def _quarantine(path: str, target: str) -> None:
    """Keep ``path`` as ``<target>.stale``; an older one goes."""
    stale = f"{target}.stale"
    if os.path.isdir(stale) and not os.path.islink(stale):
        shutil.rmtree(stale)
    else:
        _unlink(stale)
    os.rename(path, stale)


def _marked(path: str) -> str | None:
    try:
        with open(path + _MARK, encoding="ascii") as handle:
            return handle.read()
    except (OSError, UnicodeDecodeError):
        return None


@_refusing("clearing up after a killed stage")
def sweep_temporaries(folder: StrPath) -> None:
    """Delete what atomic writes left that were killed; for a driver, who alone writes into published folders."""
    for parent, _dirs, names in os.walk(folder):
        for name in names:
            if TEMPORARY.fullmatch(name):
                _unlink(os.path.join(parent, name))


def _sweep_marks(target: str) -> None:
    """Marks of attempts that were published: the process was killed after the rename."""
    parent, name = os.path.split(target)
    pattern = re.compile(re.escape(name) + r"\.tmp-[0-9]+" + re.escape(_MARK))
    for entry in os.listdir(parent):
        mark = os.path.join(parent, entry)
        if pattern.fullmatch(entry) and not os.path.isdir(mark.removesuffix(_MARK)):
            _unlink(mark)


def _sweep_unfinished_marks(target: str) -> None:
    """Marks whose atomic write was killed."""
    parent, name = os.path.split(target)
    for entry in os.listdir(parent):
        if TEMPORARY.fullmatch(entry) and entry.startswith(f".{name}.tmp-"):
            _unlink(os.path.join(parent, entry))


@_refusing("publishing a stage's folder")
def publish(tmp: StrPath, final: StrPath, *, inputs_digest: str, extra: dict[str, object] | None = None) -> str:
    """Vouch for the attempt and give it its final name.

    Returns:
        Digest of the manifest.

    Raises:
        HardStop: the final folder exists already, or the device failed.
        Blocked: no space, or no right to write; the same command can be run again.
    """
    source, target = os.fspath(tmp), os.fspath(final)
    _unlink(os.path.join(source, MANIFEST_NAME))
    sweep_temporaries(source)
    fsync_tree(source)
    digest = write_manifest(source, inputs_digest=inputs_digest, extra=extra)
    _require_whole(source)
    fsync_dir(source)
    if os.path.lexists(target):
        raise HardStop("a stage's folder exists already", found=target, hint="verify_run.py tells what it holds")
    os.rename(source, target)
    fsync_dir(os.path.dirname(target))
    _unlink(source + _MARK)
    return digest


def _require_whole(folder: str) -> None:
    """The manifest on disk must name every file: a walk that met a failing device may have passed over some.

    Raises:
        HardStop: it does not; the manifest is taken back.
    """
    try:
        listed = {entry["path"] for entry in read_manifest(folder)["files"]}
        missing = set(_every_file(folder)) - listed
    except (HardStop, OSError):
        _unlink(os.path.join(folder, MANIFEST_NAME))
        raise
    if missing:
        _unlink(os.path.join(folder, MANIFEST_NAME))
        found = f"{len(missing)} files passed over in {folder}"
        raise HardStop("a folder could not be read whole", found=found, hint="check the disk, then run the same command again")


def _every_file(folder: str) -> list[str]:
    """Relative paths of everything that is not a folder; unlike a plain ``os.walk`` it raises where it cannot look."""

    def stop(error: OSError) -> None:
        raise error

    walk = os.walk(folder, onerror=stop)
    found = (os.path.relpath(os.path.join(top, name), folder) for top, _dirs, names in walk for name in names)
    return [rel for rel in found if rel != MANIFEST_NAME]


@_refusing("reading a stage's folder")
def adopt(final: StrPath, *, inputs_digest: str) -> str | None:
    """Take over what an earlier attempt published, or was about to publish, for the same inputs.

    Returns:
        Digest of the manifest; ``None`` when there is nothing to adopt. A folder for other inputs is set aside.

    Raises:
        HardStop: the published folder is not what its manifest says.
    """
    target = os.fspath(final)
    if not os.path.isdir(target):
        whole = next((path for _n, path in reversed(_attempts(target)) if _holds(path, inputs_digest)), None)
        if whole is None:
            return None
        fsync_tree(whole)
        os.rename(whole, target)
        fsync_dir(os.path.dirname(target))
    _sweep_marks(target)
    manifest = os.path.join(target, MANIFEST_NAME)
    if not os.path.exists(manifest) or read_manifest(target).get("inputs_digest") != inputs_digest:
        _quarantine(target, target)
        return None
    problems = verify_manifest(target)
    if problems:
        raise HardStop(
            "a published folder is not what its manifest says",
            expected=target,
            found="; ".join(problems[:5]),
            hint="restore it, or remove the folder to have the stage done again",
        )
    # The rename may have been the last thing that a killed process did: the folder's name must be durable, too.
    fsync_dir(os.path.dirname(target))
    return sha256_file(manifest)


def _holds(path: str, inputs_digest: str) -> bool:
    """Whether an unpublished attempt was vouched for: only its rename is missing."""
    if not os.path.exists(os.path.join(path, MANIFEST_NAME)):
        return False
    try:
        return read_manifest(path).get("inputs_digest") == inputs_digest and not verify_manifest(path)
    except HardStop:
        return False


def _unlink(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


def publish_digest(folder: Path) -> str:
    """Digest of the folder's manifest file."""
    return sha256_file(folder / "_MANIFEST.json")
