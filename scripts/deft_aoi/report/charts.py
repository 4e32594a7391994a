"""The report's charts. Each returns a :class:`Chart`: the drawing and the table of the numbers behind it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from markupsafe import Markup

from deft_aoi.report import number_format as fmt
from deft_aoi.report.svg import Canvas, logit_scale, root_scale, scale

Floats = npt.NDArray[np.float64]
BINS = 36
MAX_X_LABELS = 11
RATE_TICKS = (0.0001, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)


@dataclass(frozen=True)
class Chart:
    """A drawing and its table.

    Attributes:
        svg: the inline SVG.
        title: its name.
        caption: how to read it, in a sentence.
        legend: ``(css class, words)`` of each mark.
        columns: headings of the table.
        rows: its cells, as text.
    """

    svg: Markup
    title: str
    caption: str
    legend: tuple[tuple[str, str], ...]
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class KpiPoint:
    """One model on the KPI chart: its label, FAR with interval, recall, and whether it is the one handed over."""

    label: str
    far: float
    low: float
    high: float
    recall: float
    verdict: str
    best: bool
    promoted: bool


def _rate_axis(canvas: Canvas, top: float, name: str) -> None:
    place = root_scale(top, canvas.y0, canvas.y1)
    ticks, last = [(canvas.y0, "0%")], canvas.y0
    for value in RATE_TICKS:
        y = place(value)
        if value <= top * 1.0001 and last - y >= 18:
            ticks.append((y, fmt.percent(value)))
            last = y
    canvas.y_axis(ticks, name)


def _thinned(total: int) -> set[int]:
    step = math.ceil(total / MAX_X_LABELS)
    return {*range(0, total, step)}


def kpi_history(points: Sequence[KpiPoint], target_far: float, target_text: str) -> Chart:
    """False-alarm rate of each iteration with its interval, against the target."""
    worst = max((p.high for p in points), default=target_far)
    top = max(worst, target_far * 1.6, 1e-3)
    best = next((p for p in points if p.best), None)
    story = f"The target is {target_text}. " + " ".join(f"{fmt.iteration(p.label)}: {fmt.percent(p.far)}." for p in points)
    canvas = Canvas("False-alarm rate by iteration", story, "kpi", height=300)
    _rate_axis(canvas, top, "false-alarm rate (root scale)")
    y = root_scale(top, canvas.y0, canvas.y1)
    x = scale(-0.5, max(len(points) - 0.5, 0.5), canvas.x0, canvas.x1)
    shown = _thinned(len(points))
    canvas.x_axis(
        [(x(i), "base" if p.label == "baseline" else p.label[4:]) for i, p in enumerate(points) if i in shown], "iteration"
    )
    canvas.rect(canvas.x0, y(target_far), canvas.x1 - canvas.x0, canvas.y0 - y(target_far), "zone")
    canvas.line(canvas.x0, y(target_far), canvas.x1, y(target_far), "target")
    canvas.text(canvas.x0 + 5, y(target_far) - 6, f"target {fmt.percent(target_far)}", "targettext", "start")
    canvas.path([(x(i), y(p.far)) for i, p in enumerate(points)], "trend")
    for i, p in enumerate(points):
        canvas.line(x(i), y(p.low), x(i), y(p.high), "whisker")
        for end in (p.low, p.high):
            canvas.line(x(i) - 5, y(end), x(i) + 5, y(end), "whisker")
        mark = "dot best" if p.best else "dot" if p.promoted else "dot refused"
        canvas.add("circle", cx=x(i), cy=y(p.far), r=6 if p.best else 5, class_=mark)
    if best is not None:
        i = points.index(best)
        right = x(i) > canvas.x1 - 90
        beside = y(best.far) + (18 if y(best.far) < canvas.y1 + 22 else -9)  # below the dot where there is no room above
        canvas.text(x(i) + (-11 if right else 11), beside, fmt.percent(best.far), "value", "end" if right else "start")
    return Chart(
        canvas.markup(),
        canvas.title,
        "Share of good parts that are flagged, at the target recall. The bar through each dot is the range in which the true "
        "rate lies (one-sided 95% bounds). Below the dashed line the target is met.",
        (("dot best", "handed over"), ("dot", "other iteration"), ("dot refused", "refused"), ("target", "target")),
        ("iteration", "FAR", "one-sided 95% bounds", "recall", "verdict"),
        tuple(
            (
                fmt.iteration(p.label),
                fmt.percent(p.far),
                fmt.interval((p.low, p.high)),
                fmt.percent(p.recall),
                p.verdict,
            )
            for p in points
        ),
    )


def score_histogram(good: Floats, bad: Floats, threshold: float, *, name: str, key: str) -> Chart:
    """Scores of good parts (up) and defects (down) around the threshold.

    Args:
        good: (G,) scores of PASS rows, higher = more defective.
        bad: (D,) scores of defects.
        threshold: the operating point.
        name: which model.
        key: id of the chart.
    """
    both = np.concatenate([good, bad])
    probability = bool(len(both)) and float(both.min()) >= 0 and float(both.max()) <= 1
    canvas = Canvas(
        f"Scores of {name}",
        f"{len(good)} good parts and {len(bad)} defects. Threshold {fmt.score(threshold)}: "
        f"{int((good > threshold).sum())} good parts lie above it, {int((bad <= threshold).sum())} defects at or below it.",
        key,
        height=290,
    )
    if probability:
        edges_x = np.linspace(canvas.x0, canvas.x1, BINS + 1)
        place = logit_scale(canvas.x0, canvas.x1)
        marks = [(v, f"{v:g}") for v in (0.0001, 0.01, 0.5, 0.99, 0.9999)]
        inner = (edges_x[1:-1] - canvas.x0) / (canvas.x1 - canvas.x0) * 2 * math.log((1 - 1e-5) / 1e-5) - math.log(
            (1 - 1e-5) / 1e-5
        )
        edges = np.concatenate([[-np.inf], 1 / (1 + np.exp(-inner)), [np.inf]])
    else:
        low, high = (float(both.min()), float(both.max())) if len(both) else (0.0, 1.0)
        high = high if high > low else low + 1
        place = scale(low, high, canvas.x0, canvas.x1)
        edges = np.linspace(low, high, BINS + 1)
        edges_x = np.array([place(float(e)) for e in edges])
        marks = [(low + t * (high - low), fmt.score(low + t * (high - low))) for t in (0, 0.25, 0.5, 0.75, 1)]
        edges[0], edges[-1] = -np.inf, np.inf
    up, down = np.histogram(good, edges)[0], np.histogram(bad, edges)[0]
    peak = int(max(up.max(initial=0), down.max(initial=0), 1))
    middle = (canvas.y0 + canvas.y1) / 2
    rise = root_scale(float(peak), 0.0, middle - canvas.y1 - 20)  # the words above and below need their lines
    ticks = []
    for value in (peak, max(round(peak / 4), 1)):
        for sign in (-1, 1):
            ticks.append((middle + sign * rise(value), f"{value:,}"))
    canvas.y_axis([(middle, "0"), *dict(ticks).items()], "parts (root scale)")
    canvas.x_axis([(place(v), text) for v, text in marks], "score" + (" (log-odds scale)" if probability else ""))
    for i in range(BINS):
        width = float(edges_x[i + 1] - edges_x[i]) - 1
        if up[i]:
            canvas.rect(float(edges_x[i]), middle - rise(int(up[i])), width, rise(int(up[i])), "good", f"{up[i]} good parts")
        if down[i]:
            canvas.rect(float(edges_x[i]), middle, width, rise(int(down[i])), "bad", f"{down[i]} defects")
    canvas.line(canvas.x0, middle, canvas.x1, middle, "axisline")
    at = place(threshold)
    canvas.line(at, canvas.y1, at, canvas.y0, "threshold")
    side = at > canvas.x1 - 120
    canvas.text(
        at + (-5 if side else 5),
        canvas.y1 + 9,
        f"threshold {fmt.score(threshold)}",
        "value",
        "end" if side else "start",
    )
    near = at < canvas.x0 + 110  # the threshold's own words are there
    canvas.text(canvas.x1 - 4 if near else canvas.x0 + 5, canvas.y1 + 9, "good parts ↑", "note", "end" if near else "start")
    canvas.text(canvas.x0 + 5, canvas.y0 - 6, "defects ↓", "note", "start")
    rows = [
        (
            f"{format(edges[i], '.6g') if i else 'lowest'} to {format(edges[i + 1], '.6g') if i < BINS - 1 else 'highest'}",
            str(up[i]),
            str(down[i]),
        )
        for i in range(BINS)
        if up[i] or down[i]
    ]
    return Chart(
        canvas.markup(),
        canvas.title,
        "Right of the threshold a part is called defective: blue bars there are false alarms, orange bars left of it are misses.",
        (("good", "good parts"), ("bad", "defects"), ("threshold", "threshold")),
        ("score", "good parts", "defects"),
        tuple(rows),
    )


def far_against_recall(
    curves: Sequence[tuple[str, Sequence[tuple[float, float]]]],
    target_far: float,
    target_recall: float,
    table: Sequence[tuple[str, ...]],
    columns: tuple[str, ...],
) -> Chart:
    """False alarms that each recall costs.

    Args:
        curves: ``(name, [(recall, far), …])``, the last one drawn strongest.
        target_far: target FAR, fraction.
        target_recall: target recall, fraction.
        table: the rows behind it.
        columns: their headings.
    """
    left = min(0.9, target_recall - 0.05)
    canvas = Canvas(
        "False alarms against recall",
        "The lower the curve, the fewer good parts are flagged to catch as many defects.",
        "far",
        height=290,
    )
    inside = [far for _n, curve in curves for recall, far in curve if recall >= left]
    top = max([*inside, target_far * 1.6, 1e-3])
    _rate_axis(canvas, top, "false-alarm rate (root scale)")
    y, x = root_scale(top, canvas.y0, canvas.y1), scale(left, 1.0, canvas.x0, canvas.x1 - 8)
    canvas.x_axis(
        [(x(left + t * (1 - left)), fmt.percent(round(left + t * (1 - left), 4))) for t in (0, 0.25, 0.5, 0.75, 1)],
        "recall (share of defects caught)",
    )
    canvas.line(canvas.x0, y(target_far), canvas.x1, y(target_far), "target")
    canvas.text(
        canvas.x0 + 5,
        y(target_far) - 6,
        f"target {fmt.percent(target_far)} at {fmt.percent(target_recall)}",
        "targettext",
        "start",
    )
    for number, (_name, curve) in enumerate(curves):
        steps: list[tuple[float, float]] = []
        for recall, far in curve:
            if recall < left:
                continue
            if steps:
                steps.append((steps[-1][0], y(far)))  # between two recalls the dearer point is needed
            steps.append((x(recall), y(far)))
        canvas.path(steps, "curve strong" if number == len(curves) - 1 else "curve")
        if steps:
            canvas.add(
                "circle", cx=steps[-1][0], cy=steps[-1][1], r=5, class_="dot best" if number == len(curves) - 1 else "dot refused"
            )
    strongest = curves[-1][0] if curves else ""
    legend = [("curve strong", strongest), ("target", "target")]
    if len(curves) > 1:
        legend.insert(1, ("curve", curves[0][0]))
    return Chart(
        canvas.markup(),
        canvas.title,
        "To catch more defects (further right) the threshold must fall, and more good parts are flagged.",
        tuple(legend),
        columns,
        tuple(table),
    )


@dataclass(frozen=True)
class Bar:
    """One bar of a stacked chart: its label, the value of each series, and what is written at its end."""

    label: str
    values: tuple[float, ...]
    note: str


def stacked(
    bars: Sequence[Bar],
    series: Sequence[tuple[str, str]],
    *,
    title: str,
    caption: str,
    key: str,
    columns: tuple[str, ...],
    rows: Sequence[tuple[str, ...]],
) -> Chart:
    """Horizontal stacked bars, one for each iteration.

    Args:
        bars: from top to bottom.
        series: ``(css class, name)`` for each value.
        title: the chart's name.
        caption: how to read it.
        key: id of the chart.
        columns: headings of the table.
        rows: its cells.
    """
    step = 30 if len(bars) <= 10 else 20
    canvas = Canvas(
        title,
        "; ".join(f"{b.label}: {b.note}" for b in bars),
        key,
        height=24 + step * len(bars),
        left=78,
        right=98,
        top=8,
        bottom=12,
    )
    top = max((sum(b.values) for b in bars), default=0) or 1
    x = scale(0, top, canvas.x0, canvas.x1)
    for i, bar in enumerate(bars):
        y, at = canvas.y1 + i * step, 0.0
        canvas.text(canvas.x0 - 8, y + step / 2 + 4, bar.label, anchor="end")
        for (class_, name), value in zip(series, bar.values, strict=True):
            if value > 0:
                canvas.rect(x(at), y + 3, x(at + value) - x(at), step - 8.0, class_, name)
            at += value
        canvas.text(x(at) + 6, y + step / 2 + 4, bar.note, "tick", "start")
    canvas.line(canvas.x0, canvas.y1, canvas.x0, canvas.y0 + 4, "axisline")
    return Chart(canvas.markup(), title, caption, tuple(series), columns, tuple(rows))
