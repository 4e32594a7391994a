"""The spec that an iteration was trained with: later stages derive theirs from it, so it must be the one on record."""

from __future__ import annotations

from pathlib import Path

from deft_aoi.contract.errors import HardStop
from deft_aoi.contract.files import sha256_file
from deft_aoi.contract.paths import RunPaths
from deft_aoi.record import log


def training_spec_path(run: RunPaths, label: str) -> Path:
    """Where the training spec of iteration ``label`` lies; absent for an adopted baseline, which has none of its own.

    Raises:
        HardStop: the file is not the one that the training's event names, or it is gone.
    """
    path = run.run / "specs" / f"{label}-train.yaml"
    recorded = ""
    for event in log.read(run.root):
        if (event["iter"], event["stage"], event["status"]) == (label, "train", "ok"):
            recorded = event["data"].get("spec_sha256", "")
    if recorded and (not path.is_file() or sha256_file(path) != recorded):
        raise HardStop(
            f"the training spec of {label} is not the one on record",
            expected=f"sha256 {recorded[:16]}",
            found=str(path),
            hint="restore it, or verify_run.py for the whole picture",
        )
    return path
