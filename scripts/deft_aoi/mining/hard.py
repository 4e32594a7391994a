"""Hard rows: real rows of the pool that the best model so far gets wrong, or nearly so.

1. Real rows are ranked by the model's score: defects from the lowest, good parts from the highest.
2. Each side is walked from its hardest row until half of the rows asked for are kept; every row passed on the way is counted
   as kept or as rejected for one reason.
3. A row that could be kept is held against the five nearest contents of pool and base training together, by the whitened
   pair feature or the difference image: where most of them have the other side's label (good against defective), the row's
   label is in doubt. It is left out and listed; a verdict of a person or the agent brings it in or keeps it out. Unguarded,
   this ranking finds nearly every wrong label of the pool.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from deft_aoi.contract.errors import HardStop
from deft_aoi.contract.text import PASS
from deft_aoi.mining.distinct import KEPT, Exclusions, distinct_contents
from deft_aoi.mining.settings import GUARD_NEIGHBOURS

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

BRINGS_IN, KEEPS_OUT = ("edge_case", "systematic"), ("mislabeled", "data_quality")
"""Verdicts at the spot check on a row whose label was in doubt."""

REASONS = (
    "label_in_doubt",
    "called_bad",
    "mined_by_knn",
    "already_in_training",
    "leaks",
    "featureless",
    "conflicting_labels",
    "duplicate_content",
)


@dataclass(frozen=True)
class HardRows:
    """The outcome.

    Attributes:
        kept: pool rows to add, hardest first of each side, with ``model_score``.
        looked_at: every row that was passed: ``sample_id, content_id, label, model_score, decision, others`` (``others``:
            how many of the five nearest have the other side's label; -1 where nobody asked).
        rejected: reason → rows; every reason is there.
    """

    kept: pd.DataFrame
    looked_at: pd.DataFrame
    rejected: dict[str, int]

    @property
    def left_out(self) -> pd.DataFrame:
        """Rows whose label is in doubt, for a person to look at."""
        return self.looked_at[self.looked_at["decision"] == "label_in_doubt"]


def whitened(vectors: np.ndarray) -> np.ndarray:
    """``(N, D)`` centred, in the principal axes, each of unit variance; axes without variance are left out."""
    import numpy as np

    values = np.asarray(vectors, dtype=np.float64)
    values = values - values.mean(axis=0)
    power, axes = np.linalg.eigh(values.T @ values / max(1, len(values) - 1))
    used = power > max(power.max(), 0.0) * 1e-6
    return np.asarray(values @ axes[:, used] / np.sqrt(power[used]))


def select_hard(
    pool: pd.DataFrame,
    scores: np.ndarray,
    *,
    count: int,
    contents: tuple[list[str], list[str], np.ndarray],
    exclusions: Exclusions,
    taken: frozenset[str] = frozenset(),
    verdicts: Mapping[str, str] | None = None,
) -> HardRows:
    """Choose the hard rows.

    Args:
        pool: the identified pool; rows with another ``provenance`` than ``real`` are not looked at.
        scores: ``(N,)`` the model's score of each pool row; higher = more like a defect. NaN where ``provenance`` is not real.
        count: rows to keep; half of them defects, half good parts.
        contents: distinct contents of pool and base training together: ids, labels, vectors ``(M, D)`` that are compared by
            Euclidean distance (a learned feature is whitened before).
        exclusions: training and evaluation contents.
        taken: contents that the k-NN has mined in this iteration.
        verdicts: sample id → verdict of the spot check.

    Raises:
        HardStop: a real row has no score, or the counts do not balance.
    """
    import numpy as np
    import pandas as pd

    items = distinct_contents(pool.reset_index(drop=True), exclusions)
    pool = pool.reset_index(drop=True)
    real = (pool["provenance"] == "real").to_numpy()
    if not np.isfinite(scores[real]).all():
        raise HardStop(
            "pool rows have no score",
            expected=f"{int(real.sum())} finite scores",
            found=f"{int((~np.isfinite(scores[real])).sum())} without one",
            hint="read the log of the scoring job in mining_filter/",
        )
    said, seen, out = dict(verdicts or {}), set(), []
    featureless = pool["featureless"].to_numpy(bool) if "featureless" in pool.columns else np.zeros(len(pool), bool)
    guard = _Guard(contents)
    for side, wanted in (
        (real & (pool["label"] != PASS).to_numpy(), count - count // 2),
        (real & (pool["label"] == PASS).to_numpy(), count // 2),
    ):
        rows = np.flatnonzero(side)
        good = bool(len(rows) and pool["label"].iat[rows[0]] == PASS)
        kept = 0
        for row in rows[np.argsort(-scores[rows] if good else scores[rows], kind="stable")]:
            if kept == wanted:
                break
            content, sample, others = str(pool["content_id"].iat[row]), str(pool["sample_id"].iat[row]), -1
            decision = "featureless" if featureless[row] else str(items.reason[items.of_row[row]])
            if decision == KEPT:
                if content in seen:
                    decision = "duplicate_content"
                elif content in taken:
                    decision = "mined_by_knn"
                elif said.get(sample) in KEEPS_OUT:
                    decision = "called_bad"
                else:
                    others = guard.others(content, good)
                    if others > GUARD_NEIGHBOURS // 2 and said.get(sample) not in BRINGS_IN:
                        decision = "label_in_doubt"
            seen.add(content)
            kept += decision == KEPT
            out.append((int(row), sample, content, pool["label"].iat[row], float(scores[row]), decision, others))
    names = ["row", "sample_id", "content_id", "label", "model_score", "decision", "others"]
    table = pd.DataFrame(out, columns=names)
    tally = Counter(table["decision"])
    rejected = {reason: tally.get(reason, 0) for reason in REASONS}
    if len(table) != tally[KEPT] + sum(rejected.values()):
        raise HardStop(
            "silent drop: the hard rows do not balance",
            expected=f"{len(table)} looked at = kept + rejected",
            found=f"{tally[KEPT]} kept + {sum(rejected.values())} rejected",
            hint="this is a defect of the program, not of the data: please report it with hard_rows.csv",
        )
    chosen = table[table["decision"] == KEPT]
    kept_rows = pool.iloc[chosen["row"].tolist()].reset_index(drop=True)
    return HardRows(kept_rows.assign(model_score=chosen["model_score"].to_numpy()), table.drop(columns="row"), rejected)


def summary_row(found: HardRows, count: int, model: str) -> dict[str, Any]:
    """``hard_summary.csv``: counts and one column for each reason."""
    return {
        "looked_at_count": len(found.looked_at),
        "kept_count": len(found.kept),
        "rejected_count": sum(found.rejected.values()),
        **{f"rejected_{reason}": number for reason, number in found.rejected.items()},
        "hard_rows": count,
        "kept_defects": int((found.kept["label"] != PASS).sum()),
        "scored_by": model,
    }


class _Guard:
    """How many of a content's nearest have the other side's label."""

    def __init__(self, contents: tuple[list[str], list[str], np.ndarray]) -> None:
        import numpy as np

        ids, labels, vectors = contents
        self._at = {name: i for i, name in enumerate(ids)}
        self._good = np.array([label == PASS for label in labels], dtype=bool)
        self._points = np.asarray(vectors, dtype=np.float64)
        self._norms = (self._points**2).sum(axis=1)

    def others(self, content: str, good: bool) -> int:
        import numpy as np

        at = self._at[content]
        distance = self._norms - 2 * (self._points @ self._points[at])
        distance[at] = np.inf
        nearest = np.argsort(distance, kind="stable")[:GUARD_NEIGHBOURS]
        return int((self._good[nearest] != good).sum())
