"""How to mine: the configuration, and every constant with its reason."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from deft_aoi.contract.errors import UsageError

TOP_K_PER_TARGET = 5
"""Neighbours asked for per target: the default."""

METRIC = "cosine"
METRICS = ("cosine", "euclidean", "manhattan")

MIN_SIMILARITY: dict[str, float | None] = {
    # The seed's cut for SigLIP appearance embeddings.
    "siglip": 0.9,
    # No cut. On DeepPCB (benchmarks/mining_study.py, five trainings) none of 265 rows kept in a first iteration was below
    # 0.66, so 0.5 or 0.6 would change nothing there; and more similar is not more of a kind: of a false alarm's
    # neighbours 68 % are good parts at 0.7 to 0.8, 38 % from 0.9 up. Over eight further trainings a cut at 0.8 took 12 % of
    # the rows and changed nothing that shows. `None` means that nothing is cut, and nothing else.
    "pair_feature": None,
    # Registered DeepPCB: of a weak part's five nearest 87 to 100 % are on its side, good or defective, from 0.5 up; of a
    # defect's nearest below that, 7 to 58 %. (On the small demo the label of a neighbour is little better than chance.)
    "difference": 0.5,
    # Raw pixels are the study's control; a cut would only hide what it does.
    "pixels": None,
}
"""Default cut-off by encoder name (the part of the encoder's identity before ``:``)."""

MINING = ("knn", "hard", "both")
"""Who proposes rows: the nearest neighbours of weak KPI rows, the pool rows that the best model gets wrong, or both."""

HARD_ROWS = 60
"""Hard rows an iteration, half defects and half good parts."""

GUARD_NEIGHBOURS = 5
"""Nearest contents that a hard row's label is held against; most of them must agree. With 5 % wrong labels 43 to 47 of 60
unguarded hard rows were wrong, with this guard one; it costs 8 of 60 right ones. By the difference image, DeepPCB, ranked by the
rule without training: at 0 / 2 / 5 % wrong labels 0 / 0 / 0 defects and 0 / 0.3 / 0.3 good parts of 30 each are wrong, 8 right
defects and no right good part are left out. By the test image alone (pixels) 359 right defects are, and one is kept."""

DISPLACED_PX, DISPLACED_SHARE = 1.5, 0.05
"""Hard rows are refused where goldens stay and more than this share of the good training rows are displaced by so much (at
64 px): the hardest good parts are then the displaced ones, and the network learns to forgive displacement."""

YIELD_WARNING_FRACTION = 0.5
"""Fewer kept rows than this share of the previous iteration's is a warning."""

BLOCK_BYTES = 256 << 20
"""Default budget of :func:`deft_aoi.mining.neighbours.top_k` for its blocks."""

JPEG_QUALITY = 95
"""Used only where a synthetic image must be re-encoded to the spec's ``.jpg``: visually lossless, no chroma subsampling."""

MAX_LISTED = 50
"""Findings that a hard stop spells out; the rest is counted."""


def encoder_family(name: str) -> str:
    """``siglip`` for ``siglip:google/…``: the part of an encoder's name that the defaults go by."""
    return name.split(":", 1)[0]


def default_min_similarity(encoder_name: str) -> float | None:
    """The cut-off used when none was given; ``None`` (no cut) for an encoder without one."""
    return MIN_SIMILARITY.get(encoder_family(encoder_name))


@dataclass(frozen=True)
class MiningConfig:
    """How to mine (schema ``mining_config``).

    Attributes:
        top_k: neighbours a target.
        metric: ``cosine``, ``euclidean``, ``manhattan``.
        min_similarity: cut-off; ``None`` cuts nothing, and means nothing else.
        filter_by_label: reject neighbours of another label than the target's (after the search, as TAO does).
        search_eligible: give every target its ``top_k`` nearest rows that can still be kept. The nearer ones that cannot
            (mined before, leaking) are proposed and rejected all the same, but take no place; otherwise the yield of a
            frozen pool collapses as soon as the nearest rows are in training.
        quota_per_label: at most so many neighbours of one label a target; ``None`` is no quota.
        diversity_margin: among neighbours whose similarity is within this of the nearest, take the farthest from one
            another first; ``None`` is plain k-NN.
        hard_pass: for targets that are false alarms (label PASS), search among PASS rows only.
        backend: of :func:`deft_aoi.mining.neighbours.top_k`.
        block_bytes: of the same.
    """

    top_k: int = TOP_K_PER_TARGET
    metric: str = METRIC
    min_similarity: float | None = None
    filter_by_label: bool = False
    search_eligible: bool = False
    quota_per_label: int | None = None
    diversity_margin: float | None = None
    hard_pass: bool = False
    backend: str = "auto"
    block_bytes: int = BLOCK_BYTES

    def __post_init__(self) -> None:
        wrong = []
        if not 1 <= self.top_k <= 1000:
            wrong.append(f"top_k {self.top_k}, expected 1 to 1000")
        if self.metric not in METRICS:
            wrong.append(f"metric {self.metric}, expected one of {METRICS}")
        if self.min_similarity is not None and self.metric == "cosine" and not -1 <= self.min_similarity <= 1:
            wrong.append(f"min_similarity {self.min_similarity}, expected -1 to 1 or none")
        if self.quota_per_label is not None and self.quota_per_label < 1:
            wrong.append(f"quota_per_label {self.quota_per_label}, expected 1 or more")
        if self.diversity_margin is not None and self.diversity_margin < 0:
            wrong.append(f"diversity_margin {self.diversity_margin}, expected 0 or more")
        if wrong:
            raise UsageError("mining: wrong setting", found="; ".join(wrong))

    def as_dict(self) -> dict[str, Any]:
        """For the record; backend and budget are left out since they cannot change the result."""
        return {name: value for name, value in asdict(self).items() if name not in ("backend", "block_bytes")}
