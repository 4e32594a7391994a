"""The stages: each does one thing from what is on disk, publishes it whole, and says what it did."""

from __future__ import annotations

from collections.abc import Callable

from deft_aoi.loop.context import RunContext, StageResult

Stage = Callable[[RunContext, str, int], StageResult]
"""``stage(ctx, label, attempt) -> Outcome``."""


def stage_functions() -> dict[str, Stage]:
    """Stage name → its function; imported on demand so that a light command stays light."""
    from deft_aoi.loop.stages import (
        anomalygen,
        assets,
        data_mining,
        dataset,
        evaluate,
        handoff,
        inference,
        prestage,
        rca,
        routing,
        train,
    )

    return {
        "assets": assets.fetch_assets,
        "prestage": prestage.prestage,
        "train": train.train,
        "inference": inference.inference,
        "evaluate": evaluate.evaluate,
        "rca": rca.rca,
        "routing": routing.routing,
        "anomalygen": anomalygen.ingest,
        "data_mining": data_mining.mine,
        "dataset": dataset.assemble,
        "handoff": handoff.hand_over,
        "report": handoff.report,
    }
