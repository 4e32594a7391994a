"""A scored set, checked: every row has a finite score and a label, both classes are there, no sample contradicts itself."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from deft_aoi.analysis.coding import Codes, Rows, factorize, groups_of, name_codes, rows_named_as
from deft_aoi.analysis.constants import MAX_LISTED
from deft_aoi.analysis.operating_point import Floats, Sweep
from deft_aoi.contract.errors import HardStop
from deft_aoi.contract.table_reader import file_line
from deft_aoi.contract.text import PASS, folded_label, normalize_label, printable, quoted

if TYPE_CHECKING:
    import pandas as pd

Bools = npt.NDArray[np.bool_]

NAME_COLUMNS = ("input_path", "golden_path", "object_name")


@dataclass(frozen=True)
class ScoredSet:
    """A checked set of N scored rows.

    Attributes:
        frame: the rows as read.
        scores: (N,) float64, higher = more defective.
        defect: (N,) bool.
        label_codes: (N,) index into ``label_names``.
        label_names: canonical labels, the good one first.
        content: (N,) code of the row's content; rows of one code are one observation. ``None`` when it is unknown.
        featureless: (N,) rows whose images are all flat; exempt from the conflict rule.
        columns: names of the label and the score column.
        lines: (N,) positions of these rows in ``source``, the whole set, where they are not all of it.
    """

    frame: pd.DataFrame
    scores: Floats
    defect: Bools
    label_codes: Codes
    label_names: tuple[str, ...]
    content: Codes | None = None
    featureless: Bools | None = None
    columns: tuple[str, str] = ("label", "siamese_score")
    lines: Rows | None = None
    source: ScoredSet | None = field(default=None, repr=False, compare=False)
    _groups: dict[str, tuple[Codes, list[str]] | None] = field(default_factory=dict, repr=False, compare=False)

    def groups(self, column: str) -> tuple[Codes, list[str]] | None:
        """:func:`groups_of` a column of the rows, computed once."""
        if column not in self._groups:
            self._groups[column] = groups_of(self.frame, column)
        return self._groups[column]

    @cached_property
    def defects_ascending(self) -> Rows:
        """Positions of the defect rows, lowest score first; equal scores in the order of the rows."""
        defects = np.flatnonzero(self.defect)
        scores = self.scores[defects]
        order = np.argsort(scores)  # several times as fast as a stable sort; equal scores are put in order below
        same = np.diff(scores[order]) == 0
        ties = np.flatnonzero(np.r_[False, same] | np.r_[same, False])
        tied = order[ties]
        order[ties] = tied[np.lexsort((tied, scores[tied]))]
        return defects[order]

    def __len__(self) -> int:
        return len(self.scores)

    def sweep(self) -> Sweep:
        """Both classes' scores, sorted."""
        good = self.scores[~self.defect]
        good.sort()
        return Sweep(good, self.scores[self.defects_ascending])

    def label_counts(self) -> dict[str, int]:
        """Rows of each label, the good one first."""
        counts = np.bincount(self.label_codes[self.defects_ascending], minlength=len(self.label_names))
        counts[0] = len(self) - counts.sum()
        return dict(zip(self.label_names, counts.tolist(), strict=True))

    def distinct(self, rows: Bools | Rows) -> int:
        """Distinct contents among rows (a mask or positions); the number of rows when contents are unknown."""
        if self.content is None:
            return int(rows.sum()) if rows.dtype == np.bool_ else len(rows)
        return len(np.unique(self.content[rows]))

    def distinct_contents(self) -> ScoredSet:
        """One row for each distinct content: the unit of every rate and interval.

        A content stands at its highest score as a good part and at its lowest as a defect: it counts as a false alarm when
        any copy is one, and as missed when any copy is. Rows whose images are all flat identify nothing and count in
        neither numerator nor denominator, unless a class has no others.
        """
        keep = np.ones(len(self), dtype=bool)
        if self.featureless is not None:
            for side in (self.defect, ~self.defect):
                if not self.featureless[side].all():
                    keep &= ~(side & self.featureless)
        rows = np.flatnonzero(keep)
        if self.content is not None:
            key = np.where(self.defect[rows], self.scores[rows], -self.scores[rows])
            order = np.lexsort((rows, key, self.label_codes[rows], self.content[rows]))
            code, label = self.content[rows][order], self.label_codes[rows][order]
            first = np.r_[True, (np.diff(code) != 0) | (np.diff(label) != 0)]
            rows = np.sort(rows[order[first]])
        if len(rows) == len(self):
            return self
        return ScoredSet(
            self.frame.iloc[rows],
            self.scores[rows],
            self.defect[rows],
            self.label_codes[rows],
            self.label_names,
            None if self.content is None else self.content[rows],
            None if self.featureless is None else self.featureless[rows],
            self.columns,
            rows,
            self,
        )

    def in_order_of_content(self) -> tuple[ScoredSet, Rows]:
        """:meth:`distinct_contents`, and an order in which those of two models on the same rows correspond."""
        parts = self.distinct_contents()
        if parts.content is None:
            return parts, np.arange(len(parts))
        return parts, np.lexsort((parts.label_codes, parts.content))

    def describe(self, row: int) -> dict[str, Any]:
        """Row ``row`` as a report names it."""
        if self.source is not None and self.lines is not None:
            return self.source.describe(int(self.lines[row]))
        return {
            "line": file_line(self.frame, row),
            "sample_id": sample_id(self.frame, row),
            "label": self.label_names[self.label_codes[row]],
            "score": float(self.scores[row]),
        }

    def list_rows(self, rows: Rows, limit: int = MAX_LISTED) -> list[dict[str, Any]]:
        """The first ``limit`` rows, described."""
        return [self.describe(int(r)) for r in rows[:limit]]


