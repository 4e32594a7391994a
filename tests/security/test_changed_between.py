"""One byte changed between two stages stops the run; it never gives a mix. A change of the approved inputs reopens the gate."""
# ruff: noqa: E501 - tables of attacks and commands are read line by line

from __future__ import annotations

import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deft_aoi.contract.errors import ApprovalNeeded, DeftError, HardStop
from deft_aoi.contract.files import copy_hashed, sha256_file
from deft_aoi.loop.drive import drive
from deft_aoi.record import log

from ..loop.conftest import deft

ARGS = ("--training-epochs", "1", "--max-iterations", "1", "--kpi-target", "FAR < 0.0001% at recall=100%")


def flip(path: Path) -> None:
    """Change one byte in the middle and restore the times, as a careful attacker would."""
    import os

    before = path.stat()
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def repaint(path: Path) -> None:
    """Change one pixel: a byte of a compressed image may not change what it shows."""
    with Image.open(path) as image:
        pixels = np.array(image.convert("RGB"))
    pixels[0, 0] ^= 255
    Image.fromarray(pixels).save(path)


def step(root: Path) -> str:
    """Run one stage; its name."""
    said: list[str] = []
    drive(root, say=said.append, progress=lambda _line: None, limit=1)
    last = [e for e in log.read(root) if e["status"] == "ok"][-1]
    return f"{last['iter']}/{last['stage']}"


def snapshot(workspace: Path) -> Path:
    copy = workspace.with_name("copy")
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(workspace, copy, symlinks=True)
    return copy


def restore(workspace: Path, copy: Path) -> None:
    shutil.rmtree(workspace)
    copy.rename(workspace)


INPUTS = {
    "spec": ("specs/baseline_spec.yaml", None),
    "training CSV": ("train/base/training_set.csv", None),
    "validation CSV": ("train/base/validation_set.csv", None),
    "KPI CSV": ("kpi/testing_set.csv", None),
    "image": ("kpi/images", repaint),
    "synthetic image": ("augmentation/anomalygen/reconstructed_image", repaint),
    "plan": ("results/run_20260101_000000/run/plan.json", None),
}


def _inputs_are_guarded(workspace: Path, root: Path, names: tuple[str, ...]) -> int:
    """Each input changed, the next stage refused with exit 3 or 5, nothing recorded; put back as it was."""
    events = len(log.read(root))
    for name in names:
        place, change = INPUTS[name]
        victim = workspace / place
        if victim.is_dir():
            victim = sorted(p for p in victim.rglob("*") if p.is_file())[0]
        kept = victim.read_bytes()
        if change is not None:
            change(victim)
        elif name == "plan":
            victim.write_bytes(kept.replace(b'"seed"', b'"sEed"', 1))
        else:
            victim.write_bytes(kept + b"\n# x\n" if name == "spec" else kept + kept.splitlines(keepends=True)[-1])
        with pytest.raises((ApprovalNeeded, HardStop)) as stop:
            step(root)
        assert stop.value.exit_code in (3, 5), name
        victim.write_bytes(kept)
    assert len(log.read(root)) == events
    return len(names)


OUTPUTS = {
    "baseline/inference": ("baseline/train/model_*.pth", "synth_pool/images/synth_ng/*"),
    "baseline/evaluate": ("baseline/inference/best_val/inference.csv",),
    "iter1/routing": ("baseline/rca_results/*/kpi_gaps.parquet",),
    "iter1/dataset": ("iter1/mining_filter/mining_pool.csv", "iter1/mining_filter/mined_pairs.parquet"),
    "iter1/train": ("iter1/dataset/train_combined_iter1.csv", "baseline/train/model_*.pth"),
}
"""Before which stage, which outputs of earlier stages are changed."""


def test_any_byte_changed_between_two_stages_stops_the_run(workspace: Path) -> None:
    digest = deft("preflight", "--workspace", workspace, *ARGS, "--json").json["digest"]
    assert deft("approve", digest[:12], "--confirm", digest[-6:]).code == 0
    root = workspace / "results" / "run_20260101_000000"
    assert deft("init_deft_state", "--plan-digest", digest[:12], "--results-dir", root).code == 0
    tried = _inputs_are_guarded(workspace, root, tuple(INPUTS))
    done = []
    while not done or done[-1] != "iter1/dataset":
        done.append(step(root))
        upcoming = {"run/prestage": "", "baseline/train": "baseline/inference", "baseline/inference": "baseline/evaluate",
                    "baseline/rca": "iter1/routing", "iter1/data_mining": "iter1/dataset", "iter1/dataset": "iter1/train"}.get(done[-1])  # fmt: skip
        for pattern in OUTPUTS.get(upcoming or "", ()):
            copy = snapshot(workspace)
            flip(sorted(p for p in root.glob(pattern) if not p.is_symlink())[0])
            with pytest.raises(DeftError) as stop:
                step(root)
            assert stop.value.exit_code == 3, (upcoming, pattern, stop.value.render())
            assert f"{upcoming}" not in {f"{e['iter']}/{e['stage']}" for e in log.read(root) if e["status"] == "ok"}
            restore(workspace, copy)
            tried += 1
        if done[-1] in ("baseline/train", "iter1/data_mining"):
            tried += _inputs_are_guarded(workspace, root, ("spec", "KPI CSV", "synthetic image"))
    assert tried >= 20


def test_a_file_that_changes_while_it_is_copied_has_the_digest_of_its_copy(tmp_path: Path) -> None:
    """A thread flips the source as fast as it can: the digest is always that of what was copied."""
    source = tmp_path / "source"
    one, two = b"1" * 3_000_000, b"2" * 3_000_000
    source.write_bytes(one)
    stop = threading.Event()

    def churn() -> None:
        with source.open("r+b") as handle:
            while not stop.is_set():
                for body in (two, one):
                    handle.seek(0)
                    handle.write(body)

    thread = threading.Thread(target=churn)
    thread.start()
    try:
        for number in range(60):
            target = tmp_path / f"copy{number % 2}"
            size, digest = copy_hashed(source, target)
            assert (size, digest) == (target.stat().st_size, sha256_file(target))
    finally:
        stop.set()
        thread.join()
