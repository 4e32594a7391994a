"""Weak samples as mining targets: what ``mining_gaps.parquet`` says, with the contents of the KPI set."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deft_aoi.contract.errors import HardStop
from deft_aoi.contract.paths import Workspace

if TYPE_CHECKING:
    import pandas as pd


def from_gaps(gaps: pd.DataFrame, kpi_ids: pd.DataFrame, workspace: Workspace) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Turn gap rows into targets.

    Args:
        gaps: one row a weak sample and light: ``filepath``, ``golden_path`` (absolute), ``label``, ``light``, ``row``
            (position in the KPI set) and further columns.
        kpi_ids: ``ContentIndex.digest_pairs`` of the KPI set.
        workspace: paths become relative to it.

    Returns:
        ``targets``: one row a sample, weakest first: ``sample_id, filepath, label, siamese_score, weakness,
        content_id`` (``filepath`` of the first light); and ``per_light``: one row a sample and light with
        ``sample_id, light, filepath, golden_filepath, content_id``, as :mod:`deft_aoi.mining.jobs` takes it.

    Raises:
        HardStop: a gap row is not in the KPI set.
    """
    if len(gaps) and int(gaps["row"].max()) >= len(kpi_ids):
        raise HardStop("a gap names a row that the KPI set does not have", found=str(int(gaps["row"].max())))
    table = gaps.reset_index(drop=True)
    rows = table["row"].astype("int64")
    per_light = table.assign(
        sample_id=[f"kpi-{row:08d}" for row in rows],
        kpi_sample=table["sample_id"],
        filepath=[workspace.rel(p) if str(p).startswith("/") else p for p in table["filepath"]],
        golden_filepath=[workspace.rel(p) if str(p).startswith("/") else p for p in table["golden_path"]],
        content_id=kpi_ids["content_id"].to_numpy()[rows.to_numpy()],
    )
    columns = [
        c for c in ("sample_id", "kpi_sample", "filepath", "label", "siamese_score", "weakness", "content_id") if c in per_light
    ]
    targets = per_light.drop_duplicates("sample_id")[columns].reset_index(drop=True)
    return targets, per_light[["sample_id", "light", "filepath", "golden_filepath", "content_id"]]
