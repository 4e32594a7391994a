"""Near-duplicates: the same part photographed once and shown again in another dress.

Re-encoded, shifted or cropped by pixels, brighter, resized, flipped or turned. Two questions with two prices: a thumbnail of
each test image (kept with its digest) proposes, decoded pixels decide. A pair is confirmed when

1. the images, laid on each other (shift, flip, turn, size and gain undone) and low-passed as a re-encoder would, differ by
   less than ``NEAR_RMSE`` grey levels, and
2. what they share identifies itself: it differs from its own shifts by two pixels, in all eight directions, by
   ``SELF_RATIO`` times as much. A plain trace looks like every other plain trace, so it is evidence of nothing.

The test image of a row is all its lights: they are laid on each other alike, each with a gain of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from deft_aoi.analysis.constants import NEAR_RMSE, SELF_DISTANCE, SELF_RATIO, THUMB_BYTES, THUMB_SIDE
from deft_aoi.analysis.image_views import CROPS, View, centre, inner_means, resized

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    Images = list[NDArray[np.float32]]

Load = Callable[[int], "Images | None"]
"""Grey images of a row, one a light."""

TURNS = range(8)
"""Quarter turns in the lower two bits; 4: mirrored first."""

SIDE = 64
"""Shifts are tried in steps of one pixel of an image of this side."""

MAX_SIDE = 96
"""Larger images are reduced before they are laid on each other: what a network of 64 to 128 pixels would see."""

COARSE = 0.75
"""Correlation of 8 x 8 thumbnails: copies shifted by three pixels keep at least this, but for nearly plain ones."""

FINE = 5.0
"""Grey levels between thumbnails at the best of the tried shifts and crops; copies that lost no sharpness have 3."""

TRIES = 3
"""Proposals of one row that are looked at in full, best first."""

LOW_PASS = 1.0
"""Sigma in pixels: takes off what a re-encoder adds at edges, and leaves edges that are a pixel apart."""

BLURS = (0.0, 0.45, 0.65, 0.9, 1.2)
"""Sigma in pixels of what resizing and back costs."""

_SHIFTS = [(y, x) for y in range(-4, 5) for x in range(-4, 5)]
_NEAR_SHIFTS = [(y, x) for y in (-2, 0, 2) for x in (-2, 0, 2)]
_BLOCK_VALUES = 16_000_000
_KEPT_TEMPLATES = 4_000
_MARGIN = 3


class Near(NamedTuple):
    """How two images lie on each other: ``residual`` and ``itself`` in grey levels."""

    residual: float
    itself: float

    @property
    def confirmed(self) -> bool:
        """Whether it is the same image, by the rule of this module."""
        return self.itself >= SELF_DISTANCE and self.residual < min(NEAR_RMSE, self.itself / SELF_RATIO)


def match(a: pd.DataFrame, b: pd.DataFrame, load_a: Load, load_b: Load) -> pd.DataFrame:
    """Rows of ``a`` whose test image is one of ``b`` in another dress.

    Args:
        a: M rows with ``test_id``, ``test_flat`` and ``test_thumb``: what :class:`ContentIndex` tells of rows. They can be
            kept in a table and compared without the images of ``a`` that nothing proposes.
        b: N rows of the same, with as many lights.
        load_a: grey images of a row of ``a``, one a light; ``None`` where they are gone, which confirms nothing.
        load_b: the same of ``b``; all that have content are loaded once.

    Returns:
        One line a row of ``a`` that is confirmed, with the best row of ``b``: ``row_a, row_b, residual``. Rows with exactly
        the pixels of a row of ``b`` are left out: they are leaks by digest.
    """
    import pandas as pd

    rows_b = _once(b)
    exact = set(b["test_id"])
    rows_a = [r for r in _once(a) if a["test_id"].iat[r] not in exact]
    confirmed: dict[str, tuple[int, float]] = {}
    if rows_a and rows_b:
        sample = _Samples.of(rows_b, load_b)
        proposals = _proposals(*_thumbs(a, rows_a), _thumbs(b, sample.rows)[0], sample) if sample.rows else ()
        for i, tries in proposals:
            images = load_a(rows_a[i])
            best: tuple[float, int] | None = None
            if images is None:
                continue
            for j, turn, share in tries:
                found = compare([_turned(image, turn) for image in images], sample.images[j], share)
                if found.confirmed and (best is None or found.residual < best[0]):
                    best = found.residual, sample.rows[j]
            if best is not None:
                confirmed[str(a["test_id"].iat[rows_a[i]])] = best[1], best[0]
    hits = [(r, *confirmed[t]) for r, t in enumerate(a["test_id"]) if t in confirmed]
    return pd.DataFrame(hits, columns=["row_a", "row_b", "residual"]).astype({"row_a": "int64", "row_b": "int64"})


class _Samples(NamedTuple):
    """Rows of the set that is protected, those that identify themselves: ``images`` reduced to ``MAX_SIDE``."""

    rows: list[int]
    images: list[Images]
    sizes: list[tuple[int, ...]]

    @classmethod
    def of(cls, rows: list[int], load: Load) -> _Samples:
        kept, images, sizes = [], [], []
        for row in rows:
            found = load(row)
            if found is not None and _itself(found) >= SELF_DISTANCE:
                kept.append(row)
                images.append([reduced(image) for image in found])
                sizes.append(found[0].shape)
        return cls(kept, images, sizes)


def _once(ids: pd.DataFrame) -> list[int]:
    """Positions of the first row of each test image that is not flat."""
    keep = ~ids["test_flat"].to_numpy(dtype=bool) & ~ids["test_id"].duplicated().to_numpy(dtype=bool)
    return [int(r) for r in np.flatnonzero(keep)]


def _thumbs(ids: pd.DataFrame, rows: list[int]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """(rows, lights, side, side) uint8, and (rows, 2) height and width of the first light."""
    raw = np.frombuffer(b"".join(ids["test_thumb"].to_numpy()[rows]), dtype=np.uint8).reshape(len(rows), -1, THUMB_BYTES)
    size = np.ascontiguousarray(raw[:, 0, :4]).view("<u2").astype(np.int64)
    return raw[:, :, 4:].reshape(len(rows), -1, THUMB_SIDE, THUMB_SIDE), size[:, ::-1]


def _turned(image: Any, turn: int) -> Any:
    """The last two axes mirrored (4) and turned by quarters."""
    image = np.swapaxes(image, -1, -2) if turn & 4 else image
    return np.ascontiguousarray(np.rot90(image, turn & 3, axes=(-2, -1)))


def _unit(values: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(..., lights, y, x) to unit vectors (..., lights * y * x), each light around its mean; and their lengths."""
    flat = values.reshape(*values.shape[:-2], -1)
    flat = flat - flat.mean(axis=-1, keepdims=True)
    flat = flat.reshape(*flat.shape[:-2], -1)
    length = np.linalg.norm(flat, axis=-1, keepdims=True)
    return flat / np.maximum(length, 1e-3), length[..., 0]


