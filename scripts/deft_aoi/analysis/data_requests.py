"""``run/data_requests.json`` (schema ``open_gaps``): what the loop could not close, as a shopping list.

It is over the whole run, from the gap ledger, by defect type and part: for the line and for the next synthetic batch.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

EXAMPLES = 5
REASONS = ("no_neighbour", "stayed_open")


def build(
    gaps: pd.DataFrame,
    unanswered: Iterable[str],
    ledger: pd.DataFrame | None = None,
    kpi_rows: pd.DataFrame | None = None,
    *,
    per_sample: int = 5,
) -> dict[str, Any]:
    """Group the open questions by defect type and part.

    Args:
        gaps: the last ``kpi_gaps`` (a row for each sample x light).
        unanswered: ids of targets without a neighbour above the cut that could be mined.
        ledger: gap ledgers of all iterations, one below the other; a sample whose last outcome is not ``closed`` stayed
            open.
        kpi_rows: the KPI rows that ``gaps["row"]`` points into, for ``part_type`` and ``boardname``.
        per_sample: images asked for each open sample.

    Returns:
        The object of schema ``open_gaps``: groups, most samples first, each with counts by reason, the number of images
        asked for and up to five example images.
    """
    samples: dict[str, dict[str, Any]] = {
        str(row["sample_id"]): {str(k): v for k, v in row.items()} for row in gaps.drop_duplicates("sample_id").to_dict("records")
    }
    reasons = dict.fromkeys(_open(ledger), REASONS[1])
    reasons |= dict.fromkeys(unanswered, REASONS[0])
    groups: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for sample, reason in reasons.items():
        if sample in samples:
            row = samples[sample]
            groups.setdefault((str(row["label"]), _part(row, kpi_rows)), []).append((sample, reason))
    listed: list[dict[str, Any]] = []
    for (label, part), members in groups.items():
        worst = sorted(members, key=lambda m: (-float(samples[m[0]]["weakness"]), m[0]))
        counts = {reason: sum(r == reason for _s, r in members) for reason in REASONS}
        listed.append(
            {
                "label": label,
                "part_type": part,
                "samples": len(members),
                **counts,
                "images_wanted": per_sample * len(members),
                "examples": [
                    {
                        "sample_id": s,
                        "filepath": str(samples[s]["filepath"]),
                        "golden_path": str(samples[s]["golden_path"]),
                        "weakness": float(samples[s]["weakness"]),
                        "reason": reason,
                    }
                    for s, reason in worst[:EXAMPLES]
                ],
            }
        )
    listed.sort(key=lambda g: (-g["samples"], g["label"], g["part_type"]))
    return {"schema_version": 1, "open_samples": sum(g["samples"] for g in listed), "requests": listed}


def _open(ledger: pd.DataFrame | None) -> list[str]:
    if ledger is None or ledger.empty:
        return []
    last = ledger.sort_values("iteration", kind="stable").drop_duplicates("sample_id", keep="last")
    return [str(s) for s in last.loc[last["outcome"] != "closed", "sample_id"]]


def _part(row: dict[str, Any], kpi_rows: pd.DataFrame | None) -> str:
    if kpi_rows is None or "part_type" not in kpi_rows.columns:
        return ""
    value = kpi_rows["part_type"].iat[int(row["row"])]
    return value if isinstance(value, str) else ""
