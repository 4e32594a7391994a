"""A run's review page: its weak samples and the pool rows whose label is in doubt, to be given a cause each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from deft_aoi.analysis import spot_check
from deft_aoi.analysis.gaps import read_gaps
from deft_aoi.analysis.identity import image_paths
from deft_aoi.contract import spec as specs
from deft_aoi.contract.changenet_csv import read_changenet_csv
from deft_aoi.contract.errors import Blocked
from deft_aoi.report import number_format as fmt
from deft_aoi.report.review_page import Part, write_page
from deft_aoi.report.run_view import Iteration, RunView, csv_rows, read_run


def write_review(results_dir: str | Path) -> dict[str, Any]:
    """Write ``run/review/review.html`` for the best iteration: what nobody has judged yet, weakest first.

    Returns:
        See :func:`deft_aoi.report.review_page.write_page`.

    Raises:
        Blocked: no root-cause analysis yet, or everything has its verdict.
        HardStop: the record is damaged, or an image is missing.
    """
    view = read_run(results_dir)
    it = next((i for i in (view.best, *reversed(view.iterations)) if i is not None and i.view.get("rca_dir")), None)
    if it is None or it.kpi is None:
        raise Blocked("this run has no root-cause analysis yet", expected="an iteration that finished its rca")
    judged = {e["sample_id"] for e in spot_check.load(view.run.run / spot_check.FILE_NAME)["verdicts"]}
    parts = [part for part in (*_weak(view, it), *_in_doubt(view)) if part.name not in judged]
    if not parts:
        raise Blocked("nothing is left to judge", expected="a weak sample or a row in doubt without a verdict")
    folder = view.run.run / "review"
    folder.mkdir(exist_ok=True)
    source = {
        "run": view.run.root.name,
        "iteration": it.label,
        "checkpoint_sha256": it.view["best_ckpt_sha256"],
        "threshold": float(it.view["threshold"]),
    }
    return write_page(
        folder, parts, spot_check.VERDICTS, kind="spot_check", title=f"Causes, {fmt.iteration(it.label)}", source=source
    )


def _weak(view: RunView, it: Iteration) -> list[Part]:
    table = read_gaps(view.run.root / str(it.view["rca_dir"]) / "kpi_gaps.parquet")
    parts = []
    for name, rows in table.groupby("sample_id", sort=False):
        first = rows.iloc[0]
        facts = f"{fmt.part(first.label)}, {spot_check.side(first.label, first.weakness)}, score {fmt.score(first.siamese_score)}"
        score = float(first.siamese_score)
        parts.append(Part(str(name), facts, tuple(rows["filepath"]), tuple(rows["golden_path"]), (), first.label, score))
    return parts


def _in_doubt(view: RunView) -> list[Part]:
    """Rows of the pool that mining left out, because most of their neighbours have the other side's label."""
    doubtful: dict[str, dict[str, str]] = {}
    for it in view.iterations:
        path = view.run.stage_dir(it.label, "data_mining") / spot_check.LEFT_OUT
        if path.is_file():
            doubtful |= {row["sample_id"]: row for row in csv_rows(path)}
    if not doubtful:
        return []
    pool = read_changenet_csv(view.run.root / "synth_pool" / "source_pool.csv", what="source pool")
    pool = pool[pool["sample_id"].isin(list(doubtful))].reset_index(drop=True)
    layout = specs.layout(specs.load_spec(view.run.workspace.baseline_spec, what="baseline spec"), view.run.workspace.root)
    parts = []
    for row, files in zip(pool.to_dict("records"), zip(*image_paths(pool, layout), strict=True), strict=True):
        found, lights = doubtful[row["sample_id"]], len(layout.lights)
        facts = f"pool row labelled {fmt.part(row['label'])}, score {fmt.score(float(found['model_score']))}, neighbours disagree"
        score = float(found["model_score"])
        parts.append(Part(row["sample_id"], facts, files[:lights], files[lights:], (), row["label"], score))
    return parts
