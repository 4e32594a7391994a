"""Registration on the page: how far goldens were moved, FAR and recall by shift, the largest shifts, rows for a person."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from deft_aoi.analysis.registration import LARGE_STRIP, STRIP_SPOT
from deft_aoi.contract.text import is_pass
from deft_aoi.report import number_format as fmt
from deft_aoi.report.pictures import Album
from deft_aoi.report.run_view import RunView, csv_rows, kpi_layout

SPECS = "run/specs"
PICTURES, LISTED = 10, 20
SETS = {"train": "training", "validation": "validation", "kpi": "KPI", "holdout": "hold-out"}
SLICES = ((0, "not moved"), (2, "up to 2 px"), (4, "up to 4 px"), (10**6, "more than 4 px"))
"""Largest shift of each slice, in pixels of a crop of 64; rows at the limit are a slice of their own."""

Row = dict[str, str]


@dataclass(frozen=True)
class Moved:
    """One of the largest shifts: test, golden as it came, golden as the model saw it."""

    uri: str | None
    name: str
    label: str
    shift: str


@dataclass(frozen=True)
class Shifts:
    """The section; ``None`` in its place where the run does not register.

    Attributes:
        sets: one row a set: rows, moved, median, 95 %, at the limit, mean and largest strip.
        slices: FAR and recall of the best model by shift, over distinct contents of the KPI set.
        spots: what the strip may hide, in words.
        largest: the ten KPI rows that moved most.
        doubtful: rows at the limit or with a wide strip, worst first: set, part, label, shift, strip.
        doubtful_count: all of them.
    """

    sets: tuple[tuple[str, ...], ...]
    slices: tuple[tuple[str, ...], ...]
    spots: str
    largest: tuple[Moved, ...]
    doubtful: tuple[tuple[str, ...], ...]
    doubtful_count: int


def shifts(view: RunView, album: Album) -> Shifts | None:
    """Read the tables of shifts that the run's jobs left."""
    how = view.config.get("registration")
    if not isinstance(how, dict):
        return None
    side = min(int(how["width"]), int(how["height"]))
    found = {name: rows for name in SETS if (rows := _table(view, f"registered-{name}-shifts.csv"))}
    if "kpi" not in found:
        return None
    doubtful = [
        (name, row)
        for name, rows in found.items()
        for row in _distinct(rows)
        if row["at_limit"] == "True" or float(row["strip_fraction"]) > LARGE_STRIP
    ]
    doubtful.sort(key=lambda pair: -float(pair[1]["strip_fraction"]))
    return Shifts(
        tuple(_set_row(SETS[name], _distinct(rows)) for name, rows in found.items()),
        tuple(_slices(view, found["kpi"], side)),
        _spots(_distinct(found["kpi"])),
        tuple(_largest(view, album, found["kpi"])),
        tuple((SETS[name], _name(row), fmt.part(row["label"]), *_shift(row)) for name, row in doubtful[:LISTED]),
        len(doubtful),
    )


def _table(view: RunView, name: str) -> list[Row]:
    path = view.run.root / SPECS / name
    return (view.attempt(f"{SPECS}/{name}", lambda: csv_rows(path)) or []) if path.is_file() else []


def _distinct(rows: list[Row]) -> list[Row]:
    return list({row["content_id"]: row for row in reversed(rows)}.values())[::-1]


def _size(row: Row) -> int:
    return max(abs(int(row["dy"])), abs(int(row["dx"])))


def _name(row: Row) -> str:
    return fmt.cell(f"{row['input_path']}/{row['object_name']}")


def _shift(row: Row) -> tuple[str, str]:
    limit = ", at the limit" if row["at_limit"] == "True" else ""
    return f"{int(row['dy']):+d} down, {int(row['dx']):+d} right{limit}", fmt.percent(row["strip_fraction"])


def _set_row(name: str, rows: list[Row]) -> tuple[str, ...]:
    sizes, strips = sorted(map(_size, rows)), [float(row["strip_fraction"]) for row in rows]
    return (
        name,
        fmt.count(len(rows)),
        fmt.percent(sum(size > 0 for size in sizes) / len(rows)),
        f"{sizes[len(rows) // 2]} px",
        f"{sizes[min(len(rows) - 1, int(0.95 * len(rows)))]} px",
        fmt.percent(sum(row["at_limit"] == "True" for row in rows) / len(rows)),
        fmt.percent(sum(strips) / len(rows)),
        fmt.percent(max(strips)),
    )


def _slices(view: RunView, rows: list[Row], side: int) -> list[tuple[str, ...]]:
    best = view.best
    if best is None or best.kpi is None:
        return []
    relative = str(best.view["inference_csv"])
    scored = view.attempt(relative, lambda: csv_rows(view.run.root / relative)) or []
    threshold = float(best.kpi["target_point"]["threshold"])
    if len(scored) != len(rows):
        return []
    judged: dict[str, tuple[str, bool, bool]] = {}
    for row, score in zip(rows, scored, strict=True):
        size = _size(row) * 64 / side
        name = "at the limit" if row["at_limit"] == "True" else next(words for most, words in SLICES if size <= most)
        judged.setdefault(row["content_id"], (name, is_pass(row["label"]), float(score["siamese_score"]) > threshold))
    out: list[tuple[str, ...]] = []
    for name in (*(words for _, words in SLICES), "at the limit"):
        good = [flagged for words, is_good, flagged in judged.values() if words == name and is_good]
        bad = [flagged for words, is_good, flagged in judged.values() if words == name and not is_good]
        if good or bad:
            far, recall = (fmt.percent(sum(flags) / len(flags)) if flags else "" for flags in (good, bad))
            counts = (
                fmt.count(len(good)),
                fmt.count(sum(good)),
                far,
                fmt.count(len(bad)),
                fmt.count(len(bad) - sum(bad)),
                recall,
            )
            out.append((name, *counts))
    return out


def _spots(rows: list[Row]) -> str:
    def differing(good: bool) -> str:
        mine = [int(row["strip_pixels"]) >= STRIP_SPOT for row in rows if is_pass(row["label"]) == good]
        return f"{sum(mine):,} of {fmt.plural(len(mine), 'good part' if good else 'defect')}"

    return f"{differing(False)} and {differing(True)}"


def _largest(view: RunView, album: Album, rows: list[Row]) -> list[Moved]:
    order = sorted(
        (i for i in range(len(rows)) if _size(rows[i])), key=lambda i: (-_size(rows[i]), -float(rows[i]["strip_fraction"]), i)
    )
    chosen: list[int] = []
    for at in order:
        if len(chosen) < PICTURES and rows[at]["content_id"] not in {rows[i]["content_id"] for i in chosen}:
            chosen.append(at)
    given = _table(view, "registered-kpi.csv")
    files = view.attempt("the KPI set's images", lambda: _files(view, [rows[i] for i in chosen])) or []
    out = []
    for at, pair in zip(chosen, files, strict=False):
        moved = Path(given[at]["golden_path"]) / os.path.basename(pair[1]) if at < len(given) else Path(pair[1])  # noqa: PTH119
        uri = album.row([Path(pair[0]), Path(pair[1]), moved])
        out.append(Moved(uri, _name(rows[at]), fmt.part(rows[at]["label"]), _shift(rows[at])[0]))
    return out


def _files(view: RunView, rows: list[Row]) -> list[tuple[str, str]]:
    """Test and golden of each row's first light."""
    if not rows:
        return []
    layout = kpi_layout(view)
    return [(str(layout.input_paths(row)[0]), str(layout.golden_paths(row)[0])) for row in rows]
