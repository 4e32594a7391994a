"""Exact binomial intervals and the sample size that a target needs (Clopper and Pearson, Biometrika 26, 1934)."""

from __future__ import annotations

import math

from deft_aoi.analysis.constants import INTERVAL_LEVEL


def clopper_pearson(k: int, n: int, level: float = INTERVAL_LEVEL) -> tuple[float, float]:
    """Two-sided exact interval of a rate.

    Args:
        k: events, 0 <= k <= n.
        n: independent trials.
        level: coverage, a fraction.

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

    tail = (1.0 - level) / 2.0
    low = 0.0 if k == 0 else float(betaincinv(k, n - k + 1, tail))
    high = 1.0 if k == n else float(betaincinv(k + 1, n - k, 1.0 - tail))
    return low, high


def upper_bound(k: int, n: int, level: float = INTERVAL_LEVEL) -> float:
    """One-sided exact upper bound of a rate: the true rate is below it with confidence ``level``."""
    return clopper_pearson(k, n, 2.0 * level - 1.0)[1]


def sample_size_for(far_fraction: float, level: float = INTERVAL_LEVEL) -> int:
    """Distinct good parts, none of them flagged, that a one-sided ``level`` bound below ``far_fraction`` needs.

    The bound with no event in n is ``1 - (1 - level)**(1/n)``; 0.1 % needs 2,995, 1 % needs 299.

    Raises:
        ValueError: ``far_fraction`` outside (0, 1].
    """
    if not 0 < far_fraction <= 1:
        raise ValueError(f"far_fraction must be in (0, 1], got {far_fraction}")
    if far_fraction == 1:
        return 1
    n = math.ceil(math.log(1.0 - level) / math.log1p(-far_fraction))
    while upper_bound(0, n, level) >= far_fraction:
        n += 1
    while n > 1 and upper_bound(0, n - 1, level) < far_fraction:
        n -= 1
    return n


def mcnemar_exact(b: int, c: int) -> float:
    """Two-sided exact McNemar p-value for ``b`` and ``c`` discordant pairs; 1.0 when there are none."""
    from scipy.stats import binomtest

    return 1.0 if b + c == 0 else float(binomtest(min(b, c), b + c, 0.5).pvalue)
