"""All thresholds in one sorted sweep, and the operating point at a recall (docs/verdict.md).

Rule: score > threshold means NO_PASS. Positive class = defect. FAR = FP / (FP + TN), the share of good parts flagged.
The counts change only at observed scores, so the two sorted score arrays *are* the sweep: any threshold is two binary
searches, and nothing here is larger than the scores themselves.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from deft_aoi.analysis.constants import SCORE_NOISE, TAIL_SHARE
from deft_aoi.contract.errors import UsageError
from deft_aoi.contract.kpi_target import exact
from deft_aoi.contract.text import quoted

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Sweep:
    """Scores of both classes, ascending, float64.

    Attributes:
        good: (n_pass,) scores of PASS rows.
        bad: (n_defect,) scores of defect rows.
    """

    good: Floats
    bad: Floats

    @property
    def n_pass(self) -> int:
        """Good parts."""
        return len(self.good)

    @property
    def n_defect(self) -> int:
        """Defective parts."""
        return len(self.bad)

    def counts_at(self, thresholds: Floats) -> tuple[Ints, Ints]:
        """``(tp, fp)`` at each threshold, int64: rows with score > threshold."""
        tp = self.n_defect - np.searchsorted(self.bad, thresholds, side="right")
        fp = self.n_pass - np.searchsorted(self.good, thresholds, side="right")
        return tp.astype(np.int64), fp.astype(np.int64)


@dataclass(frozen=True)
class OperatingPoint:
    """One threshold and what it does.

    Attributes:
        threshold: the value to hand over; full double precision.
        interval_low: thresholds in [interval_low, interval_high) give the same counts; ``-inf`` when no score lies below.
        interval_high: see above; an observed score.
        tp: defects flagged. fp: good parts flagged. tn: good parts passed. fn: defects missed.
        note: why the threshold has no margin, or empty.
    """

    threshold: float
    interval_low: float
    interval_high: float
    tp: int
    fp: int
    tn: int
    fn: int
    note: str = ""

    @property
    def far_fraction(self) -> float:
        """False-alarm rate, FP / (FP + TN)."""
        return self.fp / (self.fp + self.tn)

    @property
    def recall_fraction(self) -> float:
        """TP / (TP + FN)."""
        return self.tp / (self.tp + self.fn)

    @property
    def precision_fraction(self) -> float:
        """TP / (TP + FP); 0 when nothing is flagged."""
        return self.tp / (self.tp + self.fp) if self.tp + self.fp else 0.0

    @property
    def f1(self) -> float:
        """2 TP / (2 TP + FP + FN)."""
        return 2 * self.tp / (2 * self.tp + self.fp + self.fn)

    def as_dict(self) -> dict[str, Any]:
        """The point as it stands in ``kpi.json`` (an infinite bound becomes null)."""
        return {
            "threshold": self.threshold,
            "interval_low": self.interval_low if math.isfinite(self.interval_low) else None,
            "interval_high": self.interval_high if math.isfinite(self.interval_high) else None,
            "tp": self.tp,
            "fp": self.fp,
            "tn": self.tn,
            "fn": self.fn,
            "far_fraction": self.far_fraction,
            "recall_fraction": self.recall_fraction,
            "precision_fraction": self.precision_fraction,
            "f1": self.f1,
            "note": self.note,
        }


@dataclass(frozen=True)
class ThresholdRule:
    """How one threshold is taken from the interval of those that decide the known parts alike.

    Attributes:
        name: ``low_end``, ``midpoint`` or ``tail``.
        noise: by how much the engine's score of one part may differ between machines; ``low_end`` keeps that distance.
        miss_fraction: of ``tail``: the share of defects that may be missed.
    """

    name: str = "low_end"
    noise: float = SCORE_NOISE
    miss_fraction: float = 0.0

    @property
    def text(self) -> str:
        """As the option spells it."""
        return f"tail:{self.miss_fraction:g}" if self.name == "tail" else self.name

    def threshold(self, s: Sweep, low: float, high: float) -> tuple[float, str]:
        """``(threshold, note)`` for the interval [low, high) of a sweep."""
        if self.name == "tail":
            return tail_threshold(
                s, self.miss_fraction
            ), f"an exponential tail of the weakest defects, miss {self.miss_fraction:g}"
        middle, note = midpoint(low, high)
        if self.name == "midpoint" or note.startswith("neighbour"):
            return middle, note
        if not math.isfinite(low):
            return _below(high, self.noise), "no good part scores below the weakest defect"
        return (low + self.noise, "") if low < low + self.noise < middle else (middle, note)


def parse_threshold_rule(text: str, noise: float = SCORE_NOISE) -> ThresholdRule:
    """Read ``low_end``, ``midpoint`` or ``tail:P`` with 0 < P < 0.15.

    Raises:
        UsageError: it is none of them, or the noise is no finite number >= 0.
    """
    name, _, share = text.strip().partition(":")
    if not (math.isfinite(noise) and noise >= 0):
        raise UsageError("the score noise must be a number of at least 0", found=repr(noise))
    try:
        if name == "tail" and 0 < float(share) < TAIL_SHARE:
            return ThresholdRule(name, noise, float(share))
    except ValueError:
        name = ""
    if name not in ("low_end", "midpoint") or share:
        raise UsageError(
            "the threshold rule cannot be read",
            expected=f"low_end, midpoint or tail:P with 0 < P < {TAIL_SHARE:g}",
            found=quoted(text),
            hint="for example --threshold-rule tail:0.002",
        )
    return ThresholdRule(name, noise)


LOW_END, MIDPOINT = ThresholdRule(), ThresholdRule("midpoint")


def tail_threshold(s: Sweep, miss_fraction: float) -> float:
    """Threshold at which an exponential tail, fitted to the weakest defects, misses ``miss_fraction`` of all defects.

    Probabilities are taken as log-odds, where the weak end of the defects falls off about exponentially; other scores are
    taken as they are. The fit is the mean excess below the score at which ``TAIL_SHARE`` of the defects lie.
    """
    odds, level, scale, share = _tail(s)
    if scale == 0:
        return _below(float(s.bad[0]), 0.0)
    value = level - scale * math.log(share / miss_fraction)
    value = 1 / (1 + math.exp(-value)) if odds else value
    return _below(value, 0.0) if value in s.bad or value in s.good else value


def tail_miss_fraction(s: Sweep, threshold: float) -> float:
    """Share of defects at or below a threshold by the tail of :func:`tail_threshold`; as counted where the tail ends."""
    odds, level, scale, share = _tail(s)
    value = float(_log_odds(np.array([threshold]))[0]) if odds else threshold
    if value >= level or scale == 0:
        return float(np.searchsorted(s.bad, threshold, side="right") / s.n_defect)
    return share * math.exp(-(level - value) / scale)


def _tail(s: Sweep) -> tuple[bool, float, float, float]:
    """``(whether scores are taken as log-odds, level, mean excess below it, share of defects below it)``."""
    odds = bool(s.bad[0] >= 0 and s.bad[-1] <= 1)
    weak = s.bad[: min(s.n_defect - 1, math.ceil(TAIL_SHARE * s.n_defect)) + 1]
    weak = _log_odds(weak) if odds else weak
    n = len(weak) - 1
    return odds, float(weak[-1]), float(np.mean(weak[-1] - weak[:-1])) if n else 0.0, n / s.n_defect


def _log_odds(scores: Floats) -> Floats:
    clipped = np.clip(scores, 1e-12, 1 - 1e-12)
    return np.asarray(np.log(clipped) - np.log1p(-clipped), dtype=np.float64)


def _below(score: float, noise: float) -> float:
    """A little below a score, also after rounding to single precision."""
    single = (
        float(np.nextafter(np.float32(score), np.float32(-np.inf))) if abs(score) < 3e38 else math.nextafter(score, -math.inf)
    )
    return min(score - noise, single)


def sweep(scores: npt.ArrayLike, is_defect: npt.ArrayLike) -> Sweep:
    """Sort the scores of both classes.

    Args:
        scores: (N,) finite numbers, higher = more defective.
        is_defect: (N,) booleans.

    Raises:
        ValueError: sizes differ, a score is not finite, or a class is empty. (The KPI refuses these with the row.)
    """
    values = np.asarray(scores, dtype=np.float64)
    defect = np.asarray(is_defect, dtype=bool)
    if values.shape != defect.shape or values.ndim != 1:
        raise ValueError(f"scores and is_defect must be (N,) of one size, got {values.shape} and {defect.shape}")
    if not np.isfinite(values).all():
        raise ValueError("scores must be finite")
    good, bad = values[~defect], values[defect]
    if not len(good) or not len(bad):
        raise ValueError(f"both classes are needed, got {len(good)} PASS and {len(bad)} defects")
    good.sort()
    bad.sort()
    return Sweep(good, bad)


def defects_needed(recall_fraction: float, n_defect: int) -> int:
    """Defects that must be flagged for a recall: the smallest count whose fraction reaches it, at least 1.

    Raises:
        ValueError: the recall is outside (0, 1].
    """
    if not 0 < recall_fraction <= 1:
        raise ValueError(f"recall must be a fraction in (0, 1], got {recall_fraction}")
    return max(1, math.ceil(exact(recall_fraction) * n_defect))


def at_defect_count(s: Sweep, needed: int, rule: ThresholdRule = LOW_END) -> OperatingPoint:
    """Operating point that flags at least ``needed`` defects: fewest false alarms, then highest recall.

    Args:
        s: the sweep.
        needed: 1..n_defect.
        rule: which threshold of the interval is taken; ``tail`` takes one of its own, and the counts are those there.
    """
    limit = s.bad[s.n_defect - needed]  # the threshold must stay below this defect
    below = int(np.searchsorted(s.good, limit, side="left"))
    low = float(s.good[below - 1]) if below else -math.inf
    first = int(np.searchsorted(s.bad, low, side="right"))  # the same false alarms may flag more defects
    return _point(s, low, float(s.bad[first]), rule)


def at_recall(s: Sweep, recall_fraction: float, rule: ThresholdRule = LOW_END) -> OperatingPoint:
    """Operating point at a recall: fewest false alarms among thresholds with recall >= it, then highest recall."""
    return at_defect_count(s, defects_needed(recall_fraction, s.n_defect), rule)


def at_threshold(s: Sweep, threshold: float) -> OperatingPoint:
    """Counts at a given threshold, with the interval of thresholds that give the same counts."""
    value = np.array([threshold])
    tp, fp = (int(c[0]) for c in s.counts_at(value))
    lows = [a[i - 1] for a, i in ((s.good, s.n_pass - fp), (s.bad, s.n_defect - tp)) if i]
    highs = [a[len(a) - c] for a, c in ((s.good, fp), (s.bad, tp)) if c]
    low, high = float(max(lows, default=-math.inf)), float(min(highs, default=math.inf))
    return OperatingPoint(threshold, low, high, tp, fp, s.n_pass - fp, s.n_defect - tp)


def best_f1(s: Sweep) -> OperatingPoint:
    """Threshold with the highest F1; ties go to the higher precision.

    Only thresholds just below a defect's score can win: going further down adds false alarms alone.
    """
    firsts = np.flatnonzero(np.r_[True, s.bad[1:] != s.bad[:-1]])
    tp = s.n_defect - firsts
    fp = s.n_pass - np.searchsorted(s.good, s.bad[firsts], side="left")
    f1 = 2 * tp / (tp + fp + s.n_defect)
    precision = tp / (tp + fp)
    best = int(np.lexsort((precision, f1))[-1])
    high = float(s.bad[firsts[best]])
    below = [a[i - 1] for a, i in ((s.good, s.n_pass - int(fp[best])), (s.bad, int(firsts[best]))) if i]
    return _point(s, float(max(below, default=-math.inf)), high)


def _point(s: Sweep, low: float, high: float, rule: ThresholdRule = LOW_END) -> OperatingPoint:
    threshold, note = rule.threshold(s, low, high)
    if rule.name == "tail":
        return replace(at_threshold(s, threshold), note=note)
    tp, fp = (int(c[0]) for c in s.counts_at(np.array([threshold])))
    return OperatingPoint(threshold, low, high, tp, fp, s.n_pass - fp, s.n_defect - tp, note)


def midpoint(low: float, high: float) -> tuple[float, str]:
    """The middle of the interval [low, high), and a note when there is no margin.

    TAO compares in single precision, so the mid-point must stay inside the interval after rounding to it; where it does
    not, the next number above ``low`` is handed over, which single precision rounds to ``low`` (``score > low`` still
    decides the same way).
    """
    if not math.isfinite(low):
        single = np.float32(high) if abs(high) < 3e38 else np.float64(high)
        return float(np.nextafter(single, type(single)(-np.inf))), "no score lies below this threshold"
    middle = low + (high - low) / 2.0
    rounded = float(np.float32(middle)) if abs(middle) < 3e38 else middle
    if low < middle < high and low < rounded < high:
        return middle, ""
    return min(math.nextafter(low, math.inf), math.nextafter(high, -math.inf)), "neighbouring scores leave no room for a margin"


def auroc(s: Sweep) -> float:
    """Area under the ROC curve: P(defect scores higher) + P(tie) / 2."""
    below = np.searchsorted(s.good, s.bad, side="left").sum(dtype=np.float64)
    upto = np.searchsorted(s.good, s.bad, side="right").sum(dtype=np.float64)
    return float((below + upto) / 2.0 / (s.n_pass * s.n_defect))


def average_precision(s: Sweep) -> float:
    """Area under the precision-recall curve as step sum (the definition of scikit-learn's ``average_precision_score``)."""
    firsts = np.flatnonzero(np.r_[True, s.bad[1:] != s.bad[:-1]])
    tp = s.n_defect - firsts
    fp = s.n_pass - np.searchsorted(s.good, s.bad[firsts], side="left")
    gained = np.diff(np.r_[firsts, s.n_defect])
    return float(np.sum(gained / s.n_defect * (tp / (tp + fp))))


def candidate_thresholds(s: Sweep, limit: int, keep: tuple[float, ...] = ()) -> Floats:
    """Thresholds for a table or a curve, ascending: every distinct score, or when there are more than ``limit``, evenly by rank.

    Each class is decimated by itself, so that nothing as large as the set has to be merged.

    Args:
        s: the sweep.
        limit: most thresholds before ``keep`` is added; at least 5.
        keep: thresholds that must be there (the operating points).
    """
    firsts = [np.flatnonzero(np.r_[True, scores[1:] != scores[:-1]]) for scores in (s.good, s.bad)]
    distinct = sum(map(len, firsts))
    picked = [np.nextafter([min(s.good[0], s.bad[0])], -np.inf), np.asarray(keep, dtype=np.float64)]
    for scores, places in zip((s.good, s.bad), firsts, strict=True):
        n = len(places) if distinct < limit else min(len(places), max(2, (limit - 3) * len(places) // distinct))
        picked.append(scores[places[np.linspace(0, len(places) - 1, n).astype(np.int64)]])
    return np.unique(np.concatenate(picked))
