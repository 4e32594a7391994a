"""From a seed to pictures: a component of a board, its golden shot and the shots of what the line built."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from deft_aoi.demo.board import BoardStyle, Layout, draw_board, sample_layout
from deft_aoi.demo.canvas import Canvas, Frame, Material
from deft_aoi.demo.lighting import LIGHTS, Exposure, photograph, shade
from deft_aoi.demo.parts import FLUX, Build, Design, draw_part

_PREFIX = {"resistor": "R", "capacitor": "C", "tantalum": "C", "diode": "D", "sot23": "Q", "soic": "U"}


@dataclass(frozen=True)
class Site:
    """A component's place on a board."""

    style: BoardStyle
    layout: Layout
    design: Design
    designator: str


@dataclass(frozen=True)
class Shot:
    """How one picture was taken and what the board's handling left on it.

    Args:
        shift: registration error, world units.
        exposure: lighting, optics and sensor.
        silk_wear: 0 to 1.
        stain: (x, y, radius, strength) of a harmless flux stain, strength 0 for none.
    """

    shift: tuple[float, float] = (0.0, 0.0)
    exposure: Exposure = Exposure()
    silk_wear: float = 0.1
    stain: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 0.0)


def _digits(rng: np.random.Generator, count: int) -> str:
    return "".join(str(d) for d in rng.integers(0, 10, count))


def sample_design(rng: np.random.Generator, package: str) -> Design:
    """Draw one component of ``package``; sizes are those of common parts, at the crop's scale."""
    turn, pads = int(rng.integers(4)), float(rng.uniform(3.2, 5.0))
    size, body, marking = (18.0, 16.0), Material((0.07, 0.07, 0.075), gloss=0.04), ""
    if package == "resistor":
        size, body = ((30.0, 15.0), (26.0, 13.0), (34.0, 18.0))[rng.integers(3)], Material((0.60, 0.58, 0.53))
        marking = _digits(rng, 3) if size[1] > 14 else ""
    elif package == "capacitor":
        size = ((28.0, 14.0), (24.0, 13.0), (32.0, 17.0))[rng.integers(3)]
        body = Material(((0.46, 0.33, 0.20), (0.52, 0.41, 0.28), (0.38, 0.29, 0.22))[rng.integers(3)])
    elif package == "tantalum":
        size, body = (35.0, 19.0), Material(((0.82, 0.58, 0.12), (0.10, 0.10, 0.10))[int(rng.random() < 0.3)], gloss=0.04)
        marking = _digits(rng, 3)
    elif package == "diode":
        size, marking = (31.0, 15.0), "T" + _digits(rng, 1)
    elif package == "sot23":
        size, marking = (24.0, 13.0), str(rng.choice(["A1", "L4", "T7", "M6"]))
    else:
        size, marking = (60.0, 56.0), str(rng.choice(["LM324", "TL072", "AT24C", "MAX3"]))
    return Design(package, size, body, marking, turn, pads)


def sample_site(rng: np.random.Generator, style: BoardStyle, package: str) -> Site:
    """Draw a component, its designator and what lies under it."""
    designator = f"{_PREFIX[package]}{int(rng.integers(1, 900))}"
    return Site(style, sample_layout(rng, designator), sample_design(rng, package), designator)


def sample_build(rng: np.random.Generator, *, defect: str = "", severity: float = 1.0) -> Build:
    """Draw what a sound line makes of a component, then spoil it."""
    offset = np.clip(rng.normal(0, 0.45, 2), -1.1, 1.1)
    turn = float(np.clip(rng.normal(0, 0.7), -1.8, 1.8))
    x, y = float(offset[0]), float(offset[1])
    if defect == "shift":
        angle = rng.uniform(0, 2 * np.pi)
        amount = 3.2 + 3.6 * severity
        x, y = x + float(amount * np.cos(angle)), y + float(amount * np.sin(angle))
        turn += float(rng.choice([-1, 1]) * rng.uniform(2, 11) * severity)
    elif defect == "tombstone":
        turn += float(rng.normal(0, 4))
    return Build(
        offset=(x, y, turn),
        volumes=tuple(float(v) for v in np.clip(rng.normal(1.0, 0.11, 6), 0.74, 1.25)),
        defect=defect,
        severity=severity,
        which=int(rng.integers(0, 60)),
        lot=_digits(rng, 4),
        marking_alpha=float(rng.uniform(0.6, 0.95)),
        texture=tuple(float(t) for t in rng.random(25)),
    )


CAMERA_ERROR = 0.8
"""Standard deviation of where the camera stops along each axis, world units (pixels of a crop of 64)."""


def sample_shot(rng: np.random.Generator, camera_error: float = CAMERA_ERROR) -> Shot:
    """Draw how production takes a picture: registration, light, focus and noise all differ from the golden shot."""
    shift = np.clip(rng.normal(0, camera_error, 2), -2.5 * camera_error, 2.5 * camera_error)
    gain = float(rng.uniform(0.88, 1.12)) * rng.uniform(0.965, 1.035, 3)
    tilt = rng.normal(0, 0.05, 2)
    exposure = Exposure(
        gain=(float(gain[0]), float(gain[1]), float(gain[2])),
        tilt=(float(tilt[0]), float(tilt[1])),
        blur=float(rng.uniform(0.35, 0.85)),
        noise=float(rng.uniform(2.0, 4.5)),
        offset=float(rng.uniform(-3, 4)),
    )
    at = rng.uniform(6, 58, 2)
    strength = float(rng.uniform(0.06, 0.16)) if rng.random() < 0.22 else 0.0
    stain = (float(at[0]), float(at[1]), float(rng.uniform(3, 7)), strength)
    return Shot((float(shift[0]), float(shift[1])), exposure, float(rng.uniform(0.0, 0.45)), stain)


def paint(site: Site, build: Build | None, shot: Shot, pixels: int) -> Canvas:
    """Paint a site; ``build=None`` leaves the bare board."""
    canvas = Canvas(pixels, shot.shift, Material(site.style.mask, gloss=0.10))
    draw_board(canvas, site.style, site.layout, silk_wear=shot.silk_wear)
    x, y, radius, strength = shot.stain
    if strength:
        canvas.capsule(Frame(0, 0, 0), (x, y), (x, y), radius, FLUX, height=0.0, add=True, alpha=strength)
    if build is not None:
        draw_part(canvas, Frame(), site.design, build)
    return canvas


def take(
    site: Site, build: Build | None, shot: Shot, lights: tuple[str, ...], pixels: int, rng: np.random.Generator
) -> list[Image.Image]:
    """Photograph a site under every light; one scene, one registration, separate sensor noise."""
    canvas = paint(site, build, shot, pixels)
    images = []
    for number, light in enumerate(lights):
        exposure = shot.exposure
        if number:
            jitter = rng.uniform(0.97, 1.03, 3)
            red, green, blue = (float(g * j) for g, j in zip(exposure.gain, jitter, strict=True))
            exposure = replace(exposure, gain=(red, green, blue))
        image = photograph(shade(canvas, LIGHTS[light]), exposure, rng, pixels)
        turn = site.design.turn
        images.append(image.transpose(Image.Transpose(1 + turn)) if turn in (1, 2, 3) else image)
    return images


__all__ = ["Shot", "Site", "sample_build", "sample_shot", "sample_site", "take"]
