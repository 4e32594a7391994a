"""Root-cause analysis: which rows ask for more training data, and the pictures to look at.

Weakness is signed: score - threshold for PASS, threshold - score for a defect; positive = wrong side. A row is a gap when
it is on the wrong side or inside the margin band; at most ``top_k_per_label`` of each label, so that a class which is
solved asks for nothing. Where one or two defects decide the operating point alone, good parts are gaps by the threshold
at recall 99 % instead: one odd defect must not send half the good parts to mining.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from deft_aoi.analysis import operating_point
from deft_aoi.analysis.constants import (
    DECIDED_ALONE_FACTOR,
    MARGIN_BAND_OF_EVAL_MARGIN,
    MARGIN_BAND_PROBABILITY,
    RECALL_WITHOUT_ODD_DEFECTS,
    TOP_K_PER_LABEL,
)
from deft_aoi.analysis.identity import image_paths
from deft_aoi.analysis.scored import ScoredSet, check_scored, sample_ids, weakness
from deft_aoi.contract.changenet_csv import ImageLayout
from deft_aoi.contract.errors import HardStop
from deft_aoi.contract.text import quoted

if TYPE_CHECKING:
    import pandas as pd

GAP_COLUMNS = ("filepath", "label", "siamese_score", "weakness", "sample_id", "light", "golden_path", "row")


def margin_band(threshold: float, difference_module: str, eval_margin: float | None) -> tuple[float, float]:
    """The scores around the threshold that count as marginal.

    Args:
        threshold: the operating point.
        difference_module: ``learnable`` (the score is a probability) or ``euclidean`` (a distance).
        eval_margin: ``model.classify.eval_margin``; needed for distances.

    Returns:
        ``(low, high)``: a good part above ``low``, or a defect below ``high``, asks for more data.

    Raises:
        HardStop: another module, or a distance without a positive margin.
    """
    if difference_module == "learnable":
        inside = min(max(threshold, 1e-12), 1 - 1e-12)
        odds = inside / (1 - inside)
        factor = (0.5 + MARGIN_BAND_PROBABILITY) / (0.5 - MARGIN_BAND_PROBABILITY)
        low, high = odds / factor, odds * factor
        return min(low / (1 + low), threshold), max(high / (1 + high), threshold)
    if difference_module == "euclidean" and eval_margin is not None and np.isfinite(eval_margin) and eval_margin > 0:
        half = MARGIN_BAND_OF_EVAL_MARGIN * eval_margin
        return threshold - half, threshold + half
    raise HardStop(
        "the margin band cannot be set",
        expected="difference_module learnable, or euclidean with an eval_margin above 0",
        found=f"difference_module {str(difference_module)[:40]!r}, eval_margin {eval_margin!r}",
        hint="see model.classify in the spec",
    )


def good_part_threshold(scored: ScoredSet, threshold: float) -> float:
    """The threshold that good parts are targets by: ``threshold``, or that at recall 99 % where few defects decide alone.

    They do where the false-alarm rate at ``threshold`` is more than five times that at recall 99 %.
    """
    at_99 = operating_point.at_recall(scored.sweep(), RECALL_WITHOUT_ODD_DEFECTS)
    alarms = int((scored.scores[~scored.defect] > threshold).sum())
    return at_99.threshold if alarms > DECIDED_ALONE_FACTOR * at_99.fp else threshold


def find_gaps(
    frame: pd.DataFrame,
    threshold: float,
    *,
    layout: ImageLayout,
    images_root: Path | None = None,
    difference_module: str = "learnable",
    eval_margin: float | None = None,
    top_k_per_label: int = TOP_K_PER_LABEL,
    excluded: Collection[str] = (),
    label_column: str = "label",
    score_column: str = "siamese_score",
) -> pd.DataFrame:
    """Find the weakest rows.

    Args:
        frame: N scored ChangeNet rows.
        threshold: the operating point, full precision.
        layout: how rows name images.
        images_root: folder that row paths are relative to; the layout's own when absent.
        difference_module: see :func:`margin_band`.
        eval_margin: see :func:`margin_band`.
        top_k_per_label: most samples of one label.
        excluded: sample ids that are no targets (called mislabeled or bad data at the spot check).
        label_column: the label column.
        score_column: the score column.

    Returns:
        One row for each gap sample x light, weakest first: :data:`GAP_COLUMNS`. ``filepath`` and ``golden_path`` are
        absolute, ``sample_id`` is ``input_path/object_name``, ``row`` is the position in ``frame`` (from 0), and
        ``label`` is as written in the frame. Empty when nothing is weak.

    Raises:
        HardStop: the scored set is refused, or the threshold is not finite.
    """
    import pandas as pd

    if not np.isfinite(threshold):
        raise HardStop("the threshold is not finite", found=repr(float(threshold)), hint="analyze the KPI set again")
    scored = check_scored(frame, label_column=label_column, score_column=score_column)
    weak = weakness(scored, threshold)
    names = np.array(sample_ids(frame), dtype=object)
    low, _ = margin_band(good_part_threshold(scored, threshold), difference_module, eval_margin)
    _, high = margin_band(threshold, difference_module, eval_margin)
    asked = np.where(scored.defect, scored.scores < high, scored.scores > low)
    asked &= ~pd.Series(names).isin(list(excluded)).to_numpy()
    picked: list[Any] = []
    for code in range(len(scored.label_names)):
        rows = np.flatnonzero(asked & (scored.label_codes == code))
        picked.append(rows[np.argsort(-weak[rows], kind="stable")][:top_k_per_label])
    rows = np.concatenate(picked)
    rows = rows[np.argsort(-weak[rows], kind="stable")]
    at = layout if images_root is None else ImageLayout(Path(images_root), layout.lights, layout.image_ext)
    chosen = frame.iloc[rows].reset_index(drop=True)
    columns = image_paths(chosen, at)
    n = len(at.lights)
    order = np.repeat(np.arange(len(rows)), n)
    light = np.tile(np.arange(n), len(rows))
    out = {
        "filepath": [columns[j][i] for i, j in zip(order, light, strict=True)],
        "label": chosen[label_column].to_numpy()[order],
        "siamese_score": scored.scores[rows][order],
        "weakness": weak[rows][order],
        "sample_id": names[rows][order],
        "light": [at.lights[j] for j in light],
        "golden_path": [columns[n + j][i] for i, j in zip(order, light, strict=True)],
        "row": rows[order].astype(np.int64),
    }
    return pd.DataFrame({c: out[c] for c in GAP_COLUMNS})


def read_gaps(path: Path) -> pd.DataFrame:
    """Read ``kpi_gaps.parquet`` or ``mining_gaps.parquet``.

    Raises:
        HardStop: not such a file.
    """
    import pandas as pd
    import pyarrow as pa

    try:
        frame = pd.read_parquet(path)
    except (OSError, pa.ArrowException) as error:
        raise HardStop(
            "the gaps file cannot be read",
            expected=str(path),
            found=quoted(error, 160),
            hint="let the root-cause analysis write it anew: run_stage.py --results-dir RUN",
        ) from error
    absent = [c for c in GAP_COLUMNS if c not in frame.columns]
    if absent:
        raise HardStop(
            f"{path.name} lacks the column {', '.join(absent)}",
            expected=", ".join(GAP_COLUMNS),
            found=", ".join(map(str, frame.columns)),
            hint="give the kpi_gaps.parquet or mining_gaps.parquet that analyze_gaps.py or route_gaps.py wrote",
        )
    return frame