def sample_id(frame: pd.DataFrame, row: int) -> str:
    """How a row is named everywhere: ``input_path/object_name``, or its line when it has no such columns."""
    if "input_path" in frame.columns and "object_name" in frame.columns:
        return f"{frame['input_path'].iat[row]}/{frame['object_name'].iat[row]}"
    return f"line {file_line(frame, row)}"


def sample_ids(frame: pd.DataFrame) -> list[str]:
    """:func:`sample_id` of every row."""
    return [f"{p}/{o}" for p, o in zip(frame["input_path"], frame["object_name"], strict=True)]


def check_scored(
    frame: pd.DataFrame,
    *,
    label_column: str = "label",
    score_column: str = "siamese_score",
    pass_label: str = PASS,
    content_ids: Any = None,
    featureless: Any = None,
    both_classes: bool = True,
) -> ScoredSet:
    """Check a scored frame.

    Args:
        frame: N rows with a label and a score column; the scores may be text.
        label_column: name of the label column.
        score_column: name of the score column.
        pass_label: the good label, compared exactly, as TAO compares it.
        content_ids: (N,) identities by content, or ``None``.
        featureless: (N,) booleans that go with them.
        both_classes: also refuse a set that lacks PASS or defect rows.

    Raises:
        HardStop: naming the line (the first data row is line 2): a missing column, no rows, a score that is no finite
            number, an empty label, a ``pass``, a missing class, one sample with two labels.
    """
    for column in (label_column, score_column):
        if column not in frame.columns:
            raise HardStop(
                f"the scored set lacks the column {quoted(column)}",
                expected=f"{label_column}, {score_column}",
                found=quoted(", ".join(map(str, frame.columns)), 200),
                hint="give --label-column or --score-column, or score the set again",
            )
    if frame.empty:
        raise HardStop("the scored set has no rows", expected="at least one PASS and one defect row", hint="score the set again")
    scores = _scores(frame, score_column)
    codes, names = _labels(frame, label_column, pass_label)
    defect = codes != 0
    if both_classes:
        for missing, what in ((defect.all(), f"{pass_label} rows"), (not defect.any(), "defect rows")):
            if missing:
                raise HardStop(
                    f"the scored set has no {what}",
                    expected="both classes: FAR needs good parts and recall needs defects",
                    found=", ".join(f"{n}: {int((codes == i).sum())}" for i, n in enumerate(names))[:200],
                    hint="add such rows to the KPI set",
                )
    flat = None if featureless is None else np.asarray(featureless, dtype=bool)
    content = None if content_ids is None else factorize(content_ids)[0]
    for array, what in ((content, "content_ids"), (flat, "featureless")):
        if array is not None and len(array) != len(frame):
            raise ValueError(f"{what} must be (N,) with N = {len(frame)}, got {len(array)}")
    scored = ScoredSet(frame, scores, defect, codes, names, content, flat, (label_column, score_column))
    _refuse_conflicts(scored)
    return scored


