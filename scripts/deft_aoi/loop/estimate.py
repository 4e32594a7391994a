"""What a run will cost: disk and time, from the sizes of what it reads. Estimates, and shown as such."""

from __future__ import annotations

import math

from deft_aoi.contract import spec as specs
from deft_aoi.contract.paths import Workspace
from deft_aoi.loop.config import RunConfig

# One checkpoint with optimizer state. Embedded: 10^5 float32 parameters × 3 (weights, two AdamW moments) plus zip overhead.
# TAO: C-RADIOv2-B was seen at 1.85 GB, FAN-tiny at 0.27 GB.
EMBEDDED_CHECKPOINT_BYTES = 2_500_000
RADIO_CHECKPOINT_BYTES = 1_850_000_000
FAN_CHECKPOINT_BYTES = 300_000_000
# CPU-seconds a training row and epoch costs, seen at 64 px on one core; TAO on an H200 spends about 30 s on imports.
SECONDS_PER_ROW_EPOCH = {"embedded": 0.002, "tao": 0.02}
SECONDS_PER_JOB = {"embedded": 4.0, "tao": 35.0}
JOBS_PER_ITERATION = 5
RUN_OVERHEAD_BYTES = 20_000_000


def checkpoint_bytes(spec: specs.Spec) -> int:
    """Bytes of one checkpoint, by backbone."""
    if specs.engine_for(spec) == "embedded":
        return EMBEDDED_CHECKPOINT_BYTES
    return FAN_CHECKPOINT_BYTES if specs.backbone_type(spec).startswith("fan_") else RADIO_CHECKPOINT_BYTES


def disk_bytes(workspace: Workspace, spec: specs.Spec, config: RunConfig, pairs: int) -> int:
    """Bytes that the run may hold at its peak: one iteration's checkpoints, two kept ones each, staging and figures."""
    trainings, lights = config.max_iterations + 1, len(specs.lights(spec))
    size = checkpoint_bytes(spec)
    kept = math.ceil(config.training_epochs / max(1, int(specs.get(spec, "train.validation_interval") or 1)))
    folder = workspace.pregen_ng
    sample = next((p.stat().st_size for p in folder.iterdir() if p.is_file()), 0) if folder.is_dir() else 0
    staged = 2 * pairs * lights * sample
    return size * (kept + 2 * trainings) + staged + RUN_OVERHEAD_BYTES * trainings


def duration_sec(config: RunConfig, rows: dict[str, int]) -> float:
    """Seconds that the whole run may take."""
    per_training = rows["train"] * 1.5 * config.training_epochs * SECONDS_PER_ROW_EPOCH[config.engine]
    return (config.max_iterations + 1) * (per_training + JOBS_PER_ITERATION * SECONDS_PER_JOB[config.engine])
