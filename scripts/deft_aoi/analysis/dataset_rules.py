"""What must hold of a training set, rule by rule; each finding names its rows and the remedy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from deft_aoi.analysis.coding import name_codes
from deft_aoi.analysis.identity import Part
from deft_aoi.analysis.leakage import find_leaks, near_duplicates, near_stop
from deft_aoi.analysis.scored import sample_id
from deft_aoi.contract.errors import HardStop
from deft_aoi.contract.table_reader import file_line
from deft_aoi.contract.text import PASS, normalize_label, quoted

if TYPE_CHECKING:
    import pandas as pd

KEY = ["input_path", "golden_path", "object_name"]


@dataclass(frozen=True)
class Finding:
    """One broken rule.

    Attributes:
        rule: short name: ``label``, ``classes``, ``row_twice``, ``content_twice``, ``conflict``, ``leakage``, ``shrunk``,
            ``provenance``.
        message: what was wrong, naming the first rows.
        expected: what the rule asks for. found: what was there. hint: the remedy.
        rows: positions (from 0) of the rows to remove for the rule to hold; empty when removal is no remedy.
    """

    rule: str
    message: str
    expected: str
    found: str
    hint: str
    rows: tuple[int, ...] = ()


def raise_first(found: Sequence[Finding]) -> None:
    """Turn the first finding into a :class:`HardStop`; none, nothing."""
    if found:
        f = found[0]
        more = f"; {len(found) - 1} further rule(s) broken" if len(found) > 1 else ""
        raise HardStop(f.message, expected=f.expected, found=f.found + more, hint=f.hint)


def findings(
    part: Part,
    *,
    provenance: pd.DataFrame | None = None,
    previous: Part | None = None,
    against: Sequence[Part] = (),
    allow_near: bool = False,
) -> list[Finding]:
    """Check every rule; cheap ones first. ``allow_near``: near-duplicates of ``against`` are the user's decision."""
    checks = [
        _labels(part),
        _classes(part),
        _row_twice(part),
        _conflict(part),
        _content_twice(part, provenance),
        _shrunk(part, previous),
        _provenance(part, provenance),
        *(_leakage(part, other) for other in against),
        *(_near(part, other) for other in against if not allow_near),
    ]
    return [f for f in checks if f is not None]


def _named(part: Part, row: int) -> str:
    return f"line {file_line(part.frame, row)} ({quoted(sample_id(part.frame, row), 120)})"


def _canonical(label: str) -> bool:
    try:
        return normalize_label(label) == label
    except HardStop:
        return False


def _labels(part: Part) -> Finding | None:
    labels = part.frame["label"]
    wrong = {v for v in labels.unique() if not _canonical(v)}
    rows = np.flatnonzero(labels.isin(list(wrong)))
    if not len(rows):
        return None
    return Finding(
        "label",
        f"{part.name}, {_named(part, int(rows[0]))}: the label is not in its canonical spelling",
        "PASS verbatim, every other label lower-case and stripped",
        f"{quoted(labels.iloc[int(rows[0])])}; {len(rows)} such row(s)",
        "correct the label column",
        tuple(map(int, rows)),
    )


def _classes(part: Part) -> Finding | None:
    good = int((part.frame["label"] == PASS).sum())
    if 0 < good < len(part.frame):
        return None
    return Finding(
        "classes",
        f"the {part.name} has {'only' if good else 'no'} PASS rows",
        "PASS rows and defect rows: TAO's sampler divides by the number of each",
        f"{good} PASS, {len(part.frame) - good} defects",
        "add rows of the missing class",
    )


def _twice(codes: Any) -> Any:
    """Positions of rows whose code stood before, and the position where it stood first."""
    first = np.empty(int(codes.max()) + 1, dtype=np.int64)
    rows = np.arange(len(codes))
    first[codes[::-1]] = rows[::-1]
    again = np.flatnonzero(first[codes] != rows)
    return again, first[codes[again]]


def _row_twice(part: Part) -> Finding | None:
    codes = name_codes(part.frame)
    if codes is None:
        return None
    again, first = _twice(codes)
    if not len(again):
        return None
    return Finding(
        "row_twice",
        f"{part.name}: {_named(part, int(again[0]))} is line {file_line(part.frame, int(first[0]))} again",
        "each row once",
        f"{len(again)} repeated row(s)",
        "remove the repeated rows",
        tuple(map(int, again)),
    )


