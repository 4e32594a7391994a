"""Whether what the stages of a run published is what its record vouches for (:mod:`deft_aoi.record.provenance`).

Three layers, each named by the one above: an event names manifests, vouchers and single files by digest; a folder's manifest
names what a stage published; the voucher of an evaluation names what it added. So a file that is changed together with its
manifest is found, too. What nothing vouches for is said, never passed over.
"""

from __future__ import annotations

import contextlib
import re
from collections import Counter
from pathlib import Path
from typing import Any

from deft_aoi.contract.errors import DeftError, HardStop
from deft_aoi.contract.files import digests_below, sha256_file
from deft_aoi.contract.manifests import MANIFEST_NAME, list_files, verify_manifest
from deft_aoi.contract.paths import RunPaths
from deft_aoi.contract.stages import BY_NAME, EVALUATE_MANIFEST, POOL_FILES, PUBLISHED
from deft_aoi.contract.text import printable
from deft_aoi.record import publish, state
from deft_aoi.record.provenance import RecordedDigest, files_in_manifest, on_record

SHOWN = 12

_MACHINERY = re.compile(
    r"run/(log\.lock|log\.index|run\.lock|driver\.(start|exit)|reserve|imported_state.*|(jobs|logs|torn|ops|adopted|review)/.*)"
)
_CHECKED = re.compile(r"loop_log\.jsonl|deft_state\.json|DEFT_Loop_Report\.html|run/findings\.json")
_SUMMARY = re.compile(r"iter[0-9]+_summary\.md")
_RETIRED = re.compile(r"(.*?(\.stale|\.tmp-[0-9]+))(\.inputs|/.*)?")


def stages_in_progress(events: list[dict[str, Any]]) -> set[str]:
    """Stages that are due, under way, or failed when they were last tried: they may be rewriting what they wrote before."""
    last: dict[str, str] = {}
    for event in events:
        last[event["stage"]] = event["status"]
    due = state.next_stage(state.fold(events))
    ending = {"handoff"} if due is None and last.get("handoff") != "ok" else set()
    return {stage for stage, status in last.items() if status != "ok" and stage != "note"} | ({due[1]} if due else ending)


def folder_problems(run: RunPaths, view: dict[str, Any], named: dict[str, RecordedDigest], label: str, stage: str) -> list[str]:
    """What does not hold of a folder that ``stage`` of iteration ``label`` published."""
    folder, it = run.stage_dir(label, stage), view["iterations"].get(label, {})
    problems = _by_manifest(run, folder, named)
    if stage == "inference":
        problems = [p for p in problems if not _added_by_evaluate(run, label, p, done="evaluate" in it["stages"])]
    if stage == "train" and "inference" in it["stages"]:
        kept = {it.get("ckpt_best_val"), it.get("ckpt_latest")}
        problems = [p for p in problems if not _pruned(run.rel(folder), p, kept)]
    return [printable(f"{label}/{stage}: {p}", 300) for p in problems]


def _by_manifest(run: RunPaths, folder: Path, named: dict[str, RecordedDigest]) -> list[str]:
    manifest = folder / MANIFEST_NAME
    known = named.get(run.rel(manifest))
    if known is None:
        return ["no event of the driver vouches for it"]
    if not manifest.is_file():
        return [f"{MANIFEST_NAME} is missing"]
    if sha256_file(manifest) != known.digest:
        return [f"{MANIFEST_NAME} is not the one on record"]
    try:
        return [p for p in verify_manifest(folder) if not _left_over(p)]
    except DeftError as error:
        return [error.message]
    except OSError as error:
        return [f"cannot be read: {error.strerror}"]


def _left_over(problem: str) -> bool:
    """Whether a finding is only a temporary file of a killed driver, which the next one clears away."""
    what, _, path = problem.partition(": ")
    return what == "not in the manifest" and publish.TEMPORARY.fullmatch(path.rsplit("/", 1)[-1]) is not None


def _added_by_evaluate(run: RunPaths, label: str, problem: str, *, done: bool) -> bool:
    """Evaluate writes beside the published scores; once it is on record, only what its voucher lists."""
    what, _, path = problem.partition(": ")
    if what != "not in the manifest":
        return False
    if not done:
        return path == EVALUATE_MANIFEST or path.startswith(("best_val/", "latest/"))
    try:
        return path == EVALUATE_MANIFEST or path in files_in_manifest(run.stage_dir(label, "inference") / EVALUATE_MANIFEST)
    except DeftError:
        return False


def _pruned(folder: str, problem: str, kept: set[Any]) -> bool:
    """After the choice, checkpoints that nobody chose are deleted; the manifest goes on naming them."""
    what, _, name = problem.partition(": ")
    return what == "missing" and re.fullmatch(r"model_[^/]*\.pth", name) is not None and f"{folder}/{name}" not in kept


def evaluate_manifest_problems(run: RunPaths, label: str, named: dict[str, RecordedDigest]) -> list[str]:
    """What does not hold of the files that an evaluation added: by its voucher, and that by its event."""
    folder = run.stage_dir(label, "inference")
    path = folder / EVALUATE_MANIFEST
    known = named.get(run.rel(path))
    if known is None or not path.is_file() or sha256_file(path) != known.digest:
        return [f"{run.rel(path)} is not the one on record"]
    added = files_in_manifest(path)
    found = digests_below(folder, added)
    return [f"{run.rel(folder / name)} changed" for name, digest in added.items() if found.get(name) != digest]


