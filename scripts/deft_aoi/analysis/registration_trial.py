"""Whether registration earns its place on a workspace's own rows, and what it does there in numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from deft_aoi.analysis.registration import LARGE_STRIP
from deft_aoi.contract.text import is_pass, shown_label

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from deft_aoi.analysis.registered_goldens import Measured, Preprocessing

    Floats = NDArray[np.float64]

FAR_FRACTION = 0.05
"""False-alarm rate at which classes are compared."""

CLASS_ROWS, LOST_ROWS = 10, 2
"""A class of so many rows that loses so many of them decides against registration."""

LARGE_PX_OF_64 = 4


@dataclass(frozen=True)
class Trial:
    """The rule without training, on goldens as they are and registered.

    Attributes:
        auroc_raw: over the labelled rows.
        auroc_registered: the same.
        lost: class → (rows, found raw, found registered) at FAR 5 %, where registering loses two or more of ten or more.
        rows: how many rows were compared.
    """

    auroc_raw: float
    auroc_registered: float
    lost: dict[str, tuple[int, int, int]]
    rows: int

    @property
    def earned(self) -> bool:
        """Registration is better, and hides no class."""
        return self.auroc_registered > self.auroc_raw and not self.lost

    @property
    def why(self) -> str:
        """One line for a person."""
        numbers = f"AUROC of the rule without training {self.auroc_raw:.3f} raw, {self.auroc_registered:.3f} registered"
        lost = "; ".join(
            f"class {shown_label(name, 30)} would lose: {raw} of {rows} found raw, {registered} registered, at FAR 5%"
            for name, (rows, raw, registered) in self.lost.items()
        )
        return f"{numbers} on {self.rows} training and validation rows" + (f"; {lost}" if lost else "")

    def as_dict(self) -> dict[str, Any]:
        """For the plan, outside its digest."""
        return {
            "rows": self.rows,
            "auroc_raw": self.auroc_raw,
            "auroc_registered": self.auroc_registered,
            "lost": {name: list(counts) for name, counts in self.lost.items()},
        }


def trial(labels: Sequence[str], contents: Sequence[str], measured: Sequence[Measured]) -> Trial:
    """Compare the rule on raw and on registered goldens; a content counts once.

    Args:
        labels: (N,) ``PASS`` or a defect name.
        contents: (N,) content ids.
        measured: (N,) what was measured of them.
    """
    import numpy as np

    first = {content: i for i, content in reversed(list(enumerate(contents)))}
    rows = sorted(first.values())
    names = np.array([labels[i] for i in rows], dtype=object)
    good = np.array([is_pass(name) for name in names], dtype=bool)
    raw = np.array([measured[i].rule_raw for i in rows], dtype=float)
    registered = np.array([measured[i].rule_registered for i in rows], dtype=float)
    if good.all() or not good.any():
        return Trial(0.5, 0.5, {}, len(rows))
    found_raw, found = raw > _threshold(raw[good]), registered > _threshold(registered[good])
    lost = {}
    for name in sorted(set(names[~good])):
        mine = names == name
        counts = int(mine.sum()), int(found_raw[mine].sum()), int(found[mine].sum())
        if counts[0] >= CLASS_ROWS and counts[1] - counts[2] >= LOST_ROWS:
            lost[str(name)] = counts
    return Trial(_auroc(raw, good), _auroc(registered, good), lost, len(rows))


def _threshold(good: Floats) -> float:
    """The lowest observed score above which at most 5 % of the good rows lie."""
    import numpy as np

    return float(np.sort(good)[len(good) - 1 - math.floor(FAR_FRACTION * len(good))])


def _auroc(scores: Floats, good: NDArray[np.bool_]) -> float:
    from scipy.stats import rankdata

    ranks, defects = rankdata(scores), int((~good).sum())
    return float((ranks[~good].sum() - defects * (defects + 1) / 2) / (defects * int(good.sum())))


def distribution(measured: Sequence[Measured], how: Preprocessing) -> dict[str, Any]:
    """How far goldens move, in pixels of the network's picture; shares are fractions of the rows."""
    import numpy as np

    size = np.array([m.shift.size_px for m in measured], dtype=float)
    strip = np.array([m.shift.strip_fraction for m in measured], dtype=float)
    large = LARGE_PX_OF_64 * min(how.width, how.height) / 64
    return {
        "rows": len(measured),
        "moved_fraction": float((size > 0).mean()),
        "median_px": float(np.median(size)),
        "p95_px": float(np.quantile(size, 0.95, method="higher")),
        "max_px": float(size.max()),
        "large_px": large,
        "large_fraction": float((size >= large).mean()),
        "at_limit_fraction": float(np.mean([m.shift.at_limit for m in measured])),
        "strip_mean_fraction": float(strip.mean()),
        "strip_max_fraction": float(strip.max()),
        "wide_strip_rows": int((strip > LARGE_STRIP).sum()),
    }
