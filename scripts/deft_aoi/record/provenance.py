"""Which files of a run its record vouches for, and by which digest.

A stage's event names the digest of its folder's manifest, which names every file; some events name files themselves. So a
changed file is found even where somebody changed the manifest with it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from deft_aoi.contract.errors import HardStop
from deft_aoi.contract.files import sha256_file
from deft_aoi.contract.manifests import MANIFEST_NAME, read_manifest
from deft_aoi.contract.paths import RunPaths
from deft_aoi.contract.schema import read_checked
from deft_aoi.contract.stages import BY_NAME, EVALUATE_MANIFEST

SPECS = "run/specs/"

Event = dict[str, Any]


class RecordedDigest(NamedTuple):
    """A digest on record, and the stage whose event names it."""

    digest: str
    stage: str


def latest_ok_data(events: list[Event]) -> dict[tuple[str, str], dict[str, Any]]:
    """``(label, stage)`` → ``data`` of its newest ``ok`` event; one that was logged by hand vouches for nothing."""
    return {(e["iter"], e["stage"]): e["data"] for e in events if e["status"] == "ok" and "said" not in e["data"]}


def is_on_record(path: Any, digest: str | None) -> bool:
    """Whether the file is there with the recorded digest; a record that names none vouches for nothing."""
    return digest is None or (path.is_file() and not path.is_symlink() and sha256_file(path) == digest)


def on_record(run: RunPaths, events: list[Event]) -> dict[str, RecordedDigest]:
    """Path below the run → what the newest event says of it. An event that was logged by hand vouches for nothing."""
    found: dict[str, RecordedDigest] = {}
    for event in events:
        if event["status"] != "error" and "said" not in event["data"]:
            found |= {path: RecordedDigest(str(digest), event["stage"]) for path, digest in _names(run, event).items()}
    return found


def _names(run: RunPaths, event: Event) -> dict[str, Any]:
    data, label, stage = event["data"], event["iter"], event["stage"]
    given = data.get("files")
    files: dict[str, Any] = given if isinstance(given, dict) else {}
    if event["status"] == "started":
        return {path: digest for path, digest in files.items() if path.startswith(SPECS)}
    spec = BY_NAME[stage]
    out = {path: digest for path, digest in files.items() if path in spec.rewrites}
    names = {key: path for key, path in spec.digest_keys}
    if spec.publishes and (label == "run") == (spec.scope == "run"):
        names[spec.manifest_key] = run.rel(run.stage_dir(label, stage) / spec.publishes)
    return out | {path: data[key] for key, path in names.items() if key in data}


def digests(run: RunPaths, events: list[Event], *, stage: str = "") -> dict[str, str]:
    """Path relative to the run → SHA-256, for every file that the record vouches for, or that the events of ``stage`` do.

    Where a manifest or a voucher is not the one on record, it is in the result with the digest that it should have, and
    what it lists is not. What an event names itself stands above what a manifest lists.
    """
    named = {path: it.digest for path, it in on_record(run, events).items() if stage in ("", it.stage)}
    out: dict[str, str] = {}
    for path, digest in named.items():
        if path.endswith((MANIFEST_NAME, EVALUATE_MANIFEST)) and is_on_record(run.root / path, digest):
            files = files_in_manifest(run.root / path).items()
            out |= {run.rel((run.root / path).parent / name): sha for name, sha in files if sha}
    return out | named


def files_in_manifest(path: Path) -> dict[str, str]:
    """What a manifest or a voucher lists, relative to its folder, by SHA-256; empty for a link, which has a target instead."""
    if path.name == MANIFEST_NAME:
        return {e["path"]: e.get("sha256", "") for e in read_manifest(path.parent)["files"]}
    files: dict[str, str] = read_checked(path, "evaluate")["files"]
    return files


def require(run: RunPaths, events: list[Event], *names: str) -> None:
    """Stop when one of these files (relative to the run) is not the one on record.

    Raises:
        HardStop: names the first.
    """
    known = digests(run, events)
    for name in names:
        if not is_on_record(run.root / name, known.get(name)):
            raise HardStop(
                f"{name} is not the file on record",
                expected=f"sha256 {known[name][:16]}",
                found="another file" if (run.root / name).is_file() else "no file",
                hint="restore it; verify_run.py tells what else does not hold",
            )
