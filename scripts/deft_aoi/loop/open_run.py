"""Opening a run: an approved plan becomes ``results/run_<YYYYMMDD_HHMMSS>/`` with its first event."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from deft_aoi.contract import plans
from deft_aoi.contract.checkpoint_scan import scan_checkpoint
from deft_aoi.contract.commands import command
from deft_aoi.contract.errors import ApprovalNeeded, DeftError, HardStop, RunLocked
from deft_aoi.contract.files import copy_hashed, digest_json, fsync_dir, fsync_tree, sha256_file
from deft_aoi.contract.paths import RunPaths, Workspace, digest_cache_home
from deft_aoi.contract.schema import write_checked
from deft_aoi.contract.text import quoted
from deft_aoi.loop import champion, gate
from deft_aoi.loop.config import RunConfig
from deft_aoi.loop.plan import Plan, require_unchanged
from deft_aoi.record import file_system, lock, log, state, status
from deft_aoi.record.log_file import LOG


def open_run(plan: Plan, *, results_dir: Path | None = None) -> RunPaths:
    """Create the run's folder and write the ``approve`` event (seq 1).

    Args:
        plan: the pending plan; an approval for its digest must be on record.
        results_dir: a folder below ``<workspace>/results`` to use instead of a new ``run_<time>``; it may hold a
            ``deft_state.json`` that an upstream AutoML phase left (its baseline checkpoint is adopted).

    Returns:
        The new run's paths.

    Raises:
        ApprovalNeeded: no approval, or an input changed since.
        RunLocked: a driver works in the workspace, or an unfinished run of this plan exists.
        HardStop: the folder already holds a record, or lies elsewhere.
        Blocked: its file system cannot hold a run.
    """
    with _one_opening():
        return _open_run(plan, results_dir)


def _open_run(plan: Plan, results_dir: Path | None) -> RunPaths:
    workspace = Workspace.at(plan["workspace"])
    require_no_driver(workspace)
    require_no_unfinished(workspace, plan["digest"])
    approval = gate.require_approval(plan["digest"])
    config = RunConfig(plan["config"], plan["sources"])
    warnings = require_unchanged(plan, workspace, config, digest_cache_home())
    run = RunPaths(_folder(workspace, results_dir, approval.get("run")))
    if run.log.exists():
        raise HardStop(
            f"{run.root.name} already has a record", found=str(run.log), hint="continue it with run_loop.py --results-dir"
        )
    plans.consume_approval(approval, str(run.root), opened=False)
    run.jobs.mkdir(parents=True, exist_ok=True)
    run.logs.mkdir(exist_ok=True)
    promised = file_system.require(run.run)
    warnings += [] if promised["flock"] else [file_system.NO_FLOCK]
    write_checked(run.plan, plan, "plan")
    fsync_dir(run.run)
    if champion_said := config.values.get("continue_from"):
        _empty_adopted(run)
        adopted = {"adopted": champion.adopt(run, champion_said)}
        fsync_tree(run.run / "adopted")
    else:
        upstream = _upstream_checkpoint(run, workspace, state.read_imported_state(run.root))
        adopted = {} if upstream is None else {"adopted": _adopt_baseline(run, upstream)}
    data: dict[str, Any] = {
        "plan_digest": plan["digest"],
        "plan_sha256": sha256_file(run.plan),
        "approved_by": approval["how"],
        "approved_at": approval["ts"],
        "config": _on_record(plan["config"]),
        "warnings": warnings[:5],
        **adopted,
        "file_system": {"kind": file_system.describe(run.root).kind, **promised},
    }
    log.append(
        run.root,
        iter_label="run",
        stage="approve",
        status="ok",
        summary=f"plan {plan['digest'][:12]} approved ({approval['how']})",
        data=data,
        op_id="run/approve/1",
    )
    plans.consume_approval(approval, str(run.root), opened=True)
    return run


@contextlib.contextmanager
def _one_opening() -> Iterator[None]:
    """Two commands that open runs at the same time: one after the other, so that one approval opens one run."""
    folder = Path(plans.plans_dir())
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (folder / "opening.lock").open("ab") as handle:
        with contextlib.suppress(OSError):  # a home without locks: the run's folder is still made by one of the two
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _runs(workspace: Workspace) -> list[Path]:
    return [run for run in sorted(workspace.results.glob("*")) if RunPaths(run).log.exists()]


def require_no_driver(workspace: Workspace) -> None:
    """One driver a workspace.

    Raises:
        RunLocked: a driver holds one of its runs.
    """
    for run in _runs(workspace):
        who = lock.holder(run)
        if who is not None:
            raise RunLocked(
                f"a driver is running in this workspace: {run.name}",
                expected="one run at a time",
                found=who,
                hint=f"wait with: {command('run_loop')} --results-dir {run} --wait 500   (or end its job: "
                f"{command('cancel')} --results-dir {run})",
            )


def require_no_unfinished(workspace: Workspace, digest: str) -> None:
    """An unfinished run of this plan is continued, not begun a second time.

    Raises:
        RunLocked: there is one.
    """
    for run in _runs(workspace):
        try:
            view = log.load_state(run)
        except DeftError:
            continue  # a damaged record: verify_run.py and repair_run.py are for it
        if view["plan_digest"] == digest and not status.is_over(view):
            raise RunLocked(
                f"an unfinished run of this plan exists: {run.name}",
                expected="that run continued, or ended",
                found=f"{run}: {view['status']}",
                hint=f"continue it: {command('run_loop')} --results-dir {run}",
            )


def _on_record(config: dict[str, Any]) -> dict[str, Any]:
    """The configuration as one short line can hold it: a metric plan by its digest (``run/plan.json`` has all of it)."""
    return {**config, "metric_plan": digest_json(config["metric_plan"])} if "metric_plan" in config else config


def _folder(workspace: Workspace, results_dir: Path | None, interrupted: str | None) -> Path:
    """The run's folder, made when the approval names it: one that was asked for, of an interrupted opening, or a new one."""
    if results_dir is not None:
        real = Path(os.path.realpath(results_dir))
        if real.parent != workspace.results:
            raise HardStop(
                "the results folder is not below the workspace", expected=f"{workspace.results}/run_<name>", found=str(real)
            )
        links = [name for name in ("run", "run/adopted", "run/jobs", "run/logs", LOG) if (real / name).is_symlink()]
        if links:
            raise HardStop(
                f"{real.name}/{links[0]} is a symbolic link", expected="a run's own files and folders", hint="remove the link"
            )
        return real
    if interrupted and Path(interrupted).parent == workspace.results:
        return Path(interrupted)
    for attempt in range(60):
        folder = workspace.results / time.strftime("run_%Y%m%d_%H%M%S", time.gmtime(time.time() + attempt))
        if not folder.exists():
            return folder
    raise HardStop("no free run name in this minute", found=str(workspace.results))