def _scores(frame: pd.DataFrame, column: str) -> Floats:
    import pandas as pd

    cells = frame[column]
    values: Floats = pd.to_numeric(cells, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    wrong = np.flatnonzero(~np.isfinite(values))
    if len(wrong):
        raise HardStop(
            f"line {file_line(frame, int(wrong[0]))}: the score is not a finite number",
            expected=f"a number in the column {column}",
            found=f"{quoted(cells.iloc[int(wrong[0])])}; {len(wrong)} such row(s)",
            hint="score the set again: NaN means that training diverged or an image could not be read",
        )
    return values


def _labels(frame: pd.DataFrame, column: str, pass_label: str) -> tuple[Codes, tuple[str, ...]]:
    cells = frame[column]
    others = np.flatnonzero((cells != pass_label).to_numpy(dtype=bool, na_value=True))  # a missing label is none, not PASS
    raw, uniques = factorize(cells.iloc[others])
    spelled = []
    for i, value in enumerate(uniques):
        text = value if isinstance(value, str) else ""
        spelled.append(_defect_name(text, pass_label, column, lambda i=i: file_line(frame, int(others[(raw == i).argmax()]))))
    names = (pass_label, *sorted(set(spelled)))
    codes = np.zeros(len(frame), dtype=np.int32)
    codes[others] = np.array([names.index(name) for name in spelled], dtype=np.int32)[raw]
    return codes, names


def _defect_name(text: str, pass_label: str, column: str, line: Any) -> str:
    if folded_label(text) == folded_label(pass_label):
        raise HardStop(
            f"line {line()}: the label {quoted(text)} is not {pass_label}",
            expected=f"{pass_label}, exactly: TAO compares it case-sensitively and takes anything else for a defect",
            found=quoted(text),
            hint=f"write {pass_label} in the {column} column",
        )
    try:
        return normalize_label(text)
    except HardStop as error:
        raise HardStop(f"line {line()}: {error.message}", expected=error.expected, found=error.found, hint=error.hint) from error


def _refuse_conflicts(s: ScoredSet) -> None:
    if s.content is not None:
        _refuse_conflict(s, s.content, "content")
    elif all(c in s.frame.columns for c in NAME_COLUMNS):
        # Of two rows with two labels at least one is a defect: only names that a defect has can be in conflict.
        rows = rows_named_as(s.frame, s.defect)
        codes = name_codes(s.frame, rows) if len(rows) else None
        if codes is not None:
            _refuse_conflict(s, codes, "name", rows)


def _refuse_conflict(s: ScoredSet, codes: Codes, what: str, rows: Rows | None = None) -> None:
    rows = np.arange(len(codes)) if rows is None else rows
    first = np.empty(int(codes.max()) + 1, dtype=np.int64)
    first[codes[::-1]] = rows[::-1]
    other = s.label_codes[first[codes]] != s.label_codes[rows]
    if s.featureless is not None and what == "content":
        other &= ~s.featureless[rows]
    found = rows[other]
    if len(found):
        a, b = int(first[codes[other][0]]), int(found[0])
        labels = [printable(s.label_names[s.label_codes[r]]) for r in (a, b)]
        raise HardStop(
            f"lines {file_line(s.frame, a)} and {file_line(s.frame, b)} are one sample by {what} and have two labels",
            expected="one label for one sample",
            found=f"{quoted(sample_id(s.frame, a), 120)} is {labels[0]}, {quoted(sample_id(s.frame, b), 120)} is "
            f"{labels[1]}; {len(found)} such row(s)",
            hint="look at the image, keep one label, remove the other row; check_data.py --write-fixed proposes a clean file",
        )


def weakness(scored: ScoredSet, threshold: float) -> Floats:
    """(N,) float64 signed weakness; positive = on the wrong side of the threshold."""
    return np.where(scored.defect, threshold - scored.scores, scored.scores - threshold)
