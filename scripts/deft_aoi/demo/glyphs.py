"""Stroke letters for silkscreen and part markings: no font file, so the same seed gives the same bytes anywhere."""

from __future__ import annotations

from deft_aoi.demo.canvas import Canvas, Frame, HeightFn, Material

# Each stroke is a polyline of (x, y) on a 2 × 4 grid, y downwards.
_STROKES: dict[str, tuple[str, ...]] = {
    "0": ("00 20 24 04 00",),
    "1": ("01 10 14",),
    "2": ("00 20 22 02 04 24",),
    "3": ("00 20 24 04", "02 22"),
    "4": ("00 02 22", "20 24"),
    "5": ("20 00 02 22 24 04",),
    "6": ("20 00 04 24 22 02",),
    "7": ("00 20 14",),
    "8": ("00 20 24 04 00", "02 22"),
    "9": ("22 02 00 20 24 04",),
    "A": ("04 01 10 21 24", "02 22"),
    "C": ("20 00 04 24",),
    "D": ("00 10 21 23 14 04 00",),
    "L": ("00 04 24",),
    "M": ("04 00 12 20 24",),
    "Q": ("00 20 24 04 00", "13 24"),
    "R": ("04 00 20 22 02", "12 24"),
    "T": ("00 20", "10 14"),
    "U": ("00 04 24 20",),
    "X": ("00 24", "20 04"),
}


def write(
    canvas: Canvas,
    frame: Frame,
    text: str,
    *,
    cap_height: float,
    stroke: float,
    material: Material,
    height: float | HeightFn,
    add: bool = False,
    alpha: float = 1.0,
) -> None:
    """Write ``text`` centred on the frame's origin; characters without strokes leave a gap."""
    unit = cap_height / 4
    advance = 3.2 * unit
    left = -(len(text) - 1) * advance / 2 - unit
    for index, char in enumerate(text):
        for stroke_path in _STROKES.get(char, ()):
            points = [(left + index * advance + int(p[0]) * unit, (int(p[1]) - 2) * unit) for p in stroke_path.split()]
            for a, b in zip(points, points[1:], strict=False):
                canvas.capsule(frame, a, b, stroke / 2, material, height=height, add=add, alpha=alpha)
