"""Exact binomial bounds, their correction for parts of one board, and the sample size that a target needs.

Sources: Clopper and Pearson, Biometrika 26 (1934); Korn and Graubard, Survey Methodology 24 (1998): Clopper-Pearson with
the sample size divided by the design effect. Every interval is made of the two one-sided 95 % bounds.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from deft_aoi.analysis.constants import INTERVAL_LEVEL, MIN_BOARDS


def clopper_pearson(k: float, n: float, level: float = INTERVAL_LEVEL, effect: float = 1.0) -> tuple[float, float]:
    """Both one-sided exact bounds of a rate.

    Args:
        k: events, 0 <= k <= n.
        n: trials.
        level: one-sided confidence of each bound, a fraction.
        effect: design effect of the trials, at least 1; ``k`` and ``n`` are divided by it.

    Returns:
        ``(low, high)`` as fractions; ``(0.0, 1.0)`` when ``n`` is 0.

    Raises:
        ValueError: ``k`` outside 0..n.
    """
    if not 0 <= k <= n:
        raise ValueError(f"k must be in 0..n, got k={k}, n={n}")
    if n == 0:
        return 0.0, 1.0
    from scipy.special import betaincinv

    events, trials = k / effect, n / effect
    low = 0.0 if k == 0 else float(betaincinv(events, trials - events + 1, 1.0 - level))
    high = 1.0 if k == n else float(betaincinv(events + 1, trials - events, level))
    return low, high


def upper_bound(k: float, n: float, level: float = INTERVAL_LEVEL, effect: float = 1.0) -> float:
    """One-sided exact upper bound of a rate: the true rate is below it with confidence ``level``."""
    return clopper_pearson(k, n, level, effect)[1]


def design_effect(event: npt.ArrayLike, board: npt.ArrayLike) -> float | None:
    """How many times larger the variance of a rate is than that of independent parts, because parts come from boards.

    The ratio estimator's variance between boards, over the binomial variance (Korn and Graubard 1998).

    Args:
        event: (N,) booleans: the part is flagged (or missed).
        board: (N,) integer codes of the boards.

    Returns:
        At least 1; ``None`` with fewer than ``MIN_BOARDS`` boards, which say too little about it.
    """
    codes = np.unique(np.asarray(board), return_inverse=True)[1]
    hits = np.asarray(event, dtype=np.float64)
    boards, n = int(codes.max(initial=-1)) + 1, len(hits)
    if boards < MIN_BOARDS:
        return None
    rate = float(hits.mean())
    if rate in (0.0, 1.0):
        return 1.0
    residual = np.bincount(codes, weights=hits - rate, minlength=boards)
    variance = boards / (boards - 1) * float(residual @ residual) / n**2
    return max(1.0, float(variance / (rate * (1 - rate) / n)))


def sample_size_for(fraction: float, level: float = INTERVAL_LEVEL) -> int:
    """Distinct parts, none of them wrong, that a one-sided ``level`` bound below ``fraction`` needs.

    The bound with no event in n is ``1 - (1 - level)**(1/n)``; 0.1 % needs 2,995, 1 % needs 299: good parts for a
    false-alarm rate, defects for a share of escapes.

    Raises:
        ValueError: ``fraction`` outside (0, 1].
    """
    if not 0 < fraction <= 1:
        raise ValueError(f"fraction must be in (0, 1], got {fraction}")
    if fraction == 1:
        return 1
    n = math.ceil(math.log(1.0 - level) / math.log1p(-fraction))
    while upper_bound(0, n, level) >= fraction:
        n += 1
    while n > 1 and upper_bound(0, n - 1, level) < fraction:
        n -= 1
    return n


def misses_p_value(missed: int, m: int, n: int, allowed: int = 0) -> float:
    """How probable so many misses are on new boards for a threshold that ``n`` KPI defects chose.

    The threshold lies at the smallest of n scores (at the ``allowed + 1``-th smallest where the KPI set misses ``allowed``);
    if the m new defects come from the same line, every order of the n + m scores is equally probable, whatever their
    distribution. With none allowed it is the product of (m - i) / (n + m - i) for i < missed.

    Args:
        missed: new defects at or below the threshold.
        m: new defects.
        n: defects of the KPI set.
        allowed: defects that the threshold misses on the KPI set itself.

    Returns:
        P(at least ``missed`` of m).
    """
    from scipy.stats import hypergeom

    return 1.0 if missed == 0 else float(hypergeom.cdf(allowed, n + m, n, min(missed + allowed, n + m)))


def mcnemar_exact(b: int, c: int) -> float:
    """Two-sided exact McNemar p-value for ``b`` and ``c`` discordant pairs; 1.0 when there are none."""
    from scipy.stats import binomtest

    return 1.0 if b + c == 0 else float(binomtest(min(b, c), b + c, 0.5).pvalue)
