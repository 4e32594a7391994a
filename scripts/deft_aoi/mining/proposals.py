"""Options beyond plain k-NN, all off by default, and the yield monitor."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from deft_aoi.contract.text import is_pass
from deft_aoi.mining.settings import YIELD_WARNING_FRACTION, MiningConfig

if TYPE_CHECKING:
    import numpy as np

    from deft_aoi.mining.store import StoredRows

Search = Callable[["np.ndarray", "np.ndarray", int], "tuple[np.ndarray, np.ndarray]"]
Proposals = list[list[tuple[int, float]]]

_WIDER = 8
"""A quota or a diverse choice looks at so many times ``top_k`` neighbours; what it cannot fill there stays unfilled."""


def propose(
    search: Search,
    targets: np.ndarray,
    target_labels: list[str],
    item_labels: np.ndarray,
    vectors: np.ndarray | StoredRows,
    *,
    config: MiningConfig,
) -> Proposals:
    """Each target's neighbours, nearest first.

    Args:
        search: ``(queries, among, k)`` → items and similarities, both ``(T, k)``.
        targets: ``(T, D)``.
        target_labels: ``T`` labels.
        item_labels: label of each searched item.
        vectors: embedding of each searched item.
        config: which options are on.
    """
    import numpy as np

    everything = np.arange(len(item_labels))
    wider = config.quota_per_label is not None or config.diversity_margin is not None
    k = config.top_k * (_WIDER if wider else 1)
    out: Proposals = [[] for _ in target_labels]
    passes = np.array([config.hard_pass and is_pass(label) for label in target_labels], dtype=bool)
    for among, mine in ((everything, np.flatnonzero(~passes)), (np.flatnonzero(item_labels == "PASS"), np.flatnonzero(passes))):
        if not len(mine) or not len(among):
            continue
        found, similarity = search(targets[mine], among, k)
        for target, items, values in zip(mine, found, similarity, strict=True):
            ranked = list(zip(items.tolist(), values.tolist(), strict=True))
            if config.quota_per_label is not None:
                ranked = _within_quota(ranked, item_labels, config.quota_per_label)
            if config.diversity_margin is not None:
                ranked = _farthest_first(ranked, vectors, config.top_k, config.diversity_margin)
            out[target] = ranked[: config.top_k]
    return out


def _within_quota(ranked: list[tuple[int, float]], labels: np.ndarray, quota: int) -> list[tuple[int, float]]:
    seen: dict[str, int] = {}
    out = []
    for item, similarity in ranked:
        label = str(labels[item])
        seen[label] = seen.get(label, 0) + 1
        if seen[label] <= quota:
            out.append((item, similarity))
    return out


def _farthest_first(
    ranked: list[tuple[int, float]], vectors: np.ndarray | StoredRows, k: int, margin: float
) -> list[tuple[int, float]]:
    """The nearest, then among near-equals (within ``margin`` of it) always the one farthest from what is chosen."""
    import numpy as np

    near = [pair for pair in ranked if pair[1] >= ranked[0][1] - margin]
    if len(near) <= k:
        return ranked[:k]
    points = np.asarray(vectors[np.array([item for item, _ in near])], dtype=np.float64)
    chosen = [0]
    distance = ((points - points[0]) ** 2).sum(axis=1)
    while len(chosen) < k:
        distance[chosen] = -1.0
        chosen.append(int(distance.argmax()))
        distance = np.minimum(distance, ((points - points[chosen[-1]]) ** 2).sum(axis=1))
    return [near[i] for i in sorted(chosen)]


def yield_warning(kept: int, previous_kept: int) -> list[str]:
    """A line when this iteration kept less than half of what the previous one kept."""
    if previous_kept > 0 and kept < YIELD_WARNING_FRACTION * previous_kept:
        return [f"the yield fell: {kept} rows kept, {previous_kept} in the previous iteration; the pool is running dry"]
    return []
