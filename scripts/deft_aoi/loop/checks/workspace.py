"""Checks 1, 8 and 10: is the workspace whole, does an unfinished run wait in it, and is there room for this one."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from deft_aoi.contract import spec as specs
from deft_aoi.contract.errors import Blocked, DeftError, HardStop
from deft_aoi.contract.text import shown_label
from deft_aoi.loop.checks.session import Checklist
from deft_aoi.loop.config import RunConfig

SPACE_FACTOR = 1.2
"""Free space must be this many times the estimate."""


def check_workspace(session: Checklist) -> None:
    """Check 1: the files of the data contract, the file system, and runs to resume."""
    ws = session.workspace
    missing = [p for p in (ws.baseline_spec, ws.training_csv, ws.validation_csv, ws.kpi_csv, ws.pool_csv) if not p.is_file()]
    if missing:
        raise HardStop(
            "the workspace is not complete",
            expected="specs/baseline_spec.yaml, train/base/*.csv, kpi/testing_set.csv, augmentation/mining_pool/mining_pool.csv",
            found="missing: " + ", ".join(ws.rel(p) for p in missing),
            hint="make_workspace.py builds one from your data; check_data.py lists what is missing",
        )
    from deft_aoi.record import file_system

    probe = file_system.describe(ws.root)
    session.add(1, "warn" if probe.network else "ok", f"workspace on {probe.text}")
    unfinished = [r for r in sorted(ws.results.glob("run_*")) if (r / "loop_log.jsonl").exists() and not _finished(r)]
    if unfinished:
        session.resume = str(unfinished[-1])
        session.add(1, "warn", f"an unfinished run exists: {unfinished[-1].name}", f"run_loop.py --results-dir {unfinished[-1]}")


def _finished(run: Path) -> bool:
    from deft_aoi.record import log, status

    try:
        return status.is_over(log.load_state(run))
    except DeftError:
        return True  # a damaged record is not resumed; verify_run.py and repair_run.py are for it


def check_pairs(session: Checklist) -> None:
    """Check 8: the pre-generated pairs, counted by defect type."""
    from deft_aoi.mining import pregen_scan

    found = pregen_scan.scan(session.workspace, specs.lights(session.spec), specs.image_ext(session.spec))
    session.staging = {"pairs": len(found.pairs), "by_type": found.counts_by_type, "present": found.present}
    types = ", ".join(f"{shown_label(k, 20)} {v}" for k, v in list(found.counts_by_type.items())[:9])
    session.add(8, "ok" if found.pairs else "warn", f"{len(found.pairs)} pre-generated pairs" + (f": {types}" if types else ""))


def check_space(session: Checklist, config: RunConfig) -> None:
    """Check 10: what will be staged and kept, and whether it fits."""
    from deft_aoi.loop.estimate import disk_bytes, duration_sec

    rows = {name: len(s.frame) for name, s in session.splits.items()}
    need = disk_bytes(session.workspace, session.spec, config, session.staging.get("pairs", 0))
    free = shutil.disk_usage(session.workspace.root).free
    session.staging |= {"disk_bytes": need, "duration_sec": duration_sec(config, rows)}
    if free < SPACE_FACTOR * need:
        raise HardStop(
            "not enough free space for this run",
            expected=f"{SPACE_FACTOR * need / 1e9:.1f} GB (1.2 × the estimate)",
            found=f"{free / 1e9:.1f} GB free on the workspace's file system",
            hint="free space, or lower --max-iterations or --training-epochs",
        )
    if not os.access(session.workspace.root, os.W_OK):
        raise Blocked("the workspace cannot be written", hint="results/ is created in it: fix its permissions")
    session.add(10, "ok", f"about {need / 1e6:.0f} MB of disk, {free / 1e9:.0f} GB free")
