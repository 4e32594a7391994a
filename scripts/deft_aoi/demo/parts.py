"""Components and their solder joints, sound or defective.

A package is drawn in its own frame (long axis = x). World unit: 1/64 of the field of view; heights in the same unit.
A joint's ``volume`` is 1 for the solder that the process wants; a sound line gives 0.8 to 1.2.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from deft_aoi.demo.board import SILK, TIN
from deft_aoi.demo.canvas import Array, Canvas, Frame, HeightFn, Material
from deft_aoi.demo.glyphs import write

EPOXY = Material((0.065, 0.065, 0.07), gloss=0.05)
INK = Material((0.78, 0.78, 0.76))
LASER = Material((0.30, 0.30, 0.29))
FLUX = Material((0.36, 0.26, 0.07), gloss=0.3)
CHARRED = Material((0.07, 0.05, 0.03), gloss=0.15)


@dataclass(frozen=True)
class Design:
    """One component of one board: what should be there.

    Args:
        package: a key of :data:`PACKAGES`.
        size: length and width of the body.
        body: body material.
        marking: text on the body, "" for none.
        turn: quarter-turns of the whole crop.
        pads: pad extension beyond the body or lead.
    """

    package: str
    size: tuple[float, float]
    body: Material
    marking: str
    turn: int
    pads: float


@dataclass(frozen=True)
class Build:
    """What the line made of it.

    Args:
        offset: placement error (x, y, degrees).
        volumes: solder volume, one a joint; the last is used for all further joints.
        defect: a key of :data:`DEFECT_PACKAGES` or "".
        severity: 0 (as subtle as it gets) to 1.
        which: the joint, lead or end that is hit.
        lot: the lot code that is printed; differs from board to board on a sound line.
        marking_alpha: how strongly the marking is printed.
        texture: random numbers in [0, 1) for shapes that need some.
    """

    offset: tuple[float, float, float] = (0.0, 0.0, 0.0)
    volumes: tuple[float, ...] = (1.0,)
    defect: str = ""
    severity: float = 1.0
    which: int = 0
    lot: str = ""
    marking_alpha: float = 0.9
    texture: tuple[float, ...] = field(default_factory=lambda: (0.5,) * 25)

    def volume(self, joint: int) -> float:
        """Solder volume of a joint."""
        return self.volumes[min(joint, len(self.volumes) - 1)]


def _fillet(start: float, reach: float, top: float, direction: float) -> HeightFn:
    """A concave ramp of solder from ``top`` at ``start`` down to the pad at ``start + direction * reach``."""

    def height(x: Array, y: Array, d: Array) -> Array:
        u = np.clip((x - start) * direction / max(reach, 1e-6), 0, 1)
        return np.asarray(0.5 + top * (1 - u) ** 1.8)

    return height


def _dome(top: float, rim: float) -> HeightFn:
    """Reflowed solder without a part: round at the rim, flat in the middle."""
    return lambda x, y, d: 0.5 + top * (1 - (1 - np.clip(-d / rim, 0, 1)) ** 2) ** 0.5


def _edge(top: float, rim: float) -> HeightFn:
    """A body with a bevelled rim."""
    return lambda x, y, d: top * np.clip(0.35 + 0.65 * (-d / rim), 0, 1)


def _place(frame: Frame, build: Build) -> Frame:
    dx, dy, turn = build.offset
    return frame.moved(dx, dy, turn)


def draw_two_pin(canvas: Canvas, frame: Frame, design: Design, build: Build) -> None:
    """Chip resistor, chip capacitor, tantalum capacitor, diode: a body between two pads."""
    length, width = design.size
    pad_in, pad_out = length * 0.26, length / 2 + design.pads
    pad_h = width + 2.4
    for end in (-1, 1):
        canvas.box(frame, (end * (pad_in + pad_out) / 2, 0), (pad_out - pad_in, pad_h), TIN, radius=0.8, height=0.5)
    if build.defect == "missing":
        for joint, end in enumerate((-1, 1)):
            centre, size = (end * (pad_in + pad_out) / 2, 0.0), (pad_out - pad_in, pad_h)
            canvas.box(frame, centre, size, TIN, radius=1.4, height=_dome(1.6 * build.volume(joint), 3.0))
        return
    part = _place(frame, build)
    if build.defect == "tombstone":
        _draw_tombstone(canvas, frame, part, design, build, (pad_in, pad_out, pad_h))
        return
    tall = 5.0
    for joint, end in enumerate((-1, 1)):
        volume = build.volume(joint)
        if build.defect == "insufficient_solder" and joint == build.which % 2:
            volume = 0.42 - 0.36 * build.severity
        # Wetting starts at the terminal wherever the part sits, and ends on the pad wherever that is.
        tip = end * length / 2 + build.offset[0]
        reach = max(abs(end * pad_out - tip), 0.6) * min(1.0, 0.35 + 0.65 * volume)
        top = tall * min(1.0, 0.25 + 0.7 * volume)
        canvas.box(
            frame,
            (tip + end * (reach - 1.5) / 2, build.offset[1] * 0.6),
            (reach + 1.5, min(pad_h, width * (0.75 + 0.4 * volume))),
            TIN,
            radius=1.2,
            height=_fillet(tip, reach, top, end),
        )
    _draw_body(canvas, part, design, build, tall)


def _draw_body(canvas: Canvas, part: Frame, design: Design, build: Build, tall: float) -> None:
    length, width = design.size
    cap = length * (0.17 if design.package != "tantalum" else 0.06)
    canvas.box(part, (0, 0), (length, width), TIN, radius=0.7, height=_edge(tall, 1.0))
    canvas.box(part, (0, 0), (length - 2 * cap, width * 0.985), design.body, radius=0.4, height=_edge(tall + 0.3, 0.9))
    if design.package == "resistor":
        canvas.box(part, (0, 0), (length - 2 * cap - 0.6, width - 1.6), EPOXY, radius=0.5, height=tall + 0.4)
    flip = -1 if build.defect == "wrong_polarity" else 1
    if design.package in ("tantalum", "diode"):
        band = 0.19 * length
        ink = SILK if design.package == "diode" else Material((0.30, 0.16, 0.05))
        at = flip * (length / 2 - cap - band / 2 - 0.5)
        canvas.box(part, (at, 0), (band, width * 0.97), ink, height=tall + 0.3, alpha=build.marking_alpha)
    if design.marking:
        ink = INK if design.body.albedo[0] < 0.25 or design.package == "resistor" else Material((0.12, 0.08, 0.05))
        shift = -flip * 0.11 * length if design.package in ("tantalum", "diode") else 0.0
        write(
            canvas,
            part.moved(shift, 0, 180 if flip < 0 else 0),
            design.marking,
            cap_height=min(width * 0.46, 6.5),
            stroke=0.9,
            material=ink,
            height=0.0,
            add=True,
            alpha=build.marking_alpha,
        )


def _draw_tombstone(
    canvas: Canvas, frame: Frame, part: Frame, design: Design, build: Build, pads: tuple[float, float, float]
) -> None:
    """The part stands on one end: foreshortened over one pad, the other pad open."""
    pad_in, pad_out, pad_h = pads
    length, width = design.size
    end = 1 if build.which % 2 else -1
    open_pad = (-end * (pad_in + pad_out) / 2, 0.0)
    canvas.box(frame, open_pad, (pad_out - pad_in, pad_h), TIN, radius=1.4, height=_dome(1.7, 3.0))
    seen = length * (0.62 - 0.36 * build.severity)
    far, near = end * length / 2, end * (length / 2 - seen)
    mid = (far + near) / 2
    rise = 5 + 9 * build.severity
    canvas.box(frame, (far, 0), (5.0, min(pad_h, width)), TIN, radius=1.2, height=_fillet(far, 3.0, 4.0, end))
    canvas.box(part, (mid, 0), (seen, width), design.body, radius=0.5, height=lambda x, y, d: 4 + rise * (far - x) * end / seen)
    tip = near + end * 1.2
    canvas.box(part, (tip, 0), (2.4, width), TIN, radius=0.5, height=4 + rise)


def _lead_positions(design: Design) -> list[tuple[float, int]]:
    """(position along the body, side) of every lead in view; side +1 is below."""
    if design.package == "sot23":
        return [(-6.5, 1), (6.5, 1), (0.0, -1)]
    pitch = 10.5
    return [(k * pitch, 1) for k in (-2, -1, 0, 1, 2)]


def draw_leaded(canvas: Canvas, frame: Frame, design: Design, build: Build) -> None:
    """SOT-23 (whole) and one side of an SOIC (the body runs out of the field)."""
    length, width = design.size
    sot = design.package == "sot23"
    body_edge = width / 2 if sot else 2.0
    lead_len, lead_w = (6.5, 4.0) if sot else (10.5, 4.4)
    leads = _lead_positions(design)
    pad_w, pad_len = lead_w + 1.6, lead_len * 0.62 + 2 * design.pads
    foot = body_edge + lead_len
    for x, side in leads:
        canvas.box(frame, (x, side * (foot - pad_len / 2 + design.pads)), (pad_w, pad_len), TIN, radius=0.9, height=0.5)
    part = _place(frame, build)
    for joint, (x, side) in enumerate(leads):
        centre, size = (x, side * (foot - pad_len / 2 + design.pads)), (pad_w, pad_len)
        if build.defect == "missing":
            canvas.box(frame, centre, size, TIN, radius=1.3, height=_dome(1.3 * build.volume(joint), 2.4))
            continue
        _draw_lead(canvas, frame, part, design, build, joint, (x, side, body_edge, lead_len, lead_w))
    if build.defect == "bridge":
        _draw_bridge(canvas, frame, design, build, foot)
    if build.defect == "missing":
        return
    tall = 7.0
    if sot:
        canvas.box(part, (0, 0), (length, width), design.body, radius=0.6, height=_edge(tall, 1.6))
    else:
        canvas.box(part, (0, body_edge - 28), (140, 56), design.body, radius=0.6, height=_edge(tall, 2.0))
        canvas.capsule(part, (-14, -6), (-14, -6), 2.2, EPOXY, height=tall - 1.0)
    rows = [(design.marking, -0.5 if sot else -13.0), (build.lot, 5.0 if sot else -5.0)]
    for text, y in rows[: 1 if sot else 2]:
        write(
            canvas,
            part.moved(4 if not sot else 0, y if not sot else 0),
            text,
            cap_height=4.6 if sot else 5.6,
            stroke=0.8,
            material=LASER,
            height=0.0,
            add=True,
            alpha=build.marking_alpha,
        )


def _draw_lead(
    canvas: Canvas,
    frame: Frame,
    part: Frame,
    design: Design,
    build: Build,
    joint: int,
    lead: tuple[float, int, float, float, float],
) -> None:
    x, side, body_edge, lead_len, lead_w = lead
    hit = joint == build.which % len(_lead_positions(design))
    lifted = build.defect == "lifted_lead" and hit
    volume = build.volume(joint)
    if build.defect == "insufficient_solder" and hit:
        volume = 0.36 - 0.32 * build.severity
    foot = body_edge + lead_len
    flat = lead_len * 0.55
    if not lifted:
        reach = (design.pads + 1.2) * min(1.1, 0.2 + 0.8 * volume)
        top = 1.2 + 2.6 * volume
        start = side * foot + build.offset[1]

        def fillet(px: Array, py: Array, d: Array) -> Array:
            u = np.clip((py - start) * side / reach, 0, 1)
            v = np.clip((np.abs(px - x - build.offset[0]) - lead_w / 2) / 1.2, 0, 1)
            return np.asarray(0.5 + top * (1 - u) ** 1.7 * (1 - v) ** 1.5)

        canvas.box(
            frame,
            (x + 0.5 * build.offset[0], start + side * (reach - flat) / 2),
            (lead_w + 1.5 * min(volume, 1.1), reach + flat),
            TIN,
            radius=1.1,
            height=fillet,
        )
    # The gull wing: shoulder at the body, knee, foot on the pad. A lifted foot floats, bent, and casts a shadow.
    lift = 2.0 + 2.6 * build.severity if lifted else 0.0
    bend = (build.texture[3] - 0.5) * 5.0 * build.severity if lifted else 0.0
    short = lead_len - (0.8 + 2.0 * build.severity if lifted else 0.0)

    def wing(px: Array, py: Array, d: Array) -> Array:
        u = np.clip((py * side - body_edge) / lead_len, 0, 1)
        knee = 1 / (1 + np.exp((u - 0.30) * 16))
        return np.asarray(1.3 + 3.6 * knee + lift * u - 0.5 * np.clip(1 + d / 0.9, 0, 1))

    lead_frame = part.moved(x, side * body_edge, -side * bend * 4)
    if lifted:
        dark = Material((0.42, 0.42, 0.44), metal=0.75)
        canvas.box(frame, (x + bend * 0.3, side * (foot - 1.0)), (lead_w + 2.2, 5.5), dark, radius=1.0, height=0.45)

    def local(px: Array, py: Array, d: Array) -> Array:
        return wing(px, py + side * body_edge, d)

    canvas.box(lead_frame, (0, side * (short / 2 - 1)), (lead_w, short + 2), TIN, radius=0.7, height=local)


def _draw_bridge(canvas: Canvas, frame: Frame, design: Design, build: Build, foot: float) -> None:
    """Solder joins two neighbouring leads."""
    below = [x for x, side in _lead_positions(design) if side == 1]
    # The outermost SOIC leads are cut by the image border: bridge the inner ones.
    pairs = list(zip(below, below[1:], strict=False))
    a, b = pairs[build.which % len(pairs)] if design.package == "sot23" else pairs[1 + build.which % 2]
    y = foot + (build.texture[4] - 0.45) * 3.0
    thick = 1.3 + 1.7 * build.severity
    sag = (build.texture[5] - 0.5) * 4.0
    mid = ((a + b) / 2, y + sag)
    for start, end in (((a, y), mid), (mid, (b, y))):
        canvas.capsule(frame, start, end, thick, TIN, height=lambda px, py, d: 0.4 + 2.6 * np.clip(-d / thick, 0, 1) ** 0.5)


def _clear_spot(canvas: Canvas, texture: tuple[float, ...]) -> tuple[float, float]:
    """A place that is not solder: a solder ball on a solder joint is no finding anybody could see."""
    for k in range(0, 18, 2):
        x, y = 10 + 44 * texture[6 + k], 10 + 44 * texture[7 + k]
        col, row = int(np.searchsorted(canvas.x, x)), int(np.searchsorted(canvas.y, y))
        reach = int(5 * canvas.scale)
        if canvas.metal[row - reach : row + reach + 1, col - reach : col + reach + 1].max() < 0.3:
            return x, y
    return 12.0, 12.0


def draw_foreign_object(canvas: Canvas, build: Build) -> None:
    """A fibre, a solder ball or a splash of flux that nobody ordered."""
    t = build.texture
    world = Frame(0.0, 0.0, 0.0)
    x, y = _clear_spot(canvas, t)
    bright = canvas.albedo[np.searchsorted(canvas.y, y), np.searchsorted(canvas.x, x)].mean() > 0.25
    kind = int(t[18] * 3)
    if kind == 0:
        shade = Material((0.09, 0.08, 0.07) if bright else ((0.66, 0.56, 0.42), (0.80, 0.80, 0.78))[int(t[19] * 2)])
        angle, length = t[20] * 2 * np.pi, 5.0 + 4.0 * build.severity
        points = [(x, y)]
        for k in range(4):
            angle += (t[21 + k] - 0.5) * 1.6
            points.append((points[-1][0] + length * np.cos(angle), points[-1][1] + length * np.sin(angle)))
        top = float(canvas.height.max()) * 0.4
        for a, b in zip(points, points[1:], strict=False):
            canvas.capsule(world, a, b, 0.75 + 0.5 * build.severity, shade, height=top, alpha=0.95)
    elif kind == 1:
        radius = 2.0 + 1.6 * build.severity
        for k in range(1 + int(t[19] * 2)):
            at = (x + 8 * k * (t[20] - 0.5), y + 8 * k * (t[21] - 0.5))
            canvas.capsule(world, at, at, radius, TIN, height=_dome(radius * 1.2, radius))
    else:
        flux = CHARRED if bright else FLUX
        for k in range(3):
            at = (x + 3 * (t[19 + k] - 0.5), y + 3 * (t[22 + k % 2] - 0.5))
            canvas.capsule(world, at, at, 2.8 + 2.2 * build.severity, flux, height=0.8, add=True, alpha=0.9)


PACKAGES = ("resistor", "capacitor", "tantalum", "diode", "sot23", "soic")
_TWO_PIN = frozenset({"resistor", "capacitor", "tantalum", "diode"})
DEFECT_PACKAGES: dict[str, tuple[str, ...]] = {
    "missing": ("resistor", "capacitor", "tantalum", "diode", "sot23"),
    "shift": PACKAGES,
    "bridge": ("sot23", "soic"),
    "insufficient_solder": PACKAGES,
    "tombstone": ("resistor", "capacitor"),
    "lifted_lead": ("sot23", "soic"),
    "foreign_object": PACKAGES,
    "wrong_polarity": ("tantalum", "diode"),
}
"""Which packages a defect can happen to."""


def draw_part(canvas: Canvas, frame: Frame, design: Design, build: Build) -> None:
    """Paint the component as built, defect included."""
    draw = draw_two_pin if design.package in _TWO_PIN else draw_leaded
    draw(canvas, frame, design, build)
    if build.defect == "foreign_object":
        draw_foreign_object(canvas, build)
