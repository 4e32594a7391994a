"""Views of an image as a thumbnail would show them: shifted, cropped, halved and back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from deft_aoi.analysis.constants import THUMB_SIDE

if TYPE_CHECKING:
    from numpy.typing import NDArray

View = tuple[int, float, float, float, float, float]
"""Source (0 as it is, 1 halved and back, then the crops at full size), left, top, width, height, share of the image."""

CROPS = (0.97, 0.94, 0.91, 0.88)
INNER = THUMB_SIDE - 2


def inner_means(image: NDArray[np.float32], views: list[View]) -> NDArray[np.float32]:
    """What the inner part of a thumbnail of each view is: (views, inner, inner) block means, from running sums."""
    from PIL import Image

    h, w = image.shape
    half = (
        Image.fromarray(image)
        .resize((max(1, w // 2), max(1, h // 2)), Image.Resampling.BICUBIC)
        .resize((w, h), Image.Resampling.BILINEAR)
    )
    sources = [image, np.asarray(half), *(resized(centre(image, share), (h, w)) for share in CROPS)]
    sums = np.zeros((len(sources), h + 1, w + 1))
    np.stack(sources).cumsum(axis=1, dtype=np.float64).cumsum(axis=2, out=sums[:, 1:, 1:])
    source, left, top, width, height, _share = np.array(views).T
    x0, x1 = _blocks(left, width, w)
    y0, y1 = _blocks(top, height, h)
    x0, x1, y0, y1 = x0[:, None, :], x1[:, None, :], y0[:, :, None], y1[:, :, None]
    of = source.astype(np.intp)[:, None, None]
    total = sums[of, y1, x1] - sums[of, y0, x1] - sums[of, y1, x0] + sums[of, y0, x0]
    return np.asarray(total / ((y1 - y0) * (x1 - x0)), dtype=np.float32)


def _blocks(start: NDArray[np.float64], length: NDArray[np.float64], side: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """First and end pixel of each inner block of each view, as Pillow's box filter takes them: (views, inner)."""
    border = length / THUMB_SIDE
    box = np.maximum(0, start + border), np.minimum(side, start + length - border)
    low, high = (edge.astype(np.float32).astype(np.float64)[:, None] for edge in box)  # Pillow's box is single precision
    step = (high - low) / INNER
    centre, half = low + (np.arange(INNER) + 0.5) * step, np.maximum(step, 1) / 2
    first, end = (np.clip(np.floor(centre + sign * half - 0.5).astype(np.intp) + 1, 0, side) for sign in (-1, 1))
    return first, end


def centre(image: NDArray[np.float32], share: float) -> NDArray[np.float32]:
    """The middle of an image, ``share`` of each side."""
    cut = [round(side * (1 - share) / 2) for side in image.shape]
    return image[cut[0] : image.shape[0] - cut[0], cut[1] : image.shape[1] - cut[1]]


def resized(image: NDArray[np.float32], shape: tuple[int, int]) -> NDArray[np.float32]:
    """Bicubic, to ``(height, width)``."""
    from PIL import Image

    if image.shape == shape:
        return image
    return np.asarray(Image.fromarray(image).resize((shape[1], shape[0]), Image.Resampling.BICUBIC), dtype=np.float32)
