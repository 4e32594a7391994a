"""``embedding image_embeddings`` with ``model: pair_feature``: the model's own view of a change, for mining.

Input Parquet: ``sample_id, light, filepath, golden_filepath`` and any further columns, one row per sample and light.
Output: the same rows and columns in the same order, then ``embedding`` (fixed-size float32 list of length 1). The file's
metadata key ``deft_encoder`` identifies the encoder by its weights, so two encoders are never mixed unnoticed.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from omegaconf import DictConfig

from deft_aoi.contract.files import atomic_write_bytes
from deft_aoi.engines.embedded import checkpoint
from deft_aoi.engines.embedded.config import PAIR_FEATURE
from deft_aoi.engines.embedded.data import DataError, read_image
from deft_aoi.engines.embedded.model import SiameseNet, pair_features
from deft_aoi.engines.embedded.train import Interrupted, pick_device

METADATA_KEY = b"deft_encoder"
NEEDED = ("sample_id", "light", "filepath", "golden_filepath")


def encoder_identity(model: SiameseNet) -> str:
    """Canonical JSON that is equal exactly when embeddings are comparable: weights, size and input normalisation."""
    config = model.config
    return json.dumps(
        {
            "engine": "embedded",
            "model": PAIR_FEATURE,
            "weights_sha256": checkpoint.weights_digest(model),
            "size": [config.image_width, config.image_height],
            "mean": list(config.mean),
            "std": list(config.std),
            "dim": model.feature_size,
        },
        sort_keys=True,
        separators=(",", ":"),
    )


def _read_input(path: Path) -> pa.Table:
    """The input table, every row's files checked.

    Raises:
        FileNotFoundError: the table or an image is missing; names row, column and path.
        DataError: not Parquet, a column is missing, a path is not text.
    """
    if not path.is_file():
        raise FileNotFoundError(f"input_parquet not found: {path}")
    try:
        table = pq.read_table(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{path} is not a Parquet file: {str(error).splitlines()[0]}") from error
    missing = [name for name in NEEDED if name not in table.column_names]
    if missing:
        raise DataError(f"{path}: column {missing[0]!r} is missing; expected {', '.join(NEEDED)}")
    for column in ("filepath", "golden_filepath"):
        for number, value in enumerate(table.column(column).to_pylist(), start=1):
            if not isinstance(value, str) or not value:
                raise DataError(f"{path}: row {number}, column {column}: expected a path, found {value!r}")
            if not Path(value).is_file():
                raise FileNotFoundError(f"{path}: row {number}, column {column}: image not found: {value}")
    return table.drop_columns(["embedding"]) if "embedding" in table.column_names else table


def run_embedding(config: DictConfig, *, stop: Callable[[], bool]) -> int:
    """Write ``output_parquet``; returns the number of rows.

    Raises:
        CheckpointError, DataError, FileNotFoundError: in one line.
        Interrupted: ``stop`` said so; nothing is written.
    """
    device = pick_device()
    model, _ = checkpoint.build_model(Path(config.model_path), device)
    table = _read_input(Path(config.input_parquet))
    size = model.config.image_width, model.config.image_height
    paths = list(zip(table.column("filepath").to_pylist(), table.column("golden_filepath").to_pylist(), strict=True))
    features = np.zeros((len(paths), model.feature_size), dtype=np.float32)
    for start in range(0, len(paths), config.batch_size):
        if stop():
            raise Interrupted("stopped by a signal")
        batch = paths[start : start + config.batch_size]
        pixels = np.stack([np.stack([read_image(Path(side), *size) for side in pair]) for pair in batch])
        pairs = torch.from_numpy(pixels).permute(0, 1, 4, 2, 3).to(device).float() / 255.0
        features[start : start + len(batch)] = pair_features(model, pairs).cpu().numpy()
    if not np.isfinite(features).all():
        raise ValueError(f"an embedding is not finite; checkpoint {config.model_path}")
    column = pa.FixedSizeListArray.from_arrays(pa.array(features.reshape(-1), pa.float32()), model.feature_size)
    table = table.append_column("embedding", column)
    metadata = {**(table.schema.metadata or {}), METADATA_KEY: encoder_identity(model).encode()}
    buffer = io.BytesIO()
    pq.write_table(table.replace_schema_metadata(metadata), buffer)
    output = Path(config.output_parquet)
    output.parent.mkdir(parents=True, exist_ok=True)
    atomic_write_bytes(output, buffer.getvalue())
    return len(paths)
