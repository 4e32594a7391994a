"""Render ``DEFT_Loop_Report.html`` from disk alone."""

from __future__ import annotations

import html
from pathlib import Path

from deft_aoi.contract.files import atomic_write_text
from deft_aoi.contract.paths import RunPaths
from deft_aoi.record.state import load_state


def render_report(results_dir: str | Path) -> Path:
    """Write the report of a run and return its path."""
    run = RunPaths(Path(results_dir))
    state = load_state(run.root)
    rows = "".join(
        f"<tr><td>{html.escape(label)}</td><td>{100 * it['far_fraction']:.3g} %</td><td>{html.escape(it['verdict'])}</td></tr>"
        for label, it in state["iterations"].items()
        if it.get("far_fraction") is not None
    )
    atomic_write_text(run.report, f"<!doctype html><title>DEFT AOI</title><h1>{html.escape(state['status'])}</h1><table>{rows}</table>")
    return run.report
