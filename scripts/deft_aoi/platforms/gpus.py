"""Which GPUs a job of this machine may use, and whether the batch fits their memory."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

from deft_aoi.contract.programs import run_program
from deft_aoi.contract.text import printable

# Measured by NVIDIA's users for C-RADIOv2-B at 224 px: batch 16 on 48 GB, 8 on 24 GB.
_LARGEST_BATCH = ((44.0, 16), (20.0, 8), (0.0, 4))


@dataclass(frozen=True)
class Gpu:
    """One GPU: index and UUID as ``nvidia-smi`` gives them, model, memory in GiB."""

    index: str
    uuid: str
    model: str
    memory_gib: float


def inventory() -> list[Gpu]:
    """GPUs of this machine that ``CUDA_VISIBLE_DEVICES`` leaves visible; empty without an NVIDIA driver."""
    try:
        done = run_program(
            ["nvidia-smi", "--query-gpu=index,uuid,name,memory.total", "--format=csv,noheader,nounits"], timeout_sec=20
        )
    except (OSError, subprocess.SubprocessError):
        return []
    if done.returncode != 0:
        return []
    return visible(parse(done.stdout), os.environ.get("CUDA_VISIBLE_DEVICES"))


def parse(text: str) -> list[Gpu]:
    """Read ``nvidia-smi``'s CSV lines; lines of another shape are left out (some MIG hosts print notes)."""
    found = []
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.split(",")]
        try:
            found.append(Gpu(cells[0], cells[1], printable(cells[2]), float(cells[3]) / 1024))
        except (IndexError, ValueError):
            continue
    return found


def visible(gpus: Sequence[Gpu], setting: str | None) -> list[Gpu]:
    """Apply ``CUDA_VISIBLE_DEVICES``: unset means all, an empty text none; ids may be indices or (part of) UUIDs."""
    if setting is None:
        return list(gpus)
    chosen = []
    for word in (w.strip() for w in setting.split(",")):
        match = [g for g in gpus if word and (g.index == word or (word.startswith("GPU-") and g.uuid.startswith(word)))]
        if not match:
            break  # CUDA ignores everything after the first id that it does not know
        chosen.append(match[0])
    return chosen


def batch_problems(gpus: Sequence[Gpu], batch_size: int, engine: str) -> list[str]:
    """Name the GPUs on which this batch size is likely to run out of memory (TAO only)."""
    if engine != "tao":
        return []
    problems = []
    for gpu in gpus:
        largest = next(size for memory, size in _LARGEST_BATCH if gpu.memory_gib >= memory)
        if batch_size > largest and gpu.memory_gib < 70:
            problems.append(
                f"batch size {batch_size} is large for GPU {gpu.index} ({gpu.model}, {gpu.memory_gib:.0f} GiB): "
                f"use {largest} or less"
            )
    return problems