def _upstream_checkpoint(run: RunPaths, workspace: Workspace, foreign: dict[str, Any] | None) -> Path | None:
    """The baseline checkpoint that an upstream phase left, scanned before anything is recorded; ``None`` means: train.

    Raises:
        ApprovalNeeded: it lies outside the workspace.
        HardStop: its opcodes would do more than build tensors.
    """
    baseline = ((foreign or {}).get("iterations") or {}).get("baseline") or {}
    checkpoint = baseline.get("best_ckpt_path")
    if baseline.get("stage_completed") != "train" or not isinstance(checkpoint, str):
        return None
    source = run.root / checkpoint
    if not source.is_file():
        return None
    real = source.resolve()
    if real.suffix != ".pth":
        raise HardStop("the pre-seeded baseline checkpoint is not a .pth file", found=quoted(real.name))
    try:
        real.relative_to(workspace.root)
    except ValueError as error:
        raise ApprovalNeeded(
            "the pre-seeded baseline checkpoint lies outside the workspace", found=str(source), hint="copy it into the workspace"
        ) from error
    scan_checkpoint(real)
    return real


def _empty_adopted(run: RunPaths) -> Path:
    adopted = run.run / "adopted"
    shutil.rmtree(adopted, ignore_errors=True)  # of an opening that was killed
    adopted.mkdir()
    return adopted


def _adopt_baseline(run: RunPaths, source: Path) -> dict[str, str]:
    """Keep an upstream phase's baseline for the train stage: its checkpoint, and its own spec where it lies beside.

    What was copied is what is scanned again, since the source may have changed in between.

    Returns:
        File name → SHA-256 of the copies below ``run/adopted``, the checkpoint first, for the approval's event.
    """
    adopted = _empty_adopted(run)
    target = adopted / source.name
    copies = {source.name: copy_hashed(source, target)[1]}
    try:
        scan_checkpoint(target)
    except HardStop:
        target.unlink()
        raise
    spec = source.parent / "experiment.yaml"
    if spec.is_file():
        copies[spec.name] = copy_hashed(spec, adopted / spec.name)[1]
    fsync_tree(adopted)
    return copies
