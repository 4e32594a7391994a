"""A small height-field painter: shapes in millimetre-like units, each with a material and a height.

A scene is painted once and lit afterwards, so that every light of a station sees the same solder joint. Shapes are
signed-distance functions with analytic anti-aliasing, each evaluated in its own bounding box: a crop takes about 2 ms.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
HeightFn = Callable[[Array, Array, Array], Array]

FIELD = 64.0
"""The field of view in world units, whatever the number of pixels."""


@dataclass(frozen=True)
class Material:
    """What a surface looks like.

    Args:
        albedo: diffuse RGB reflectance, 0 to 1.
        metal: 0 = matte, 1 = mirror-like (solder, tin): its colour then comes from the light and the slope.
        gloss: how much of a mirror a matte surface adds (solder mask is lacquer, a component body is not).
    """

    albedo: tuple[float, float, float]
    metal: float = 0.0
    gloss: float = 0.0


@dataclass(frozen=True)
class Frame:
    """A local coordinate system: ``angle`` in degrees, then the translation ``(x, y)``, both in world units."""

    x: float = FIELD / 2
    y: float = FIELD / 2
    angle: float = 0.0

    def to_world(self, x: float, y: float) -> tuple[float, float]:
        """Local to world coordinates."""
        c, s = math.cos(math.radians(self.angle)), math.sin(math.radians(self.angle))
        return self.x + c * x - s * y, self.y + s * x + c * y

    def moved(self, dx: float = 0.0, dy: float = 0.0, turn: float = 0.0) -> Frame:
        """The frame shifted by local ``(dx, dy)`` and turned by ``turn`` degrees."""
        x, y = self.to_world(dx, dy)
        return Frame(x, y, self.angle + turn)


class Canvas:
    """Albedo, metal, gloss and height of a scene.

    Args:
        pixels: side of the finished image; the canvas is twice as fine and reduced after lighting.
        shift: registration error of the camera, world units.
        ground: material of the bare board.
    """

    OVERSAMPLE = 2

    def __init__(self, pixels: int, shift: tuple[float, float], ground: Material) -> None:
        side = pixels * self.OVERSAMPLE
        self.scale = side / FIELD
        axis = ((np.arange(side) + 0.5) / self.scale).astype(np.float32)
        self.x, self.y = axis - np.float32(shift[0]), axis - np.float32(shift[1])
        self.albedo = np.empty((side, side, 3), np.float32)
        self.albedo[:] = ground.albedo
        self.metal = np.full((side, side), ground.metal, np.float32)
        self.gloss = np.full((side, side), ground.gloss, np.float32)
        self.height = np.zeros((side, side), np.float32)

    def grid(self) -> tuple[Array, Array]:
        """World coordinates of every pixel, each (side, side)."""
        return np.meshgrid(self.x, self.y)

    def box(
        self,
        frame: Frame,
        centre: tuple[float, float],
        size: tuple[float, float],
        material: Material,
        *,
        radius: float = 0.0,
        height: float | HeightFn = 0.0,
        add: bool = False,
        alpha: float = 1.0,
    ) -> None:
        """Paint a rectangle with rounded corners."""
        (cx, cy), (w, h) = centre, size

        def distance(x: Array, y: Array) -> Array:
            qx, qy = np.abs(x - cx) - w / 2 + radius, np.abs(y - cy) - h / 2 + radius
            outside = np.hypot(np.maximum(qx, 0), np.maximum(qy, 0))
            signed: Array = outside + np.minimum(np.maximum(qx, qy), 0) - radius
            return signed

        self._paint(frame, (cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2), distance, material, height, add, alpha)

    def capsule(
        self,
        frame: Frame,
        start: tuple[float, float],
        end: tuple[float, float],
        radius: float,
        material: Material,
        *,
        height: float | HeightFn = 0.0,
        add: bool = False,
        alpha: float = 1.0,
    ) -> None:
        """Paint a line with round ends; a disk when ``start == end``."""
        (x0, y0), (x1, y1) = start, end
        dx, dy = x1 - x0, y1 - y0
        length2 = dx * dx + dy * dy

        def distance(x: Array, y: Array) -> Array:
            along = np.clip(((x - x0) * dx + (y - y0) * dy) / length2, 0, 1) if length2 else 0.0
            signed: Array = np.hypot(x - x0 - along * dx, y - y0 - along * dy) - radius
            return signed

        bounds = (min(x0, x1) - radius, min(y0, y1) - radius, max(x0, x1) + radius, max(y0, y1) + radius)
        self._paint(frame, bounds, distance, material, height, add, alpha)

    def _paint(
        self,
        frame: Frame,
        bounds: tuple[float, float, float, float],
        distance: Callable[[Array, Array], Array],
        material: Material,
        height: float | HeightFn,
        add: bool,
        alpha: float,
    ) -> None:
        corners = [frame.to_world(x, y) for x in (bounds[0], bounds[2]) for y in (bounds[1], bounds[3])]
        pad = 1.0 / self.scale
        cols = slice(*np.searchsorted(self.x, (min(c[0] for c in corners) - pad, max(c[0] for c in corners) + pad)))
        rows = slice(*np.searchsorted(self.y, (min(c[1] for c in corners) - pad, max(c[1] for c in corners) + pad)))
        wx, wy = self.x[None, cols] - frame.x, self.y[rows, None] - frame.y
        if wx.size == 0 or wy.size == 0:
            return
        c, s = math.cos(math.radians(frame.angle)), math.sin(math.radians(frame.angle))
        x, y = c * wx + s * wy, c * wy - s * wx
        d = distance(x, y)
        cover = np.clip(0.5 - d * self.scale, 0.0, 1.0) * alpha
        self.albedo[rows, cols] += (np.asarray(material.albedo, np.float32) - self.albedo[rows, cols]) * cover[..., None]
        self.metal[rows, cols] += (material.metal - self.metal[rows, cols]) * cover
        self.gloss[rows, cols] += (material.gloss - self.gloss[rows, cols]) * cover
        target = height(x, y, d) if callable(height) else height
        if add:
            self.height[rows, cols] += target * cover
        else:
            self.height[rows, cols] += (target - self.height[rows, cols]) * cover
