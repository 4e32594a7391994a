"""Inline SVG: elements with escaped text, rounded coordinates, axes. No library, no script, the same bytes every time."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from markupsafe import Markup, escape

WIDTH = 480
"""Charts are drawn 480 units wide: on a phone their text shrinks to about 10 px, on a desktop two stand side by side."""


def number(value: float) -> str:
    """A coordinate with at most one decimal."""
    text = f"{value:.1f}"
    return text[:-2] if text.endswith(".0") else text


def element(name: str, body: object = None, **attributes: object) -> Markup:
    """One element; ``class_`` becomes ``class``, ``_`` in names becomes ``-``, floats are rounded, text is escaped."""
    parts = []
    for key, value in attributes.items():
        if value is not None:
            shown = number(value) if isinstance(value, float) else str(value)
            parts.append(f' {key.rstrip("_").replace("_", "-")}="{escape(shown)}"')
    inner = "" if body is None else escape(body)
    return Markup(f"<{name}{''.join(parts)}>{inner}</{name}>")  # nosec B704 - every part was escaped above


@dataclass
class Canvas:
    """One chart: its size, the plot's box in it, and what was drawn.

    Attributes:
        title: the chart's name, read aloud first.
        description: what it shows in one or two sentences, read aloud after.
        key: unique in the page; ids of title and description are made of it.
        height: in units.
        left, right, top, bottom: margins of the plot's box.
    """

    title: str
    description: str
    key: str
    height: int = 270
    left: int = 66
    right: int = 14
    top: int = 14
    bottom: int = 44
    parts: list[Markup] = field(default_factory=list)

    @property
    def x0(self) -> float:
        """Left edge of the plot."""
        return float(self.left)

    @property
    def x1(self) -> float:
        """Right edge of the plot."""
        return float(WIDTH - self.right)

    @property
    def y0(self) -> float:
        """Lower edge of the plot."""
        return float(self.height - self.bottom)

    @property
    def y1(self) -> float:
        """Upper edge of the plot."""
        return float(self.top)

    def add(self, name: str, body: object = None, **attributes: object) -> None:
        """Draw one element."""
        self.parts.append(element(name, body, **attributes))

    def line(self, x1: float, y1: float, x2: float, y2: float, class_: str) -> None:
        """Draw a line."""
        self.add("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=class_)

    def rect(self, x: float, y: float, width: float, height: float, class_: str, hint: str = "") -> None:
        """Draw a rectangle; ``hint`` is its tool tip."""
        body = element("title", hint) if hint else None
        self.add("rect", body, x=x, y=y, width=max(width, 0.0), height=max(height, 0.0), class_=class_)

    def text(self, x: float, y: float, words: str, class_: str = "tick", anchor: str = "middle") -> None:
        """Write text."""
        self.add("text", words, x=x, y=y, class_=class_, text_anchor=anchor)

    def path(self, points: Iterable[tuple[float, float]], class_: str) -> None:
        """Draw a line through points."""
        steps = [f"{'M' if i == 0 else 'L'}{number(x)} {number(y)}" for i, (x, y) in enumerate(points)]
        if steps:
            self.add("path", d="".join(steps), class_=class_)

    def y_axis(self, ticks: Sequence[tuple[float, str]], name: str) -> None:
        """Grid lines at ``(y, label)`` and the axis' name above them."""
        for y, label in ticks:
            self.line(self.x0, y, self.x1, y, "gridline")
            self.text(self.x0 - 6, y + 4, label, anchor="end")
        middle = (self.y0 + self.y1) / 2
        self.add(
            "text",
            name,
            x=12.0,
            y=middle,
            class_="axis",
            text_anchor="middle",
            transform=f"rotate(-90 12 {number(middle)})",
        )

    def x_axis(self, ticks: Sequence[tuple[float, str]], name: str) -> None:
        """Labels at ``(x, label)`` below the plot and the axis' name below them."""
        self.line(self.x0, self.y0, self.x1, self.y0, "axisline")
        for x, label in ticks:
            self.line(x, self.y0, x, self.y0 + 4, "axisline")
            self.text(x, self.y0 + 17, label)
        self.text((self.x0 + self.x1) / 2, self.height - 7, name, "axis")

    def markup(self) -> Markup:
        """The whole ``<svg>``."""
        ids = f"{self.key}-t {self.key}-d"
        head = element("title", self.title, id=f"{self.key}-t") + element("desc", self.description, id=f"{self.key}-d")
        return element(
            "svg",
            head + Markup("").join(self.parts),
            viewBox=f"0 0 {WIDTH} {self.height}",
            role="img",
            aria_labelledby=ids,
            class_="chart",
        )


def scale(low: float, high: float, start: float, end: float) -> Callable[[float], float]:
    """A linear map of ``low..high`` to ``start..end``; a range without width maps to ``start``."""
    width = high - low
    return lambda value: start if width == 0 else start + (value - low) / width * (end - start)


def root_scale(high: float, start: float, end: float) -> Callable[[float], float]:
    """A square-root map of ``0..high``: small rates keep apart and zero has a place, which a logarithm denies it."""
    top = math.sqrt(high) if high > 0 else 1.0
    return lambda value: start + math.sqrt(max(value, 0.0)) / top * (end - start)


def logit_scale(start: float, end: float, limit: float = 1e-5) -> Callable[[float], float]:
    """A log-odds map of probabilities, cut at ``limit`` and ``1 - limit``."""
    edge = math.log((1 - limit) / limit)

    def place(value: float) -> float:
        inside = min(max(value, limit), 1 - limit)
        return start + (math.log(inside / (1 - inside)) + edge) / (2 * edge) * (end - start)

    return place
