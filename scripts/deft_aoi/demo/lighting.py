"""The station's lights and camera: a painted scene becomes an image, the same scene under every light.

``SolderLight`` is the tiered ring of AOI stations: red from above, green from half height, blue from the side, so that
the slope of a solder fillet shows as its colour. Numbers are tuned by eye, not measured on a station.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter

from deft_aoi.demo.canvas import Array, Canvas

_RGB = tuple[float, float, float]


@dataclass(frozen=True)
class Light:
    """A light of the station.

    Args:
        tiers: (slope in degrees that mirrors this ring into the camera, spread in degrees, RGB strength).
        diffuse: RGB that reaches matte surfaces.
    """

    tiers: tuple[tuple[float, float, _RGB], ...]
    diffuse: _RGB


LIGHTS: dict[str, Light] = {
    "SolderLight": Light(
        ((0, 11, (1.05, 0.30, 0.22)), (26, 12, (0.25, 0.95, 0.25)), (55, 22, (0.18, 0.28, 1.05))), (0.92, 0.95, 0.95)
    ),
    "WhiteLight": Light(((0, 16, (0.95, 0.95, 0.92)), (45, 26, (0.45, 0.45, 0.46))), (1.0, 1.0, 0.98)),
    "LowAngleLight": Light(((0, 8, (0.10, 0.10, 0.12)), (58, 24, (1.15, 1.15, 1.2))), (0.62, 0.62, 0.66)),
    "UniformLight": Light(((0, 40, (0.72, 0.72, 0.72)), (50, 35, (0.40, 0.40, 0.40))), (0.85, 0.85, 0.85)),
}
"""In the order in which a workspace with several lights gets them."""


@dataclass(frozen=True)
class Exposure:
    """How one shot differs from the next one of the same scene.

    Args:
        gain: RGB factors.
        tilt: (x, y) fall-off of the light across the field, fraction from edge to edge.
        blur: Gaussian sigma of the optics, world units.
        noise: sigma of the sensor's noise, grey levels of 255 at full scale.
        offset: black level, grey levels.
    """

    gain: _RGB = (1.0, 1.0, 1.0)
    tilt: tuple[float, float] = (0.0, 0.0)
    blur: float = 0.45
    noise: float = 1.5
    offset: float = 0.0


def shade(canvas: Canvas, light: Light) -> Array:
    """Light a scene.

    Returns:
        Linear RGB, (side, side, 3), about 0 to 1.
    """
    gy, gx = np.gradient(canvas.height * canvas.scale)
    slope = np.hypot(gx, gy)
    theta = np.degrees(np.arctan(slope))
    # The rings are never perfectly even: a little more from the upper left, which makes relief readable.
    side = 1.0 - 0.22 * (gx + gy) / (1.0 + slope)
    mirror = np.zeros_like(canvas.albedo)
    for angle, spread, colour in light.tiers:
        mirror += (side * np.exp(-(((theta - angle) / spread) ** 2)))[..., None] * np.asarray(colour, np.float32)
    facing = np.cos(np.radians(theta))
    matte = canvas.albedo * np.asarray(light.diffuse, np.float32) * (0.55 + 0.45 * facing * side)[..., None]
    occlusion = gaussian_filter(canvas.height, 2.4 * canvas.scale, truncate=2.5) - canvas.height
    shadow = 1.0 - np.clip(0.05 * occlusion, 0.0, 0.45)
    metal = canvas.metal[..., None]
    image = matte * shadow[..., None] * (1 - metal) + metal * canvas.albedo * (mirror + 0.05)
    return np.asarray(image + canvas.gloss[..., None] * mirror * 0.5)


def photograph(scene: Array, exposure: Exposure, rng: np.random.Generator, pixels: int) -> Image.Image:
    """Take the picture: optics, fall-off, gain, sensor noise, eight bits.

    Returns:
        An RGB image of ``pixels`` × ``pixels``.
    """
    side = scene.shape[0]
    fine = side // pixels
    axis = np.linspace(-0.5, 0.5, side, dtype=np.float32)
    fall = 1.0 + exposure.tilt[0] * axis[None, :] + exposure.tilt[1] * axis[:, None]
    sigma = exposure.blur * side / 64.0
    image = gaussian_filter(scene * fall[..., None], (sigma, sigma, 0)) * np.asarray(exposure.gain, np.float32)
    image = image.reshape(pixels, fine, pixels, fine, 3).mean(axis=(1, 3))
    levels = 255.0 * np.clip(image, 0, 1.2) ** (1 / 1.25) + exposure.offset
    noise = rng.standard_normal(levels.shape, dtype=np.float32) * exposure.noise
    levels += noise * (0.6 + 0.4 * np.sqrt(np.clip(image, 0, 1)))
    return Image.fromarray(np.clip(np.rint(levels), 0, 255).astype(np.uint8))