def _coarse(thumbs: NDArray[np.uint8]) -> NDArray[np.float32]:
    """8 x 8, smoothed, as unit vectors."""
    n, lights = thumbs.shape[:2]
    small = thumbs.reshape(n, lights, 8, 2, 8, 2).mean(axis=(3, 5), dtype=np.float32)
    for axis in (2, 3):
        pad = [(0, 0)] * 4
        pad[axis] = (1, 1)
        wide = np.pad(small, pad, mode="edge")
        low, mid, high = (np.take(wide, range(at, at + 8), axis=axis) for at in range(3))
        small = low / 4 + mid / 2 + high / 4
    return _unit(small)[0].astype(np.float32)


def _proposals(
    a: NDArray[np.uint8], size: NDArray[np.int64], b: NDArray[np.uint8], sample: _Samples
) -> Iterator[tuple[int, list[tuple[int, int, float]]]]:
    """``(i, [(j, turn, share), ...])``: the rows of ``b``, or the inner share of them, that row ``i``, turned, may show."""
    coarse = _coarse(b)
    templates = _Templates(sample)
    step = max(64, _BLOCK_VALUES // (8 * len(coarse)))
    for low in range(0, len(a), step):
        block, sizes = a[low : low + step], size[low : low + step]
        by_row: dict[int, list[tuple[float, int, int, float]]] = {}
        for turn in TURNS:
            turned, turned_size = _turned(block, turn), sizes[:, ::-1] if (turn & 1) ^ (turn >> 2) else sizes
            i, j = np.nonzero(_coarse(turned) @ coarse.T >= COARSE)
            kind = turned_size[i, 0] << 16 | turned_size[i, 1]
            order = np.lexsort((kind, j))
            i, j, kind = i[order], j[order], kind[order]
            inner, length = _unit(turned[:, :, 1:-1, 1:-1].astype(np.float32))
            for at, end in _runs(j << 32 | kind):
                one, rows = int(j[at]), i[at:end]
                views, shares = templates.of(one, int(kind[at] >> 16), int(kind[at] & 0xFFFF))
                score = views @ inner[rows].T
                which = score.argmax(axis=0)
                best = score[which, np.arange(len(rows))]
                distance = length[rows] * np.sqrt(np.maximum(1 - best * best, 0) / inner.shape[-1])
                for k in np.flatnonzero((distance < FINE) & (best > COARSE)):
                    found = by_row.setdefault(int(rows[k]) + low, [])
                    found.append((float(distance[k]), one, turn, shares[which[k]]))
        for row in sorted(by_row):
            yield row, [proposal[1:] for proposal in sorted(by_row[row])[:TRIES]]


def _runs(values: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    cuts = np.flatnonzero(np.diff(values)) + 1
    edges = [0, *cuts.tolist(), len(values)]
    return ((at, end) for at, end in zip(edges[:-1], edges[1:], strict=True) if end > at)


class _Templates:
    """What the inner part of a thumbnail is when a protected image is shifted or cropped, as unit vectors."""

    def __init__(self, sample: _Samples) -> None:
        self._sample = sample
        self._made: dict[tuple[int, int, int], tuple[NDArray[np.float32], list[float]]] = {}

    def of(self, one: int, height: int, width: int) -> tuple[NDArray[np.float32], list[float]]:
        """(views, lights * inner * inner) and the share of the image in each view, for copies of this size."""
        own = self._sample.sizes[one]
        cut = own[0] - height, own[1] - width
        if min(cut) < 0 or cut[0] > own[0] // 8 or cut[1] > own[1] // 8:
            cut = 0, 0  # of another scale
        key = one, *cut
        if key not in self._made:
            if len(self._made) >= _KEPT_TEMPLATES:
                self._made.clear()
            views = self._views(one, cut)
            lights = [inner_means(image, views) for image in self._sample.images[one]]
            self._made[key] = _unit(np.stack(lights, axis=1))[0].astype(np.float32), [view[5] for view in views]
        return self._made[key]

    def _views(self, one: int, cut: tuple[int, int]) -> list[View]:
        h, w = (float(side) for side in self._sample.images[one][0].shape)
        y, x = h / SIDE, w / SIDE
        views = [(0, dx * x, dy * y, w, h, 1.0) for dy, dx in _SHIFTS]
        for source, share in enumerate((1.0, *CROPS), start=1):
            views += [(source, dx * x, dy * y, w, h, share) for dy, dx in _NEAR_SHIFTS]
        if any(cut):
            scale = h / self._sample.sizes[one][0]
            size = w - cut[1] * scale, h - cut[0] * scale
            views += [(0, dx * scale, dy * scale, *size, 1.0) for dy in range(cut[0] + 1) for dx in range(cut[1] + 1)]
        return views


def reduced(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """At most ``MAX_SIDE`` pixels: what is compared, and all that must be kept of an image to compare it later."""
    factor = MAX_SIDE / max(image.shape)
    height, width = (max(8, round(side * factor)) for side in image.shape)
    return image if factor >= 1 else resized(image, (height, width))


def compare(a: Images, b: Images, share: float = 1.0) -> Near:
    """Lay an image on a protected one, pixel on pixel and at one size.

    Args:
        a: grey images, one a light.
        b: of the protected row.
        share: how much of ``b`` the image ``a`` may show at its full size; 1 for all of it.
    """
    if len(a) != len(b):
        return Near(255.0, 0.0)
    close = all(abs(one - two) <= max(2, two // 8) for one, two in zip(a[0].shape, b[0].shape, strict=True))
    best = Near(255.0, 0.0)
    if share == 1.0 and close and max(a[0].shape) <= MAX_SIDE:
        best = _laid(a, b)
        if best.confirmed or a[0].shape == b[0].shape:
            return best
    a, b = [reduced(i) for i in a], [centre(reduced(i), share) for i in b]
    size = (min(a[0].shape[0], b[0].shape[0]), min(a[0].shape[1], b[0].shape[1]))
    if share < 1.0:
        size = a[0].shape
    return min(
        best, _laid([resized(i, size) for i in a], [resized(i, size) for i in b]), key=lambda n: (not n.confirmed, n.residual)
    )


def _laid(a: Images, b: Images) -> Near:
    """Move ``b`` by whole pixels to where it fits best, and measure what both then show."""
    y, x = _best_shift(a, b)
    pairs = []
    for one, two in zip(a, b, strict=True):
        rows = slice(max(0, -y), min(one.shape[0], two.shape[0] - y))
        columns = slice(max(0, -x), min(one.shape[1], two.shape[1] - x))
        moved = two[rows.start + y : rows.stop + y, columns.start + x : columns.stop + x]
        pairs.append((one[rows, columns], moved))
    if min(pairs[0][0].shape) < 4 * _MARGIN:
        return Near(255.0, 0.0)
    residual = float(np.sqrt(np.mean([_residual(one, two) ** 2 for one, two in pairs])))
    return Near(residual, _itself([two[_MARGIN:-_MARGIN, _MARGIN:-_MARGIN] for _, two in pairs]))


def _best_shift(a: Images, b: Images) -> tuple[int, int]:
    """Where ``b`` correlates best with ``a``: at most an eighth of a side, and at least half of the smaller image in common."""
    shape = [max(a[0].shape[k], b[0].shape[k]) for k in (0, 1)]
    size = [2 * side for side in shape]
    reach = [max(2, side // 8) + abs(a[0].shape[k] - b[0].shape[k]) for k, side in enumerate(shape)]
    picked = np.ix_(*(np.arange(-r, r + 1) for r in reach))
    cross, energy_a, energy_b = 0.0, 0.0, 0.0
    for one, two in zip(a, b, strict=True):
        one, two = one - one.mean(), two - two.mean()
        fa, fb, fa2, fb2, ma, mb = (
            np.fft.rfft2(i, size) for i in (one, two, one * one, two * two, np.ones_like(one), np.ones_like(two))
        )
        cross = cross + np.fft.irfft2(np.conj(fa) * fb, size)[picked]
        energy_a = energy_a + np.fft.irfft2(np.conj(fa2) * mb, size)[picked]
        energy_b = energy_b + np.fft.irfft2(np.conj(ma) * fb2, size)[picked]
    score = cross / np.sqrt(np.maximum(np.asarray(energy_a) * energy_b, 1.0))
    at = np.unravel_index(int(np.argmax(score)), score.shape)
    return int(at[0]) - reach[0], int(at[1]) - reach[1]


def _low(image: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
    """A Gaussian low pass, less the margin that the edge reaches."""
    taps = np.arange(-_MARGIN, _MARGIN + 1)
    weights = np.exp(-(taps**2) / (2 * sigma**2))
    weights = (weights / weights.sum()).astype(np.float32)
    h, w = image.shape
    rows = sum(weights[k] * image[k : h - 2 * _MARGIN + k] for k in range(len(taps)))
    low: NDArray[np.float32] = sum(weights[k] * rows[:, k : w - 2 * _MARGIN + k] for k in range(len(taps)))
    return low


def _residual(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    """Root-mean-square distance of the low-passed images after the best gain (0.4 to 2.5), offset and loss of sharpness.

    It is told in the grey levels of the image with more contrast: a copy does not hide by being darker.
    """
    a, b = (image - image.mean() for image in (a, b))
    if np.vdot(np.diff(a), np.diff(a)) * np.vdot(b, b) < np.vdot(np.diff(b), np.diff(b)) * np.vdot(a, a):
        a, b = b, a
    soft = _low(b, LOW_PASS)
    weaker = float(np.vdot(a, a)) < float(np.vdot(b, b))
    out = []
    for blur in BLURS:  # what the sharper one would be after it was resized and back
        sharp = _low(a, float(np.hypot(LOW_PASS, blur)))
        one, two = (soft, sharp) if weaker else (sharp, soft)
        gain = min(max(float(np.vdot(one, two)) / max(float(np.vdot(two, two)), 1e-6), 0.4), 2.5)
        out.append(float((one - gain * two).std()))
    return min(out)


def _itself(images: Images) -> float:
    """The least distance from its own shifts by two pixels, over all lights (opposite directions give the same number)."""
    out = []
    for y, x in ((0, 2), (2, 0), (2, 2), (2, -2)):
        total, count = 0.0, 0
        for image in images:
            h, w = image.shape
            difference = image[y:, max(x, 0) : w + min(x, 0)] - image[: h - y, max(-x, 0) : w - max(x, 0)]
            total += float(np.vdot(difference, difference))
            count += difference.size
        out.append(float(np.sqrt(total / max(count, 1))))
    return min(out)
