"""Golden moved onto test before anything compares them: penalised integer search, and the rule that needs no training.

How a shift is found:

1. Both crops become grey (mean of the channels); a golden of another size is resized to the test first.
2. Radius r = round(6/64 of the shorter side). For each shift within r, cost = mean |test - golden| over the test's window
   that is r smaller on each side, plus 0.3 * 64/shorter side for each pixel of |dy| + |dx|. The least cost wins.
3. Crops of 84 pixels and more are searched on block sums first (a block's |difference of sums| is never larger than its
   sum of |differences|), and the most promising shifts are then priced in full.
4. The golden is moved; the strip at the border for which it has no pixel is filled from the test: no difference there.

The result, ties included, is that of the exhaustive search in float32 (tests hold the two together).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Pixels = NDArray[np.uint8]
    Floats = NDArray[np.float32]

METHOD = "integer_sad"
"""Named in plans, records and cache keys; another result for the same pixels is another method."""

RADIUS_FRACTION = 6 / 64
PENALTY = 0.3
"""Grey levels for each pixel of a shift in a crop of 64: 0.1 follows shifted parts and moves flat crops, 0.3 neither."""

BLOCK_OF_SIDE = 56
"""A block has one pixel for each so many of the shorter side: coarse search costs the same at every size."""

REFINED = 96
"""Shifts priced in full after the coarse search, at most."""

BATCH = 32
"""Pairs compared at once: what one shift of them needs stays in the cache of one core."""

ROUNDING = 1e-4
"""Shifts this close (relative) to the best may swap by float32's rounding; they are priced again as defined."""

LARGE_STRIP = 0.10
"""A pair with more of its area filled from the test is listed for a person."""

STRIP_GREY, STRIP_SPOT = 64, 9
"""A spot in the strip: so many of its pixels differ by so many grey levels from what the golden, continued, would show."""

WINDOW = 5
"""Side of the window of the rule without training."""


