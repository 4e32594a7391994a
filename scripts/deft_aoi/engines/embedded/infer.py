"""Inference and evaluation: one score per row, averaged over quarter turns.

``inference.csv`` is every input column, cells verbatim and in order, then ``siamese_score`` (a column of that name in the
input is overwritten in place, as in TAO). Rows keep their order; an error names its row.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from omegaconf import DictConfig

from deft_aoi.contract.files import atomic_write_text
from deft_aoi.engines.embedded import checkpoint
from deft_aoi.engines.embedded.data import PairSet, Table
from deft_aoi.engines.embedded.model import ModelConfig, score_pairs
from deft_aoi.engines.embedded.status import StatusLog
from deft_aoi.engines.embedded.train import Interrupted, eval_margin, load_split, pick_device

SCORE = "siamese_score"


def score_rows(
    config: DictConfig, rows: PairSet, checkpoint_path: Path, log: StatusLog, *, stop: Callable[[], bool]
) -> np.ndarray:
    """Scores of all rows, ``(N,)`` float32, higher = more defective.

    Raises:
        CheckpointError, FileNotFoundError, DataError: in one line, before or at the row.
        Interrupted: ``stop`` said so.
        ValueError: a score is not finite (a damaged checkpoint).
    """
    device = pick_device()
    model, _ = checkpoint.build_model(checkpoint_path, device, expected=ModelConfig.from_spec(config))
    out = []
    for pairs, _labels in rows.ordered(int(config.dataset.classify.batch_size)):
        if stop():
            raise Interrupted("stopped by a signal")
        out.append(score_pairs(model, pairs.to(device).float() / 255.0).cpu())
    values = torch.cat(out).numpy()
    if not np.isfinite(values).all():
        raise ValueError(
            f"row {int(np.flatnonzero(~np.isfinite(values))[0]) + 1}: the score is not a finite number; "
            f"checkpoint {checkpoint_path}"
        )
    return values


def inference_text(table: Table, values: np.ndarray) -> str:
    """The text of ``inference.csv``; scores are the shortest decimal text that reads back to the same float32."""
    columns = list(table.columns)
    at = columns.index(SCORE) if SCORE in columns else len(columns)
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(columns[:at] + [SCORE] + columns[at + 1 :])
    for row, value in zip(table.rows, values, strict=True):
        writer.writerow([*row[:at], str(np.float32(value)), *row[at + 1 :]])
    return buffer.getvalue()


def run_inference(config: DictConfig, log: StatusLog, *, stop: Callable[[], bool]) -> None:
    """Score ``infer_dataset`` and write ``inference.csv`` in one step."""
    path = Path(config.inference.checkpoint)
    log.write(f"Loading checkpoint: {path}")
    checkpoint.load(path, torch.device("cpu"))
    log.write(f"Loading inference csv from : {config.dataset.classify.infer_dataset.csv_path}")
    rows = load_split(config, "infer_dataset")
    values = score_rows(config, rows, path, log, stop=stop)
    atomic_write_text(Path(config.results_dir) / "inference.csv", inference_text(rows.table, values))


def run_evaluate(config: DictConfig, log: StatusLog, *, stop: Callable[[], bool]) -> None:
    """TAO's test metrics at ``eval_margin``: percent, false alarms over PASS rows, misses over defect rows."""
    path = Path(config.evaluate.checkpoint)
    log.write(f"Loading checkpoint: {path}")
    checkpoint.load(path, torch.device("cpu"))
    log.write(f"test_csv_path {config.dataset.classify.test_dataset.csv_path}")
    rows = load_split(config, "test_dataset")
    margin = eval_margin(config, log)
    flagged = score_rows(config, rows, path, log, stop=stop) > margin
    defect = rows.labels.numpy().astype(bool)
    passes, defects = max(1, int((~defect).sum())), max(1, int(defect.sum()))
    log.metrics(
        "Test metrics generated.",
        {
            "test_acc": 100.0 * float((flagged == defect).mean()),
            "test_fpr": 100.0 * int((flagged & ~defect).sum()) / passes,
            "test_fnr": 100.0 * int((~flagged & defect).sum()) / defects,
            "defect_acc": 100.0 * int((flagged & defect).sum()) / defects,
        },
    )
