"""Which pool rows join the training set, and why the others do not.

Every distinct content of the pool is one item (a featureless row is its own item). Each target's neighbours among the
items are judged; every row of a proposed item is counted as kept or as rejected for one reason, and the counts must
balance, else the run stops: a silent drop.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from deft_aoi.contract.errors import HardStop
from deft_aoi.contract.text import is_pass, quoted
from deft_aoi.mining import proposals
from deft_aoi.mining.distinct import KEPT, DistinctContents, Exclusions, distinct_contents
from deft_aoi.mining.neighbours import top_k
from deft_aoi.mining.settings import MiningConfig
from deft_aoi.mining.store import EmbeddingStore, StoredRows, zero_rows

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

PAIR_REASONS = ("below_min_similarity", "label_filter")
SOURCE_REASONS = ("leaks", "already_in_training", "featureless", "zero_embedding", "conflicting_labels", "duplicate_content")
REASONS = PAIR_REASONS + SOURCE_REASONS


@dataclass(frozen=True)
class Mined:
    """The outcome.

    Attributes:
        pairs: one row a target and proposed source row: ``target_filepath, target_label, source_filepath, sample_id,
            content_id, rank, similarity, label, provenance, decision, encoder``.
        kept: pool rows to add, pool order, with ``similarity``, ``target_ids`` and ``encoder``.
        counts: ``candidates``, ``kept``, ``rejected``, ``targets``, ``pool_rows``, ``pairs``.
        rejected: reason → rows; every reason is there.
        leaks: evaluation set → rejected rows.
        pool_leaks: evaluation set → ``sample_id`` of every pool row that is in it, whether a target was near it or not.
        config: what was asked for.
        encoder: name of the encoder.
        warnings: lines for a person.
        targets: the targets, as given.
        target_embeddings: ``(T, D)``.
    """

    pairs: pd.DataFrame
    kept: pd.DataFrame
    counts: dict[str, int]
    rejected: dict[str, int]
    leaks: dict[str, int]
    pool_leaks: dict[str, tuple[str, ...]]
    config: MiningConfig
    encoder: str
    warnings: tuple[str, ...]
    targets: pd.DataFrame
    target_embeddings: np.ndarray


def select(
    targets: pd.DataFrame,
    target_embeddings: np.ndarray,
    pool: pd.DataFrame,
    pool_embeddings: EmbeddingStore | np.ndarray,
    *,
    config: MiningConfig,
    encoder: str,
    exclusions: Exclusions | None = None,
    previous_kept: int | None = None,
) -> Mined:
    """Mine the pool for the neighbours of ``targets``.

    Args:
        targets: one row a weak sample: ``filepath``, ``label``; further columns are kept.
        target_embeddings: ``(T, D)``, aligned with ``targets``.
        pool: ``deft_aoi.mining.pool.Pool.frame`` plus ``filepath`` (see :func:`with_filepath`).
        pool_embeddings: a store that holds every content of the pool, or ``(N, D)`` aligned with ``pool``.
        config: see :class:`MiningConfig`.
        encoder: name of the encoder, written beside every row.
        exclusions: training and evaluation contents.
        previous_kept: rows kept by the previous iteration, for the yield warning.

    Returns:
        The decisions. The same input gives the same outcome on any machine.

    Raises:
        HardStop: frames and embeddings do not fit, or the counts do not balance.
    """
    import numpy as np

    if not isinstance(pool_embeddings, EmbeddingStore) and len(pool_embeddings) != len(pool):
        raise HardStop(
            "pool and embeddings do not match",
            expected=f"{len(pool)} rows",
            found=f"{len(pool_embeddings)}",
            hint="embed the pool again: prestage_pregen.py --force",
        )
    if len(targets) != len(target_embeddings):
        raise HardStop(
            "targets and embeddings do not match",
            expected=f"{len(targets)} rows",
            found=f"{len(target_embeddings)}",
            hint="embed the targets again: run the mining stage again",
        )
    excluded = exclusions or Exclusions()
    targets = targets.reset_index(drop=True)
    pool = pool.reset_index(drop=True)
    items = distinct_contents(pool, excluded)
    everything = np.arange(len(items.first))
    lost = np.zeros(len(targets), dtype=bool)
    if config.metric == "cosine":  # a zero vector has no direction, so nothing is similar to it: a flat pair, usually
        zero = zero_rows(_vectors(pool_embeddings, pool, items.first))
        items.reason[zero[items.reason[zero] == KEPT]] = "zero_embedding"
        lost[zero_rows(target_embeddings)] = True
    proposals = _propose(targets, target_embeddings, pool, pool_embeddings, items, everything, config)
    if config.search_eligible:
        usable = np.flatnonzero(items.reason == KEPT)
        further = _propose(targets, target_embeddings, pool, pool_embeddings, items, usable, config)
        proposals = [
            sorted([p for p in nearest if items.reason[p[0]] != KEPT] + free, key=lambda p: (-p[1], str(items.key[p[0]])))
            for nearest, free in zip(proposals, further, strict=True)
        ]
    proposals = [[] if without else found for found, without in zip(proposals, lost, strict=True)]
    pairs = _judge(targets, pool, items, proposals, config)
    return _conclude(pairs, targets, target_embeddings, pool, items, config, encoder, previous_kept)


def _propose(
    targets: pd.DataFrame,
    target_embeddings: np.ndarray,
    pool: pd.DataFrame,
    pool_embeddings: EmbeddingStore | np.ndarray,
    items: DistinctContents,
    searched: np.ndarray,
    config: MiningConfig,
) -> list[list[tuple[int, float]]]:
    """Each target's neighbours among the ``searched`` items: ``(item, similarity)``, nearest first."""
    import numpy as np

    if not len(searched):
        return [[] for _ in range(len(targets))]
    tie_order = np.argsort(np.argsort(items.key[searched], kind="stable"), kind="stable")

    def _search(queries: np.ndarray, among: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        found, similarity = top_k(
            queries,
            _vectors(pool_embeddings, pool, items.first[searched[among]]),
            k,
            metric=config.metric,
            backend=config.backend,
            block_bytes=config.block_bytes,
            tie_order=tie_order[among],
            normalized=isinstance(pool_embeddings, EmbeddingStore),
        )
        return among[found], similarity

    vectors = _vectors(pool_embeddings, pool, items.first[searched])
    found = proposals.propose(
        _search, target_embeddings, targets["label"].tolist(), items.label[searched], vectors, config=config
    )
    return [[(int(searched[local]), float(similarity)) for local, similarity in ranked] for ranked in found]


def _vectors(source: EmbeddingStore | np.ndarray, pool: pd.DataFrame, rows: np.ndarray) -> StoredRows | np.ndarray:
    """Embeddings of these pool rows (ascending)."""
    if isinstance(source, EmbeddingStore):
        return source.rows(pool["content_id"].to_numpy(object)[rows].tolist())
    return source if len(rows) == len(source) else source[rows]


def with_filepath(frame: pd.DataFrame, light: str, image_ext: str) -> pd.DataFrame:
    """The pool's frame with ``filepath``, the test image of ``light`` (workspace-relative)."""
    name = frame["object_name"] + (f"_{light}" if light else "") + image_ext
    return frame.assign(filepath=frame["input_path"] + "/" + name)


def _judge(
    targets: pd.DataFrame,
    pool: pd.DataFrame,
    items: DistinctContents,
    proposals: list[list[tuple[int, float]]],
    config: MiningConfig,
) -> pd.DataFrame:
    """One row a target and source row, with its decision."""
    import numpy as np
    import pandas as pd

    order = np.argsort(items.of_row, kind="stable")
    begin = np.searchsorted(items.of_row[order], np.arange(len(items.first) + 1))
    labels, sources = targets["label"].tolist(), pool["label"].to_numpy(object)
    out: dict[str, list[Any]] = {"target": [], "row": [], "rank": [], "similarity": [], "decision": []}
    for target, found in enumerate(proposals):
        for rank, (item, similarity) in enumerate(found, start=1):
            for row in order[begin[item] : begin[item + 1]]:
                decision = str(items.reason[item])
                if config.min_similarity is not None and similarity < config.min_similarity:
                    decision = "below_min_similarity"
                elif config.filter_by_label and sources[row] != labels[target]:
                    decision = "label_filter"
                elif decision == KEPT and row != items.first[item]:
                    decision = "duplicate_content"
                for name, value in zip(out, (target, int(row), rank, similarity, decision), strict=True):
                    out[name].append(value)
    pairs = pd.DataFrame(out)
    return pairs.astype({"target": "int64", "row": "int64", "rank": "int64", "similarity": "float32"})


def _conclude(
    pairs: pd.DataFrame,
    targets: pd.DataFrame,
    target_embeddings: np.ndarray,
    pool: pd.DataFrame,
    items: DistinctContents,
    config: MiningConfig,
    encoder: str,
    previous_kept: int | None,
) -> Mined:
    import numpy as np

    progress = {name: i for i, name in enumerate((*PAIR_REASONS, *SOURCE_REASONS, KEPT))}
    # A row was as good as its best pair: a neighbour too far from one target may be near another.
    best = pairs.assign(progress=pairs["decision"].map(progress).astype("int64")).groupby("row")["progress"].max()
    names = list(progress)
    decided = {row: names[step] for row, step in zip(best.index.tolist(), best.tolist(), strict=True)}
    tally = Counter(decided.values())
    rejected = {reason: tally.get(reason, 0) for reason in REASONS}
    leaks = Counter(str(items.leak[items.of_row[row]]) for row, reason in decided.items() if reason == "leaks")
    kept_rows = sorted(row for row, reason in decided.items() if reason == KEPT)
    kept = _kept_frame(pairs, targets, pool, kept_rows, encoder)
    counts = {
        "targets": len(targets),
        "pool_rows": len(pool),
        "pairs": len(pairs),
        "candidates": int(pairs["row"].nunique()),
        "kept": len(kept),
        "rejected": sum(rejected.values()),
    }
    if counts["candidates"] != counts["kept"] + counts["rejected"]:
        raise HardStop(
            "silent drop: the mined rows do not balance",
            expected=f"{counts['candidates']} candidates = kept + rejected",
            found=f"{counts['kept']} kept + {counts['rejected']} rejected",
            hint="this is a defect of the program, not of the data: please report it with mining_summary.txt",
        )
    warnings = [*premine_warnings(targets, pool)]
    silent = len(zero_rows(np.asarray(target_embeddings))) if config.metric == "cosine" else 0
    if silent:
        warnings.append(f"{silent} targets have an embedding of zero (flat images): nothing is similar to them")
    if previous_kept is not None:
        warnings += proposals.yield_warning(counts["kept"], previous_kept)
    table = _pair_table(pairs, targets, pool, encoder)
    barred = _pool_leaks(pool, items)
    leaks_of = dict(sorted(leaks.items()))
    return Mined(table, kept, counts, rejected, leaks_of, barred, config, encoder, tuple(warnings), targets, target_embeddings)


def _pool_leaks(pool: pd.DataFrame, items: DistinctContents) -> dict[str, tuple[str, ...]]:
    found: dict[str, list[str]] = {}
    leak = items.leak[items.of_row]
    names = pool["sample_id"] if "sample_id" in pool.columns else pool["content_id"]
    for row in (leak != "").nonzero()[0]:
        found.setdefault(str(leak[row]), []).append(str(names.iat[row]))
    return {name: tuple(rows) for name, rows in sorted(found.items())}


def _kept_frame(pairs: pd.DataFrame, targets: pd.DataFrame, pool: pd.DataFrame, rows: list[int], encoder: str) -> pd.DataFrame:
    mine = pairs[pairs["decision"] == KEPT].sort_values(["row", "similarity", "target"], ascending=[True, False, True])
    paths = targets["filepath"].astype(str)
    grouped = mine.groupby("row")
    nearest = grouped["similarity"].first()
    asked = grouped["target"].agg(lambda t: ";".join(paths.iloc[list(t)[:5]]))
    kept = pool.iloc[rows].copy()
    kept["similarity"] = [f"{float(nearest[row]):.7g}" for row in rows]
    kept["target_ids"] = [str(asked[row]) for row in rows]
    kept["encoder"] = encoder
    return kept.reset_index(drop=True)


def _pair_table(pairs: pd.DataFrame, targets: pd.DataFrame, pool: pd.DataFrame, encoder: str) -> pd.DataFrame:
    import pandas as pd

    def _of(frame: pd.DataFrame, column: str, rows: pd.Series) -> list[Any]:
        return frame[column].to_numpy(object)[rows.to_numpy()].tolist() if column in frame.columns else [""] * len(rows)

    columns = {
        "target_filepath": _of(targets, "filepath", pairs["target"]),
        "target_label": _of(targets, "label", pairs["target"]),
        "source_filepath": _of(pool, "filepath", pairs["row"]),
        "sample_id": _of(pool, "sample_id", pairs["row"]),
        "content_id": _of(pool, "content_id", pairs["row"]),
        "rank": pairs["rank"].to_numpy(),
        "similarity": pairs["similarity"].to_numpy(),
        "label": _of(pool, "label", pairs["row"]),
        "provenance": _of(pool, "provenance", pairs["row"]),
        "decision": pairs["decision"].tolist(),
    }
    return pd.DataFrame(columns).assign(encoder=encoder)


def premine_warnings(targets: pd.DataFrame, pool: pd.DataFrame) -> list[str]:
    """Target labels of which the pool has no row: mining can only find look-alikes of other labels for them."""
    counts = Counter(targets["label"].tolist())
    absent = sorted(set(counts) - set(pool["label"].unique()))
    return [
        f"the pool has no row labelled {quoted(label)}, which {counts[label]} targets have"
        + ("" if is_pass(label) else ": collect or generate such defects")
        for label in absent
    ]
