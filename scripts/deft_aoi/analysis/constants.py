"""The numbers that this room chooses, each with its reason."""

from __future__ import annotations

INTERVAL_LEVEL = 0.95
"""One-sided level of every bound: a printed interval is the two one-sided bounds, and "the sample supports" is one of them."""

MIN_BOARDS = 10
"""Fewer boards say too little about how alike the parts of one board are: then it is said, not corrected."""

MIN_RECALL_SUPPORT = 0.99
"""Recall whose one-sided lower bound a plain MET needs (``--min-recall-support``); a target below it takes its place."""

DESIGN_QUANTILE = 0.05
"""The design effect is taken where 5 % of good parts are flagged (or 5 % of defects missed): at the operating point itself
there are mostly no events to see it by."""

TAIL_SHARE = 0.15
"""Share of the weakest defects to which ``--threshold-rule tail:P`` fits an exponential tail of log-odds."""

DEFAULT_RECALLS = (1.0, 0.995, 0.99, 0.98, 0.95)
"""Recalls that are always reported: one odd sample can decide the first, so its neighbours stand beside it."""

MARGIN_BAND_PROBABILITY = 0.1
"""Half-width of the margin band for ``learnable`` scores, which are probabilities: 0.1 around a threshold of one half.

Elsewhere the band has the same width in log-odds. At recall 100 % the threshold is often near 0.005, where a flat 0.1 would
call every good part marginal (on DeepPCB: 50 of 50 PASS targets, whose neighbours are more PASS rows).
"""

MARGIN_BAND_OF_EVAL_MARGIN = 0.1
"""The same for ``euclidean`` scores, as a share of ``eval_margin``: distances have no scale of their own."""

TOP_K_PER_LABEL = 50
"""Weakest rows per label that may ask for neighbours."""

RCA_IMAGES = 10
"""Pictures for a person or an agent to look at; more are not looked at."""

MAX_THRESHOLD_ROWS = 10_000
"""Rows of ``threshold_metrics.csv``; beyond it thresholds are decimated evenly by rank."""

MAX_LISTED = 20
"""Rows that a report names; the count is always given in full."""

MAX_SLICES = 50
"""Slices listed per column, most false alarms first."""

SECONDS_PER_CALL = 5.0
"""Operator time for one call at the review station, used for the AOI units unless the user gives their own."""

SPLIT_FOLDS = 5
"""Folds by board of the split estimate: each fold is judged at the threshold that the other four choose."""

THUMB_SIDE = 8
"""Side of the block-mean thumbnail that proposes near-duplicates."""

NEAR_RMSE = 8.0
"""Grey levels: two pairs whose images differ by less are near-duplicates. On DeepPCB a coarse hash alone proposes 31,000
pairs; those below this are about 300, without a label conflict."""

THUMB_SLACK = 1.0
"""Thumbnails are rounded to whole grey levels, so the bound that proposes is wider by one."""

SCORE_NOISE = 1e-6
"""By how much the embedded engine's score of one part differs between batch sizes, numbers of threads and devices
(benchmarks/score_noise.py measures it): ``low_end`` hands over a threshold that far above the last good part."""