def is_staged(run: RunPaths, named: dict[str, RecordedDigest]) -> bool:
    """Whether the staging is on record."""
    return run.rel(run.synth_pool / MANIFEST_NAME) in named


def holdout_problems(run: RunPaths, named: dict[str, RecordedDigest]) -> list[str]:
    """What does not hold of the scored hold-out."""
    return [printable(f"holdout: {p}", 300) for p in _by_manifest(run, run.holdout, named)]


def unregistered_problems(run: RunPaths, named: dict[str, RecordedDigest]) -> list[str]:
    """What does not hold of the KPI set scored without registration."""
    return [printable(f"unregistered: {p}", 300) for p in _by_manifest(run, run.unregistered, named)]


def staged_problems(run: RunPaths, named: dict[str, RecordedDigest], moving: set[str]) -> list[str]:
    """What does not hold of the staged pairs and of the pool's tables beside them."""
    if not is_staged(run, named):
        return []
    replaced = {path for path, it in named.items() if path in POOL_FILES}
    mining = "data_mining" in moving
    problems = [
        p
        for p in _by_manifest(run, run.synth_pool, named)
        if (path := f"synth_pool/{p.partition(': ')[2]}") not in POOL_FILES or not (mining or path in replaced)
    ]
    problems = [printable(f"synth_pool: {p}", 300) for p in problems]
    return problems + ([] if mining else single_problems(run, {p: named[p] for p in replaced}, moving))


def is_single_file(path: str) -> bool:
    """Whether a file on record stands for itself: manifests and vouchers are for the checks of their folders.

    The report is for its own check: it may have been rendered since.
    """
    return not path.endswith((MANIFEST_NAME, EVALUATE_MANIFEST, ".html"))


def single_problems(run: RunPaths, named: dict[str, RecordedDigest], moving: set[str]) -> list[str]:
    """Single files that are not the ones on record; those that a moving stage writes anew may be another's no longer."""
    rewritten = {path for stage in moving for path in BY_NAME[stage].rewrites}
    single = {
        path: known.digest
        for path, known in sorted(named.items())
        if known.stage not in moving and path not in rewritten and is_single_file(path)
    }
    found = digests_below(run.root, single)
    return [
        printable(f"{path} is {'missing' if path not in found else 'not the one on record'}", 300)
        for path, digest in single.items()
        if found.get(path) != digest
    ]


def require_published(run: RunPaths, events: list[dict[str, Any]], labels: tuple[str, ...]) -> None:
    """Stop when something that an earlier stage of these iterations published is no longer what it was.

    Raises:
        HardStop: names the first files.
    """
    view, named = state.fold(events), on_record(run, events)
    problems = []
    for label in labels:
        for stage in PUBLISHED:
            if stage in view["iterations"].get(label, {}).get("stages", {}):
                problems += folder_problems(run, view, named, label, stage)
        if "evaluate" in view["iterations"].get(label, {}).get("stages", {}):
            problems += evaluate_manifest_problems(run, label, named)
    moving = stages_in_progress(events)
    problems += staged_problems(run, named, moving) + single_problems(run, named, moving)
    if problems:
        raise HardStop(
            f"what earlier stages published has changed ({len(problems)} findings)",
            expected="the files as manifests and record describe them",
            found="; ".join(problems[:SHOWN]),
            hint="restore them from a copy, or start a new run; verify_run.py shows the whole picture",
        )


def sweep_published(run: RunPaths, view: dict[str, Any]) -> None:
    """Clear the published folders of what a killed driver was about to write there; the caller holds the run's lock."""
    publish.sweep_temporaries(run.synth_pool)
    for label in view.get("iterations", {}):
        for stage in PUBLISHED:
            publish.sweep_temporaries(run.stage_dir(label, stage))


def inventory(run: RunPaths, named: dict[str, RecordedDigest]) -> tuple[dict[str, int], list[str]]:
    """Every file of the run by what vouches for it.

    Returns:
        ``(kind → how many, what is no part of a run)``; a folder that was set aside counts as one.
    """
    kinds: Counter[str] = Counter()
    strangers: dict[str, None] = {}
    known = {run.rel(run.root / path) for path in _all_listed(run, named)} | set(named)
    for path in list_files(run.root) + ([MANIFEST_NAME] if (run.root / MANIFEST_NAME).exists() else []):
        if path in known:
            kinds["files vouched for by digest"] += 1
        elif _CHECKED.fullmatch(path):
            kinds["checked by what they say"] += 1
        elif _MACHINERY.fullmatch(path):
            kinds["of the record's own machinery and its jobs"] += 1
        elif _SUMMARY.fullmatch(path):
            kinds["summaries that people may add to"] += 1
        else:
            aside = _RETIRED.fullmatch(path)
            strangers[aside[1] if aside else path] = None
    return dict(kinds), list(strangers)


def _all_listed(run: RunPaths, named: dict[str, RecordedDigest]) -> list[str]:
    """What the manifests and vouchers on record list."""
    out = []
    for path in named:
        file = run.root / path
        if file.name in (MANIFEST_NAME, EVALUATE_MANIFEST):
            with contextlib.suppress(DeftError):  # named as a problem of its folder
                out += [f"{run.rel(file.parent)}/{name}" for name in files_in_manifest(file)]
    return out
