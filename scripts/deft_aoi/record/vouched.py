"""Which files of a run its record vouches for, and by which digest.

A stage's event names the digest of its folder's manifest, which names every file; some events name files themselves. So a
changed file is found even where somebody changed the manifest with it.
"""

from __future__ import annotations

from typing import Any

from deft_aoi.contract.errors import HardStop
from deft_aoi.contract.files import read_json, sha256_file
from deft_aoi.contract.manifests import MANIFEST_NAME, read_manifest
from deft_aoi.contract.paths import RunPaths

VOUCHER = "_EVALUATE.json"
"""What the evaluate stage leaves beside the scored sets: its own files by digest."""

WRITERS = ("data_mining", "rca", "handoff")
"""Stages whose events vouch for single files (``data["files"]``)."""

Event = dict[str, Any]


def finished(events: list[Event]) -> dict[tuple[str, str], dict[str, Any]]:
    """``(label, stage)`` → ``data`` of its newest ``ok`` event; one that was logged by hand vouches for nothing."""
    return {(e["iter"], e["stage"]): e["data"] for e in events if e["status"] == "ok" and "said" not in e["data"]}


def is_on_record(path: Any, digest: str | None) -> bool:
    """Whether the file is there with the recorded digest; a record that names none vouches for nothing."""
    return digest is None or (path.is_file() and not path.is_symlink() and sha256_file(path) == digest)


def digests(run: RunPaths, events: list[Event]) -> dict[str, str]:
    """Path relative to the run → SHA-256, for every file that the record vouches for.

    Where a manifest or a voucher is not the one on record, it is in the result with the digest that it should have, and
    what it lists is not.
    """
    out: dict[str, str] = {}
    for (label, stage), data in finished(events).items():
        if manifest := data.get("manifest"):
            out |= _listed(run, run.stage_dir(label, stage) / MANIFEST_NAME, manifest)
        if stage == "evaluate" and "voucher" in data:
            out |= _listed(run, run.stage_dir(label, "inference") / VOUCHER, data["voucher"])
        files = data.get("files")
        for name, digest in (files if isinstance(files, dict) and stage in WRITERS else {}).items():
            out |= _listed(run, run.root / name, digest) if name.endswith(MANIFEST_NAME) else {name: digest}
        named = {
            "plan_sha256": run.plan,
            "best_model_sha256": run.best_model,
            "best_spec_sha256": run.best_spec,
            "spec_sha256": run.run / "specs" / f"{label}-train.yaml",
        }
        out |= {run.rel(path): data[key] for key, path in named.items() if key in data}
    return out


def _listed(run: RunPaths, path: Any, digest: str) -> dict[str, str]:
    """The vouching file itself, and what it lists where it is the one on record."""
    out = {run.rel(path): digest}
    if not is_on_record(path, digest):
        return out
    if path.name == MANIFEST_NAME:
        files = {e["path"]: e["sha256"] for e in read_manifest(path.parent)["files"] if "sha256" in e}
    else:
        files = read_json(path, what="voucher")["files"]
    return out | {run.rel(path.parent / name): sha for name, sha in files.items()}


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