def _solid_copies(part: Part) -> tuple[Any, Any]:
    """Rows that are copies by content of an earlier row, and that row; featureless ones left out."""
    import pandas as pd

    solid = np.flatnonzero(~part.ids["featureless"].to_numpy(dtype=bool))
    if not len(solid):
        return solid, solid
    codes = pd.factorize(part.ids["content_id"].to_numpy()[solid])[0]
    again, first = _twice(codes)
    return solid[again], solid[first]


def _conflict(part: Part) -> Finding | None:
    again, first = _solid_copies(part)
    labels = part.frame["label"].to_numpy()
    wrong = labels[again] != labels[first]
    again, first = again[wrong], first[wrong]
    if not len(again):
        return None
    a, b = int(first[0]), int(again[0])
    return Finding(
        "conflict",
        f"{part.name}: {_named(part, a)} and {_named(part, b)} have the same pixels and two labels",
        "one label for one content",
        f"{quoted(labels[a])} and {quoted(labels[b])}; {len(again)} such row(s)",
        "look at the images, keep one label and remove the other row",
        tuple(sorted({*map(int, again), *map(int, first)})),
    )


def _content_twice(part: Part, provenance: pd.DataFrame | None) -> Finding | None:
    """A mined row whose content is already there. Copies inside the user's base set are counted, not refused."""
    if provenance is None or len(provenance) != len(part.frame):
        return None
    again, first = _solid_copies(part)
    mined = (provenance["source"] != "base_train").to_numpy(dtype=bool)
    hit = mined[again] | mined[first]
    again, first = again[hit], first[hit]
    if not len(again):
        return None
    return Finding(
        "content_twice",
        f"{part.name}: {_named(part, int(again[0]))} has the pixels of {_named(part, int(first[0]))}",
        "each content once among mined rows",
        f"{len(again)} such row(s)",
        "mining rejects what training has: mine this iteration again",
        tuple(map(int, again)),
    )


def _shrunk(part: Part, previous: Part | None) -> Finding | None:
    if previous is None:
        return None
    columns = [*KEY, "label"]
    n = len(previous.frame)
    head = part.frame[columns].head(n)
    if len(head) == n and (head.to_numpy() == previous.frame[columns].to_numpy()).all():
        return None  # the usual case: appended
    have = set(part.frame[columns].itertuples(index=False, name=None))
    lost = [i for i, row in enumerate(previous.frame[columns].itertuples(index=False, name=None)) if row not in have]
    if not lost:
        return None
    return Finding(
        "shrunk",
        f"{part.name}: row {_named(previous, lost[0])} of the previous set is gone or has another label",
        f"all {n} rows of the previous iteration",
        f"{len(lost)} missing",
        "training sets only grow: assemble this iteration again",
    )


def _provenance(part: Part, provenance: pd.DataFrame | None) -> Finding | None:
    if provenance is None:
        return None
    columns = [*KEY, "label"]
    same = len(provenance) == len(part.frame) and (
        (provenance[columns].to_numpy() == part.frame[columns].to_numpy()).all()
        and provenance["source"].isin(["base_train", "previous_iter_train", "mining_pool"]).all()
        and provenance["provenance"].isin(["real", "sdg"]).all()
        and provenance["iteration"].astype(str).str.fullmatch(r"\d+").all()
    )
    if same:
        return None
    return Finding(
        "provenance",
        f"the provenance of the {part.name} does not go with its rows",
        f"{len(part.frame)} rows, the same samples in order, each with source, provenance and iteration",
        f"{len(provenance)} rows",
        "assemble this iteration again",
    )


def _leakage(part: Part, other: Part) -> Finding | None:
    leaks = find_leaks(part, other)
    if leaks.empty:
        return None
    first = leaks.iloc[0]
    return Finding(
        "leakage",
        f"leakage: line {first.line_a} of the {part.name} has the pixels of line {first.line_b} of the {other.name}",
        f"no sample of the {part.name} in the {other.name}, whatever it is called",
        f"{quoted(first.sample_a, 120)} and {quoted(first.sample_b, 120)}; {len(leaks)} such row(s)",
        f"remove these rows from the {part.name}; check_data.py --write-fixed proposes a clean file",
        tuple(map(int, leaks["row_a"])),
    )


def _near(part: Part, other: Part) -> Finding | None:
    near = near_duplicates(part, other)
    if near.empty:
        return None
    stop = near_stop(part.name, other.name, near)
    return Finding("near_leakage", stop.message, stop.expected, stop.found, stop.hint, tuple(map(int, near["row_a"])))
