"""The KPI target, as people write it: ``FAR < 0.1% at recall=100%``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

from deft_aoi.contract.errors import UsageError
from deft_aoi.contract.text import quoted

DEFAULT_TARGET = "FAR < 0.1% at recall=100%"

_GRAMMAR = re.compile(
    r"\s*FAR\s*(?P<op><=|<|≤)\s*(?P<far>\d+(?:\.\d+)?)\s*%\s*(?:at|@)\s*recall\s*(?:>=|≥|=)\s*(?P<recall>\d+(?:\.\d+)?)\s*%\s*",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class KpiTarget:
    """A bound on the false-alarm rate at a recall.

    Attributes:
        far_op: ``<`` or ``<=``.
        far_fraction: the bound, a fraction in (0, 1].
        recall_fraction: the recall that must be reached, a fraction in (0, 1].
        text: the canonical spelling.
    """

    far_op: str
    far_fraction: float
    recall_fraction: float
    text: str

    def is_met(self, far: float | Fraction) -> bool:
        """Whether a false-alarm rate meets the bound; a rate that is a count is given as a ``Fraction`` and compared exactly."""
        bound = exact(self.far_fraction)
        far = exact(far) if isinstance(far, float) else far
        return far < bound if self.far_op == "<" else far <= bound

    def meets(self, fp: int, n_pass: int, tp: int, n_defect: int) -> bool:
        """Whether counts meet both halves, exactly: 11 of 1,000 is not below 1.1 %, 7 of 1,000 is at most 0.7 %."""
        return self.is_met(Fraction(fp, n_pass)) and Fraction(tp, n_defect) >= exact(self.recall_fraction)


def exact(fraction: float) -> Fraction:
    """A fraction as it is written, not as the nearest binary float: 0.011 is 11/1000."""
    return Fraction(repr(float(fraction)))


def parse_kpi_target(text: str) -> KpiTarget:
    """Parse ``FAR < 0.1% at recall=100%``, ``FAR <= 1% at recall>=99.5%`` and the like.

    Raises:
        UsageError: the text is not of that form, or a number is out of range.
    """
    match = _GRAMMAR.fullmatch(text)
    if match is None:
        raise UsageError(
            "the KPI target cannot be read",
            expected="FAR < X% at recall=Y%   (also <=, recall>=Y%)",
            found=quoted(text),
            hint='for example --kpi-target "FAR < 0.1%% at recall=100%%"'.replace("%%", "%"),
        )
    far_pct, recall_pct = Fraction(match["far"]), Fraction(match["recall"])
    for name, value in (("FAR target", far_pct), ("recall target", recall_pct)):
        if not 0 < value <= 100:
            raise UsageError(f"the {name} must be a percent in (0, 100], got {float(value):g}", found=quoted(text))
    op = "<" if match["op"] == "<" else "<="
    canonical = f"FAR {op} {match['far'].strip()}% at recall{'=' if recall_pct == 100 else '>='}{match['recall']}%"
    return KpiTarget(op, float(far_pct / 100), float(recall_pct / 100), canonical)
