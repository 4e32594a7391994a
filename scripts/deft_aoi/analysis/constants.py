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

THUMB_SIDE = 16
"""Side of the block-mean thumbnail that proposes near-duplicates."""

THUMB_BYTES = 4 + THUMB_SIDE * THUMB_SIDE
"""Width and height of the image (at most 65535 told), then the thumbnail."""

NEAR_RMSE = 2.5
"""Grey levels: below it two test images that were laid on each other are one image. On DeepPCB copies saved again as JPEG 70
lie at up to 2, halved and doubled ones at up to 6."""

SELF_DISTANCE = 8.0
"""Grey levels by which an image must differ from its own shifts by two pixels, to be evidence of anything."""

SELF_RATIO = 6.5
"""By how much that must exceed the residual: with 16 grey levels the whole of ``NEAR_RMSE`` is allowed, in a soft photograph
with 8 the half of it. A fixed 16 would leave out 8 of 10 parts of the demo line."""

SCORE_NOISE = 1e-6
"""How far ``low_end`` hands over a threshold above the last good part: more than the embedded engine's score of one part moves
between batch sizes of 1 to 32 and 1 or 2 threads, 1.0e-6 in log-odds or 2.5e-7 at a score of one half (benchmarks/score_noise.py,
the demo's model). Other devices and exported models were not measured."""

DECIDED_ALONE_FACTOR = 5
"""A few defects decide the operating point alone where they cost more than so many times the false alarms at 99 % recall."""

RECALL_WITHOUT_ODD_DEFECTS = 0.99

SATURATED_FAR = 0.5
"""From this false-alarm rate on a model is not told from another by it: one missed defect makes 60 or 97 % of the good parts
alarms. The rate at 99 % recall ranks them instead."""
