"""Where the errors are: by part type, board and light, and which defects a newer model misses that the one before caught."""

from __future__ import annotations

from typing import Any

from deft_aoi.report import number_format as fmt
from deft_aoi.report.run_view import Iteration

SLICES = {"part_type": "part type", "comp_type_1": "component type", "boardname": "board", "light": "light"}
SHOWN = 12
"""Rows of one table on the page; ``kpi.json`` lists more."""


def slices(kpi: dict[str, Any] | None) -> list[dict[str, Any]]:
    """A table for each grouping column that the KPI set has, most false alarms first."""
    out = []
    for column, name in SLICES.items():
        found = (kpi or {"slices": {}})["slices"].get(column)
        if found is None:
            continue
        rows = [
            (
                fmt.cell(row["value"], 60) or f"no {name}",
                fmt.count(row["pass_rows"]),
                fmt.count(row["fp"]),
                "" if row["far_fraction"] is None else fmt.percent(row["far_fraction"]),
                fmt.count(row["defect_rows"]),
                fmt.count(row["fn"]),
                "" if row["recall_fraction"] is None else fmt.percent(row["recall_fraction"]),
            )
            for row in found["listed"][:SHOWN]
        ]
        caption = f"{fmt.plural(found['groups'], name)}, most false alarms first"
        if len(rows) < found["groups"]:
            caption += f"; the first {len(rows)}, more in kpi.json"
        columns = (name, "good parts", "false alarms", "FAR", "defects", "missed", "recall")
        out.append({"title": f"By {name}", "caption": caption, "columns": columns, "rows": rows})
    return out


def new_escapes(it: Iteration) -> dict[str, Any] | None:
    """The defects that an iteration misses and the best model before it caught, by name; ``None`` when there are none."""
    found = it.comparison
    if found is None or not found["new_escapes"]:
        return None
    listed = found["new_escapes_listed"]
    caption = f"Caught by {fmt.iteration(fmt.cell(found['with'], 40))}, missed now"
    if len(listed) < found["new_escapes"]:
        caption += f"; the {len(listed)} with the lowest scores of {found['new_escapes']:,}"
    rows = []
    for r in listed:
        scores = [fmt.score(r[key]) for key in ("score_before", "score")]
        rows.append((fmt.cell(r["sample_id"]), fmt.part(r["label"]), fmt.count(r["line"]), *scores))
    thresholds = [fmt.score(found[f"threshold_{when}"]) for when in ("before", "after")]
    columns = ("part", "defect", "line", f"score before (threshold {thresholds[0]})", f"score now (threshold {thresholds[1]})")
    return {"caption": caption, "columns": columns, "rows": rows}
