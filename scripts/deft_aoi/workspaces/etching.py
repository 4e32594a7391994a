"""Drawing etching defects on a golden crop of a two-tone board image: our own, independent of DeepPCB's.

Every drawn defect is checked by what it does to the copper: an open adds a piece of copper, a short joins two, a pinhole
makes a hole; a drawing that does not is thrown away.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

Mask = NDArray[np.bool_]
Drawn = tuple[Mask, Mask]
"""(pixels that lose their copper, pixels that get some)."""

MIN_CHANGED = 20
_EIGHT = np.ones((3, 3), dtype=bool)
ATTEMPTS = 24


def _blob(shape: tuple[int, int], x: float, y: float, radius: float, rng: np.random.Generator) -> Mask:
    """A disk with an uneven rim, as etching leaves it."""
    yy, xx = np.mgrid[: shape[0], : shape[1]]
    angle = np.arctan2(yy - y, xx - x)
    a, b = rng.uniform(0, 2 * np.pi, 2)
    rim = radius * (1 + 0.16 * np.sin(2 * angle + a) + 0.10 * np.sin(3 * angle + b))
    return np.asarray(np.hypot(xx - x, yy - y) <= rim)


def _bar(shape: tuple[int, int], a: tuple[float, float], b: tuple[float, float], half: float) -> Mask:
    yy, xx = np.mgrid[: shape[0], : shape[1]]
    dx, dy = b[0] - a[0], b[1] - a[1]
    along = np.clip(((xx - a[0]) * dx + (yy - a[1]) * dy) / max(dx * dx + dy * dy, 1e-9), 0, 1)
    return np.asarray(np.hypot(xx - a[0] - along * dx, yy - a[1] - along * dy) <= half)


def _pick(where: Mask, rng: np.random.Generator, border: int = 7) -> tuple[int, int] | None:
    inside = where.copy()
    inside[:border] = inside[-border:] = inside[:, :border] = inside[:, -border:] = False
    ys, xs = np.nonzero(inside)
    if not len(xs):
        return None
    k = int(rng.integers(len(xs)))
    return int(xs[k]), int(ys[k])


def _pieces(copper: Mask) -> int:
    return int(ndimage.label(copper, _EIGHT)[1])


def _pinhole(copper: Mask, rng: np.random.Generator) -> Drawn | None:
    depth = ndimage.distance_transform_edt(copper)
    at = _pick(depth >= 4.5, rng)
    if at is None:
        return None
    radius = float(rng.uniform(2.6, min(depth[at[1], at[0]] - 1.2, 5.0) + 0.1))
    return _blob(copper.shape, *at, radius, rng) & copper, np.zeros_like(copper)


def _copper(copper: Mask, rng: np.random.Generator) -> Drawn | None:
    room = ndimage.distance_transform_edt(~copper)
    at = _pick(room >= 5.5, rng)
    if at is None:
        return None
    radius = float(rng.uniform(2.8, min(room[at[1], at[0]] - 1.8, 6.0) + 0.1))
    return np.zeros_like(copper), _blob(copper.shape, *at, radius, rng) & ~copper


def _mousebite(copper: Mask, rng: np.random.Generator) -> Drawn | None:
    at = _pick(copper & ~ndimage.binary_erosion(copper), rng)
    if at is None:
        return None
    return _blob(copper.shape, *at, float(rng.uniform(2.8, 4.6)), rng) & copper, np.zeros_like(copper)


def _spur(copper: Mask, rng: np.random.Generator) -> Drawn | None:
    at = _pick(~copper & ndimage.binary_dilation(copper), rng)
    if at is None:
        return None
    return np.zeros_like(copper), _blob(copper.shape, *at, float(rng.uniform(2.8, 4.6)), rng) & ~copper


def _open(copper: Mask, rng: np.random.Generator) -> Drawn | None:
    depth = ndimage.distance_transform_edt(copper)
    ridge = copper & (depth >= ndimage.maximum_filter(depth, 3)) & (depth >= 1.5) & (depth <= 6.5)
    at = _pick(ridge, rng)
    if at is None:
        return None
    cut = _blob(copper.shape, *at, float(depth[at[1], at[0]]) + float(rng.uniform(1.6, 3.0)), rng)
    return cut & copper, np.zeros_like(copper)


def _short(copper: Mask, rng: np.random.Generator) -> Drawn | None:
    room, nearest = ndimage.distance_transform_edt(~copper, return_indices=True)
    labels, _ = ndimage.label(copper, _EIGHT)
    own = labels[nearest[0], nearest[1]]
    # Where the nearest piece of copper changes, the gap between two pieces has its middle.
    middle = ~copper & (room <= 10) & (ndimage.maximum_filter(own, 3) != ndimage.minimum_filter(own, 3))
    at = _pick(middle, rng)
    if at is None:
        return None
    x, y = at
    window = own[y - 1 : y + 2, x - 1 : x + 2]
    ends = []
    for piece in np.unique(window)[:2]:
        j, i = np.argwhere(window == piece)[0]
        ends.append((float(nearest[1][y + j - 1, x + i - 1]), float(nearest[0][y + j - 1, x + i - 1])))
    return np.zeros_like(copper), _bar(copper.shape, ends[0], ends[1], float(rng.uniform(1.4, 2.8))) & ~copper


_DRAW: dict[str, Callable[[Mask, np.random.Generator], Drawn | None]] = {
    "copper": _copper,
    "mousebite": _mousebite,
    "open": _open,
    "pinhole": _pinhole,
    "short": _short,
    "spur": _spur,
}


def _does_it(label: str, before: Mask, after: Mask) -> bool:
    pieces, holes = _pieces(after) - _pieces(before), _pieces(~after) - _pieces(~before)
    wanted = {
        "open": pieces > 0,
        "short": pieces < 0,
        "copper": pieces == 1,
        "pinhole": holes >= 1 and pieces == 0,
        "mousebite": pieces == 0 and holes == 0,
        "spur": pieces == 0 and holes == 0,
    }
    return wanted[label] and int((before != after).sum()) >= MIN_CHANGED


def draw_defect(golden: Image.Image, label: str, *, copper_dark: bool, rng: np.random.Generator) -> Image.Image | None:
    """Draw a defect on a golden crop.

    Args:
        golden: RGB crop of a two-tone board image.
        label: one of the six DeepPCB labels.
        copper_dark: whether copper is the darker tone.
        rng: where and how large.

    Returns:
        The spoilt crop, or ``None`` where this crop offers no place for such a defect.
    """
    grey = np.asarray(golden.convert("L"), dtype=np.float32)
    low, high = np.percentile(grey, (2, 98))
    if high - low < 60 and label != "copper":
        return None
    level = (low + high) / 2 if high - low >= 60 else (96.0 if not copper_dark else 32.0)
    copper: Mask = grey < level if copper_dark else grey > level
    tone_copper = float(np.median(grey[copper])) if copper.any() else (8.0 if copper_dark else 247.0)
    tone_bare = float(np.median(grey[~copper])) if (~copper).any() else (247.0 if copper_dark else 8.0)
    for _ in range(ATTEMPTS):
        drawn = _DRAW[label](copper, rng)
        if drawn is None:
            return None
        after = (copper & ~drawn[0]) | drawn[1]
        if _does_it(label, copper, after):
            return _repaint(grey, copper, after, tone_copper, tone_bare)
    return None


def _repaint(grey: NDArray[np.float32], before: Mask, after: Mask, tone_copper: float, tone_bare: float) -> Image.Image:
    """Change only what the defect changes, with the soft rim that the scan gives every edge."""
    flat = np.where(after, tone_copper, tone_bare).astype(np.float32)
    soft = ndimage.gaussian_filter(flat, 0.6)
    near = ndimage.gaussian_filter(ndimage.binary_dilation(before != after, iterations=1).astype(np.float32), 0.5)
    out = grey * (1 - near) + soft * near
    levels = np.clip(np.rint(out), 0, 255).astype(np.uint8)
    return Image.fromarray(np.repeat(levels[:, :, None], 3, axis=2))
