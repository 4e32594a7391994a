"""Plots as SVG and PNG, the same bytes for the same numbers: no date, a fixed hash salt: never a display."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from deft_aoi.analysis.operating_point import Sweep, candidate_thresholds
from deft_aoi.contract.files import atomic_write_bytes

GOOD, BAD, LINE = "#4477aa", "#cc6677", "#222222"  # distinguishable with any colour vision
STYLE: Any = {"svg.hashsalt": "deft-aoi", "svg.fonttype": "none", "font.size": 10, "axes.grid": True, "grid.alpha": 0.3}


def draw_all(report: dict[str, Any], curve: Sweep, out_dir: Path, bins: int) -> list[Path]:
    """Draw the score distributions, FAR against recall and the confusion matrix.

    Returns:
        The files: three SVG, three PNG.
    """
    written = []
    with matplotlib.rc_context(STYLE):
        for name, draw in DRAWINGS.items():
            figure: Any = _figure()
            draw(figure.add_subplot(), report, curve, bins)
            written += _save(figure, out_dir, name)
    return written


def _figure() -> Any:
    return Figure(figsize=(6.4, 4.2), layout="constrained")


def _save(figure: Any, out_dir: Path, name: str) -> list[Path]:
    paths = []
    for suffix, metadata in (("svg", {"Date": None, "Creator": None}), ("png", {"Software": None})):
        buffer = io.BytesIO()
        figure.savefig(buffer, format=suffix, dpi=120, metadata=metadata)
        paths.append(out_dir / f"{name}.{suffix}")
        atomic_write_bytes(paths[-1], buffer.getvalue())
    return paths


def _distribution(axes: Any, report: dict[str, Any], curve: Sweep, bins: int) -> None:
    low, high = report["score_min"], report["score_max"]
    edges = np.linspace(low, high if high > low else low + 1.0, bins + 1)
    for scores, colour, name in ((curve.good, GOOD, "PASS"), (curve.bad, BAD, "defect")):
        axes.hist(scores, bins=edges, alpha=0.65, color=colour, label=f"{name} ({len(scores):,})")
    point = report["target_point"]
    axes.axvline(point["threshold"], color=LINE, linestyle="--", label=f"threshold {point['threshold']:.6g}")
    axes.set_yscale("log")
    axes.set_xlabel("siamese_score")
    axes.set_ylabel("rows")
    axes.set_title(f"FAR {point['far_fraction']:.2%} at recall {point['recall_fraction']:.2%}")
    axes.legend()


def _far_recall(axes: Any, report: dict[str, Any], curve: Sweep, bins: int) -> None:
    tp, fp = curve.counts_at(candidate_thresholds(curve, 2000))
    axes.step(100 * tp / curve.n_defect, 100 * fp / curve.n_pass, where="post", color=GOOD)
    for point in report["operating_points"]:
        axes.plot(100 * point["recall_fraction"], 100 * point["far_fraction"], "o", color=BAD)
    if report["target"]:
        axes.axhline(100 * report["target"]["far_fraction"], color=LINE, linestyle="--", label=report["target"]["text"])
        axes.legend()
    axes.set_xlabel("recall, %")
    axes.set_ylabel("false-alarm rate, %")
    axes.set_title(f"AUROC {report['auroc']:.4f}")


def _confusion(axes: Any, report: dict[str, Any], curve: Sweep, bins: int) -> None:
    p = report["target_point"]
    cells = np.array([[p["tn"], p["fp"]], [p["fn"], p["tp"]]])
    shares = cells / np.maximum(cells.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.grid(False)
    names = (("passed", "false alarm"), ("escape", "caught"))
    for i in range(2):
        for j in range(2):
            axes.text(j, i, f"{names[i][j]}\n{cells[i, j]:,}", ha="center", va="center", color="w" if shares[i, j] > 0.5 else "k")
    axes.set_xticks([0, 1], ["score <= threshold", "score > threshold"])
    axes.set_yticks([0, 1], ["PASS", "defect"])
    axes.set_title(f"threshold {p['threshold']:.6g}")


DRAWINGS: dict[str, Callable[[Any, dict[str, Any], Sweep, int], None]] = {
    "score_distribution": _distribution,
    "far_vs_recall": _far_recall,
    "confusion_matrix": _confusion,
}
