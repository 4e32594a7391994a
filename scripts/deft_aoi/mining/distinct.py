"""The distinct contents of a pool, and why some of them may not be mined whatever they are near to."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from deft_aoi.mining.pool import ROW_KEY

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

KEPT = "kept"


@dataclass(frozen=True)
class Exclusions:
    """What may not be mined.

    Attributes:
        training_ids: contents that training has.
        training_keys: ``(input_path, golden_path, object_name)`` of its rows (:func:`deft_aoi.mining.pool.row_keys`).
        leaks: name of an evaluation set (``validation``, ``kpi``, ``holdout``) → its contents.
    """

    training_ids: AbstractSet[str] = frozenset()
    training_keys: AbstractSet[tuple[str, str, str]] = frozenset()
    leaks: Mapping[str, AbstractSet[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class DistinctContents:
    """Distinct contents: ``first`` row, ``reason`` (or ``kept``), ``label``, tie ``key``; ``of_row`` maps rows to items."""

    first: np.ndarray
    reason: np.ndarray
    leak: np.ndarray
    label: np.ndarray
    key: np.ndarray
    of_row: np.ndarray


def distinct_contents(pool: pd.DataFrame, excluded: Exclusions) -> DistinctContents:
    """The distinct contents of a pool, each kept or rejected for what it is itself."""
    import numpy as np
    import pandas as pd

    sample = pool["sample_id"] if "sample_id" in pool.columns else pd.Series([f"row-{i:09d}" for i in range(len(pool))])
    featureless = pool["featureless"].to_numpy(bool) if "featureless" in pool.columns else np.zeros(len(pool), bool)
    identity = pool["content_id"].where(~featureless, pool["content_id"] + ":" + sample)
    of_row, keys = pd.factorize(identity)
    first = np.zeros(len(keys), dtype=np.int64)
    first[of_row[::-1]] = np.arange(len(pool))[::-1]
    label = pool["label"].to_numpy(object)[first]
    content = pool["content_id"].to_numpy(object)[first]
    reason = np.full(len(keys), KEPT, dtype=object)
    leak = np.full(len(keys), "", dtype=object)
    plain = ~featureless[first]
    labels = pd.Series(pool["label"].to_numpy(object)).groupby(of_row).nunique().to_numpy()
    reason[(labels > 1) & plain] = "conflicting_labels"
    reason[np.isin(content, list(excluded.training_ids)) & plain] = "already_in_training"
    for name, ids in excluded.leaks.items():
        mine = np.isin(content, list(ids)) & plain
        reason[mine], leak[mine] = "leaks", name
    if excluded.training_keys and (~plain).any() and set(ROW_KEY) <= set(pool.columns):
        rows = first[~plain]
        keys_of = pool.iloc[rows][list(ROW_KEY)].itertuples(index=False, name=None)
        used = np.array([key in excluded.training_keys for key in keys_of], dtype=bool)
        reason[np.flatnonzero(~plain)[used]] = "featureless"
    return DistinctContents(first, reason, leak, label, np.asarray(keys, dtype=object), of_row)
