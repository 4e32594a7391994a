"""The bare board under a component: laminate, copper under the solder mask, vias, silkscreen."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from deft_aoi.demo.canvas import FIELD, Canvas, Frame, Material
from deft_aoi.demo.glyphs import write

SILK = Material((0.86, 0.86, 0.82))
TIN = Material((0.86, 0.86, 0.88), metal=1.0)
GOLD = Material((0.95, 0.76, 0.38), metal=0.9)
HOLE = Material((0.03, 0.03, 0.03))
_WORLD = Frame(0.0, 0.0, 0.0)

_MASKS = {
    "green": ((0.035, 0.235, 0.095), (0.075, 0.36, 0.15)),
    "dark green": ((0.025, 0.15, 0.075), (0.055, 0.245, 0.12)),
    "light green": ((0.06, 0.30, 0.11), (0.115, 0.43, 0.165)),
    "black": ((0.030, 0.036, 0.034), (0.062, 0.074, 0.068)),
}


@dataclass(frozen=True)
class BoardStyle:
    """How one product's boards look.

    Args:
        mask: solder-mask colour over laminate, RGB reflectance.
        mask_on_copper: the same over copper, lighter.
        weave: contrast of the glass weave.
    """

    mask: tuple[float, float, float]
    mask_on_copper: tuple[float, float, float]
    weave: float


@dataclass(frozen=True)
class Layout:
    """What is drawn under one component: fixed for a board, seen by test and golden alike."""

    pour: tuple[float, float, float, float] | None
    traces: tuple[tuple[float, float, float, float, float], ...]
    vias: tuple[tuple[float, float, float, bool], ...]
    designator: str
    designator_at: tuple[float, float]
    weave_phase: tuple[float, float]


def sample_style(rng: np.random.Generator, product: int) -> BoardStyle:
    """Draw a product's look; most boards are green."""
    name = ("green", "dark green", "light green", "green", "black", "light green")[product % 6]
    low, high = _MASKS[name]
    tint = rng.uniform(0.92, 1.08, 3)
    mask, over = (tuple(float(c * t) for c, t in zip(base, tint, strict=True)) for base in (low, high))
    return BoardStyle(mask, over, float(rng.uniform(0.02, 0.06)))  # type: ignore[arg-type]


def sample_layout(rng: np.random.Generator, designator: str) -> Layout:
    """Draw what lies under one component."""
    pour = None
    if rng.random() < 0.35:
        at = float(rng.uniform(0.15, 0.8)) * FIELD
        pour = [(0, 0, at, FIELD), (at, 0, FIELD, FIELD), (0, 0, FIELD, at), (0, at, FIELD, FIELD)][rng.integers(4)]
    traces = []
    for _ in range(int(rng.integers(2, 6))):
        x, y = rng.uniform(-4, FIELD + 4, 2)
        angle = float(rng.integers(8)) * np.pi / 4
        length = float(rng.uniform(18, 70))
        width = float(rng.choice([1.6, 2.2, 3.2]))
        end = (float(x + length * np.cos(angle)), float(y + length * np.sin(angle)))
        traces.append((float(x), float(y), *end, width))
        bend = angle + float(rng.choice([-1, 1])) * np.pi / 4
        traces.append((*end, float(end[0] + 25 * np.cos(bend)), float(end[1] + 25 * np.sin(bend)), width))
    vias = []
    for _ in range(int(rng.integers(0, 4))):
        edge = float(rng.choice([rng.uniform(3, 13), rng.uniform(51, 61)]))
        other = float(rng.uniform(3, 61))
        x, y = (edge, other) if rng.random() < 0.5 else (other, edge)
        vias.append((x, y, float(rng.uniform(2.4, 3.4)), bool(rng.random() < 0.55)))
    printed_at = (float(rng.uniform(22, 42)), float(rng.choice([5.5, 58.5])))
    phase = rng.uniform(0, 2 * np.pi, 2)
    return Layout(pour, tuple(traces), tuple(vias), designator, printed_at, (float(phase[0]), float(phase[1])))


def draw_board(canvas: Canvas, style: BoardStyle, layout: Layout, *, silk_wear: float) -> None:
    """Paint the bare board."""
    over = Material(style.mask_on_copper, gloss=0.16)
    gx, gy = canvas.grid()
    weave = np.sin(gx * 1.9 + layout.weave_phase[0]) * np.sin(gy * 1.9 + layout.weave_phase[1])
    canvas.albedo *= (1.0 + style.weave * weave)[..., None]
    if layout.pour is not None:
        x0, y0, x1, y1 = layout.pour
        canvas.box(_WORLD, ((x0 + x1) / 2, (y0 + y1) / 2), (x1 - x0 + 8, y1 - y0 + 8), over, height=0.35)
    for x0, y0, x1, y1, width in layout.traces:
        canvas.capsule(_WORLD, (x0, y0), (x1, y1), width / 2, over, height=lambda x, y, d: np.clip(-d, 0, 0.5))
    for x, y, radius, tented in layout.vias:
        canvas.capsule(_WORLD, (x, y), (x, y), radius, over if tented else GOLD, height=0.45)
        dimple = over if tented else HOLE
        canvas.capsule(_WORLD, (x, y), (x, y), radius * 0.45, dimple, height=-0.5 if tented else -2.0)
    write(
        canvas,
        Frame(*layout.designator_at, 0.0),
        layout.designator,
        cap_height=5.2,
        stroke=1.0,
        material=SILK,
        height=0.25,
        add=True,
        alpha=1.0 - silk_wear,
    )
