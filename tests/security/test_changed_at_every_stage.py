"""Between every two stages, one byte of every kind of file changes: the run stops, or what comes out is what would have."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from deft_aoi.contract.errors import DeftError
from deft_aoi.contract.files import verify_manifest
from deft_aoi.loop.drive import drive
from deft_aoi.record import log

from ..loop.conftest import deft
from .test_changed_between import ARGS, flip, repaint

sys.path.append(str(Path(__file__).parents[1] / "faults"))
import normaliser  # noqa: E402

pytestmark = pytest.mark.integration  # two whole loops and more than a hundred stops: minutes

KINDS: dict[str, tuple[str, Callable[[Path], None]]] = {
    "spec": ("specs/baseline_spec.yaml", flip),
    "training CSV": ("train/base/training_set.csv", flip),
    "validation CSV": ("train/base/validation_set.csv", flip),
    "KPI CSV": ("kpi/testing_set.csv", flip),
    "pool CSV": ("augmentation/mining_pool/mining_pool.csv", flip),
    "image": ("kpi/images/**/*.jpg", repaint),
    "pool image": ("augmentation/mining_pool/images/**/*.jpg", repaint),
    "synthetic source": ("augmentation/anomalygen/reconstructed_image/*", repaint),
    "staged image": ("results/run_*/synth_pool/images/synth_ng/*", flip),
    "staged rows": ("results/run_*/synth_pool/sdg_rows.csv", flip),
    "checkpoint": ("results/run_*/*/train/model_*.pth", flip),
    "derived spec": ("results/run_*/run/specs/*.yaml", flip),
    "scores": ("results/run_*/*/inference/*/inference.csv", flip),
    "table": ("results/run_*/**/*.parquet", flip),
    "training rows": ("results/run_*/*/dataset/*.csv", flip),
    "plan": ("results/run_*/run/plan.json", flip),
    "record": ("results/run_*/loop_log.jsonl", flip),
}

FIRST_READ = ((2, "pool image"),)
"""The pool may grow until it is staged, so its pixels are digested then (the second stage) and not at approval."""


def _open(workspace: Path) -> Path:
    digest = deft("preflight", "--workspace", workspace, *ARGS, "--json").json["digest"]
    assert deft("approve", digest[:12], "--confirm", digest[-6:]).code == 0
    root = workspace / "results" / "run_20260101_000000"
    assert deft("init_deft_state", "--plan-digest", digest[:12], "--results-dir", root).code == 0
    return root


def _step(root: Path) -> bool:
    """One stage; whether it was one."""
    return drive(root, say=lambda _line: None, progress=lambda _line: None, limit=1).stages_run == 1


def _victim(workspace: Path, pattern: str) -> Path | None:
    found = sorted(p for p in workspace.glob(pattern) if p.is_file() and not p.is_symlink())
    return found[-1] if found else None


def _put(copy: Path, workspace: Path) -> None:
    """Make the workspace what the copy is; times too, for jobs are judged by them."""
    shutil.rmtree(workspace)
    shutil.copytree(copy, workspace, symlinks=True)


def test_one_byte_at_every_stage_never_gives_a_mix(workspace: Path) -> None:
    pristine, before, after = (workspace.with_name(n) for n in ("pristine", "before", "after"))
    shutil.copytree(workspace, pristine)
    root = _open(workspace)
    _drive_to_the_end(root)
    clean, clean_events = normaliser.tree(root), normaliser.events(log.read(root))
    _put(pristine, workspace)
    root = _open(workspace)
    stopped: dict[str, int] = {}
    went_on: dict[str, int] = {}
    boundaries = 0
    while True:
        shutil.copytree(workspace, before, symlinks=True)
        if not _step(root):
            break
        boundaries += 1
        shutil.move(workspace, after)
        moved = after / root.relative_to(workspace)
        reached = normaliser.tree(moved), normaliser.events(log.read(moved))
        for kind, (pattern, change) in KINDS.items():
            shutil.copytree(before, workspace, symlinks=True)
            victim = _victim(workspace, pattern)
            if victim is not None:
                name, kept, times = victim, victim.read_bytes(), victim.stat()
                change(victim)
                try:
                    _step(root)
                except DeftError as error:
                    assert error.exit_code in (3, 5), (boundaries, kind, error.render())
                    stopped[kind] = stopped.get(kind, 0) + 1
                else:
                    went_on[kind] = went_on.get(kind, 0) + 1
                    if (boundaries, kind) in FIRST_READ:  # then what is on record is what was read
                        assert verify_manifest(root / "synth_pool") == []
                        shutil.rmtree(workspace)
                        continue
                    # This stage does not read it: what came out is what would have, and a later stage stops.
                    name.write_bytes(kept)
                    os.utime(name, ns=(times.st_atime_ns, times.st_mtime_ns))
                    assert not normaliser.difference(normaliser.tree(root), reached[0]), (boundaries, kind)
                    assert normaliser.events(log.read(root)) == reached[1], (boundaries, kind)
            shutil.rmtree(workspace)
        shutil.move(after, workspace)
        shutil.rmtree(before)
    print(f"{boundaries} boundaries, stopped {sum(stopped.values())}: {stopped}, untouched by {sum(went_on.values())}: {went_on}")
    assert boundaries >= 12
    assert sum(stopped.values()) >= 60
    assert set(stopped) == set(KINDS), set(KINDS) - set(stopped)
    assert not normaliser.difference(normaliser.tree(root), clean)
    assert normaliser.events(log.read(root)) == clean_events


def _drive_to_the_end(root: Path) -> None:
    while _step(root):
        pass
