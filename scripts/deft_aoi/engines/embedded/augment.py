"""Training augmentation, the same for the test image, every golden and every light of a pair.

TAO's keys: flips, quarter rotations, resized crop, blur, colour. One generator gives all random numbers of a batch, so
a batch is a function of (seed, epoch, batch number) and a resumed training sees what the uninterrupted one saw.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from omegaconf import DictConfig
from torch import Generator, Tensor


def _uniform(generator: Generator, low: float, high: float) -> float:
    return low + (high - low) * float(torch.rand((), generator=generator))


def _crop(pair: Tensor, generator: Generator) -> Tensor:
    """A square-ratio crop of 80-100 % of the area, resized back (TAO samples 0.8-1.2 and clips to the image)."""
    height, width = pair.shape[-2:]
    side = min(1.0, _uniform(generator, 0.8, 1.2)) ** 0.5
    h, w = max(1, round(height * side)), max(1, round(width * side))
    top = int(_uniform(generator, 0, height - h + 1 - 1e-6))
    left = int(_uniform(generator, 0, width - w + 1 - 1e-6))
    window = pair[..., top : top + h, left : left + w]
    return F.interpolate(window, size=(height, width), mode="bilinear", align_corners=False)


def _blur(pair: Tensor, radius: float) -> Tensor:
    """Gaussian blur with this standard deviation in pixels, borders reflected."""
    if radius < 0.1:
        return pair
    taps = torch.arange(-3, 4, dtype=pair.dtype)
    kernel = torch.exp(-0.5 * (taps / radius) ** 2)
    kernel = (kernel / kernel.sum()).expand(pair.shape[1], 1, 7)
    padded = F.pad(pair, (3, 3, 3, 3), mode="reflect")
    rows = F.conv2d(padded, kernel.unsqueeze(2), groups=pair.shape[1])
    return F.conv2d(rows, kernel.unsqueeze(3), groups=pair.shape[1])


def _jitter(pair: Tensor, color: DictConfig, generator: Generator) -> Tensor:
    """Brightness, contrast, saturation and hue with one set of factors for the whole pair; values stay in [0, 1]."""
    brightness, contrast, saturation = (
        _uniform(generator, max(0.0, 1 - s), 1 + s) for s in (color.brightness, color.contrast, color.saturation)
    )
    turn = _uniform(generator, -color.hue, color.hue) * 2 * torch.pi
    luma = torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
    pair = (pair * brightness).clamp(0, 1)
    gray = (pair * luma).sum(1, keepdim=True)
    middle = gray.mean(dim=(0, 2, 3), keepdim=True)  # one pivot for test and golden: a difference stays a difference
    pair = ((pair - middle) * contrast + middle).clamp(0, 1)
    gray = (pair * luma).sum(1, keepdim=True)
    pair = (pair - gray) * saturation + gray
    # Hue as a rotation of the chroma plane (YIQ): linear, so no conversion to HSV is needed.
    to_yiq = torch.tensor([[0.299, 0.587, 0.114], [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]])
    cos, sin = float(torch.cos(torch.tensor(turn))), float(torch.sin(torch.tensor(turn)))
    rotation = torch.tensor([[1.0, 0.0, 0.0], [0.0, cos, -sin], [0.0, sin, cos]])
    matrix = torch.linalg.inv(to_yiq) @ rotation @ to_yiq
    return torch.einsum("ij,njhw->nihw", matrix, pair).clamp(0, 1)


def augment(pairs: Tensor, config: DictConfig, generator: Generator) -> Tensor:
    """Augment a batch of pairs.

    Args:
        pairs: ``(B, 1 + num_golden, 3, H, W)`` float in [0, 1].
        config: ``dataset.classify.augmentation_config``.
        generator: gives every random number; two equal states give equal batches.

    Returns:
        The same shape and range. Quarter turns by 90 and 270 degrees need a square image and are left out otherwise.
    """
    flip, rotate, color = config.random_flip, config.random_rotate, config.random_color
    square = pairs.shape[-1] == pairs.shape[-2]
    turns = [round(angle / 90) % 4 for angle in rotate.angle_list if angle % 90 == 0 and (square or angle % 180 == 0)]
    out = []
    for pair in pairs:
        if flip.enable and _uniform(generator, 0, 1) < flip.hflip_probability:
            pair = pair.flip(-1)
        if flip.enable and _uniform(generator, 0, 1) < flip.vflip_probability:
            pair = pair.flip(-2)
        if rotate.enable and turns and _uniform(generator, 0, 1) < rotate.rotate_probability:
            pair = torch.rot90(pair, turns[int(_uniform(generator, 0, len(turns) - 1e-6))], (-2, -1))
        if config.with_random_crop:
            pair = _crop(pair, generator)
        if config.with_random_blur:
            pair = _blur(pair, _uniform(generator, 0, 1))
        if color.enable and _uniform(generator, 0, 1) > color.color_probability:  # TAO compares this way round
            pair = _jitter(pair, color, generator)
        out.append(pair)
    return torch.stack(out)