@dataclass(frozen=True)
class Registration:
    """How goldens are moved.

    Attributes:
        limit: largest shift in pixels along either axis; ``None`` for the radius by size.
        penalty: grey levels for each pixel of shift in a crop of 64 pixels.
    """

    limit: int | None = None
    penalty: float = PENALTY

    def radius(self, height: int, width: int) -> int:
        """Largest shift that is tried, in pixels; 0 where the crop is too small to move anything in."""
        side = min(height, width)
        radius = self.limit if self.limit is not None else max(1, round(RADIUS_FRACTION * side))
        return min(radius, (side - 1) // 2)

    def parameters(self) -> dict[str, Any]:
        """What decides the result, for a plan, a record or a cache key; no measured number."""
        limit = f"{self.limit} px" if self.limit is not None else "round(6/64 of the shorter side)"
        return {"method": METHOD, "limit": limit, "penalty": self.penalty}


class Shift(NamedTuple):
    """Where a golden fits best.

    Attributes:
        dy: pixels down by which the golden is moved.
        dx: pixels to the right.
        cost_before: mean |test - golden| in grey levels as the pair came.
        cost_after: the same at the shift.
        at_limit: the best shift is the largest that was tried: the true one may be larger.
        strip_fraction: share of the crop that is filled from the test and so not compared, in [0, 1].
    """

    dy: int
    dx: int
    cost_before: float
    cost_after: float
    at_limit: bool
    strip_fraction: float

    @property
    def moved(self) -> bool:
        """The golden is not where it was."""
        return bool(self.dy or self.dx)

    @property
    def size_px(self) -> int:
        """The larger of |dy| and |dx|."""
        return max(abs(self.dy), abs(self.dx))


def fit_golden(test: Pixels, golden: Pixels) -> Pixels:
    """The golden at the test's size, resized by bilinear interpolation where it has another."""
    if test.shape == golden.shape:
        return golden
    from PIL import Image

    size = (test.shape[1], test.shape[0])
    return np.asarray(Image.fromarray(golden).resize(size, Image.Resampling.BILINEAR))


def move_golden(test: Pixels, golden: Pixels, dy: int, dx: int) -> Pixels:
    """The golden moved by (dy, dx); where it has no pixel, the test's own stands.

    Args:
        test: (H, W, 3) uint8.
        golden: the same shape.
        dy: pixels down.
        dx: pixels to the right.
    """
    height, width = test.shape[:2]
    out = test.copy()
    out[max(0, dy) : height + min(0, dy), max(0, dx) : width + min(0, dx)] = golden[
        max(0, -dy) : height + min(0, -dy), max(0, -dx) : width + min(0, -dx)
    ]
    return out


def strip_pixels(test: Pixels, golden: Pixels, dy: int, dx: int) -> int:
    """Pixels of the strip that is filled from the test in which it may hold a defect.

    The golden has nothing there, so its border is continued outwards: a pixel counts where the test differs from that by
    :data:`STRIP_GREY` or more (mean of the channels). Good parts have such pixels, too: compare with theirs.

    Args:
        test: (H, W, 3) uint8.
        golden: the same shape, not moved.
        dy: pixels down by which it will be.
        dx: pixels to the right.
    """
    height, width = test.shape[:2]
    y, x = np.arange(height) - dy, np.arange(width) - dx
    rows, columns = (y < 0) | (y >= height), (x < 0) | (x >= width)
    continued = golden[y.clip(0, height - 1)][:, x.clip(0, width - 1)]
    differs = np.abs(test.astype(np.int16) - continued).sum(axis=2) >= STRIP_GREY * test.shape[2]
    return int((differs & (rows[:, None] | columns)).sum())


def register(test: Pixels, golden: Pixels, how: Registration | None = None) -> tuple[Pixels, Shift]:
    """Move one golden onto its test.

    Args:
        test: (H, W, 3) uint8.
        golden: (h, w, 3) uint8; resized to the test where it has another size.
        how: limit and penalty.

    Returns:
        The golden moved, (H, W, 3) uint8, and the shift.
    """
    golden = fit_golden(test, golden)
    shift = estimate_shifts([(test, golden)], how)[0]
    return move_golden(test, golden, shift.dy, shift.dx), shift


def estimate_shifts(pairs: Iterable[tuple[Pixels, Pixels]], how: Registration | None = None) -> list[Shift]:
    """Where each golden fits best, in the order of the pairs; one core, memory of one batch.

    Args:
        pairs: (test, golden), each (H, W, 3) uint8 and of one size within the pair; sizes may differ between pairs.
        how: limit and penalty.

    Raises:
        ValueError: a pair of two sizes (see :func:`fit_golden`).
    """
    how = how or Registration()
    shifts: list[Shift] = []
    batch: list[tuple[Pixels, Pixels]] = []
    for test, golden in pairs:
        if test.shape != golden.shape:
            raise ValueError(f"test and golden must have one size, got {test.shape} and {golden.shape}")
        if batch and (test.shape != batch[0][0].shape or len(batch) == BATCH):
            shifts += _estimate_batch(batch, how)
            batch = []
        batch.append((test, golden))
    return shifts + (_estimate_batch(batch, how) if batch else [])


def reference_score(test: Pixels, golden: Pixels) -> float:
    """The rule without training: the largest 5 x 5 mean of |test - golden|, higher = more different.

    Args:
        test: (H, W, 3) uint8.
        golden: the same shape; registered or not, as the caller wants to compare.

    Returns:
        Grey levels in [0, 255]: channels are averaged after the difference, so a change of colour counts.
    """
    golden = fit_golden(test, golden)
    difference = np.abs(test.astype(np.int16) - golden).sum(axis=2, dtype=np.int64)
    side = min(WINDOW, *difference.shape)
    return float(_box_sums(difference, side).max() / (side * side * test.shape[2]))


def _estimate_batch(batch: Sequence[tuple[Pixels, Pixels]], how: Registration) -> list[Shift]:
    height, width = batch[0][0].shape[:2]
    radius = how.radius(height, width)
    steps = np.abs(np.arange(-radius, radius + 1))
    penalty = how.penalty * 64 / min(height, width) * (steps[:, None] + steps[None])
    block = max(1, round(min(height, width) / BLOCK_OF_SIDE)) if radius > 1 else 1
    coarse = _coarse_costs(batch, radius, block)
    return [_refine(test, golden, radius, coarse[i], penalty, block) for i, (test, golden) in enumerate(batch)]


def _coarse_costs(batch: Sequence[tuple[Pixels, Pixels]], radius: int, block: int) -> Floats:
    """Lower bounds of the costs (the costs themselves, but for rounding, at block 1), (N, 2r+1, 2r+1) grey levels.

    The pair is the last axis of every array, so that one shift of the whole batch is few long runs of memory.
    """
    tests = np.stack([_block_sums(_channel_sum(t), block) for t, _ in batch], axis=-1)
    goldens = np.stack([_block_sums(_channel_sum(g), block) for _, g in batch], axis=-1)
    rows, columns = (tests.shape[0] - 2 * radius + block - 1) // block, (tests.shape[1] - 2 * radius + block - 1) // block
    window = np.ascontiguousarray(tests[radius::block, radius::block][:rows, :columns])
    # A shift reads every block-th pixel of the golden: one plane for each phase makes those neighbours.
    planes = [[np.ascontiguousarray(goldens[y::block, x::block]) for x in range(block)] for y in range(block)]
    difference = np.empty_like(window)
    flat = difference.reshape(rows * columns, len(batch))
    ones = np.ones(rows * columns, np.float32)
    costs = np.empty((2 * radius + 1, 2 * radius + 1, len(batch)), np.float32)
    for dy in range(-radius, radius + 1):
        for dx in range(-radius, radius + 1):
            y, x = radius - dy, radius - dx
            plane = planes[y % block][x % block]
            y, x = y // block, x // block
            np.subtract(window, plane[y : y + rows, x : x + columns], out=difference)
            np.abs(difference, out=difference)
            np.dot(ones, flat, out=costs[dy + radius, dx + radius])
    costs /= 3 * block * block * rows * columns
    return costs.transpose(2, 0, 1)


def _channel_sum(pixels: Pixels) -> Floats:
    """R + G + B: whole numbers, exact in float32."""
    red, green, blue = pixels[..., 0], pixels[..., 1], pixels[..., 2]
    return (red.astype(np.uint16) + green + blue).astype(np.float32)


def _block_sums(grey: Floats, block: int) -> Floats:
    """Sums over the block x block pixels from each pixel on; exact, too."""
    return _box_sums(grey, block) if block > 1 else grey


def _box_sums(values: NDArray[Any], side: int) -> NDArray[Any]:
    """Sums over each side x side window, (H - side + 1, W - side + 1)."""
    height, width = values.shape[0] - side + 1, values.shape[1] - side + 1
    rows, sums = np.zeros_like(values[:height]), np.zeros_like(values[:height, :width])
    for i in range(side):
        rows += values[i : height + i]
    for i in range(side):
        sums += rows[:, i : width + i]
    return sums


def _refine(test: Pixels, golden: Pixels, radius: int, coarse: Floats, penalty: NDArray[np.float64], block: int) -> Shift:
    """Price the promising shifts as defined (float32, in the order of the shifts, first of equals) and take the best."""
    height, width = test.shape[:2]
    test_grey, golden_grey = _channel_sum(test) / np.float32(3), _channel_sum(golden) / np.float32(3)
    window = test_grey[radius : height - radius, radius : width - radius]
    side = 2 * radius + 1

    def cost(place: int) -> np.float32:
        y, x = 2 * radius - place // side, 2 * radius - place % side
        moved = golden_grey[y : y + height - 2 * radius, x : x + width - 2 * radius]
        result: np.float32 = np.abs(window - moved).mean()
        return result

    bounds = (coarse + penalty).ravel()
    flat_penalty = penalty.ravel()
    best = float("inf")
    priced: dict[int, np.float32] = {}
    if block == 1:
        promising: NDArray[np.intp] = np.flatnonzero(bounds <= bounds.min() * (1 + ROUNDING) + ROUNDING)
    else:
        promising = np.argsort(bounds, kind="stable")[:REFINED]
    for place in promising.tolist():
        if block > 1 and bounds[place] > best * (1 + ROUNDING) + ROUNDING:
            break
        priced[place] = cost(place)
        best = min(best, float(priced[place] + flat_penalty[place]))
    place = min(priced, key=lambda p: (priced[p] + flat_penalty[p], p))
    dy, dx = place // side - radius, place % side - radius
    still = radius * side + radius
    return Shift(
        dy,
        dx,
        float(priced[still] if still in priced else cost(still)),
        float(priced[place]),
        radius > 0 and max(abs(dy), abs(dx)) == radius,
        1 - (height - abs(dy)) * (width - abs(dx)) / (height * width),
    )
