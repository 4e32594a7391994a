"""What the data check reports, and the cleaned CSVs that it can propose."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deft_aoi.contract.changenet_csv import csv_text
from deft_aoi.contract.errors import HardStop, UsageError
from deft_aoi.contract.files import atomic_write_text
from deft_aoi.contract.schema import write_checked
from deft_aoi.contract.table_reader import file_line
from deft_aoi.contract.text import printable, quoted

if TYPE_CHECKING:
    import pandas as pd

ERROR, WARNING, NOTE = "error", "warning", "note"
_ORDER = {ERROR: 0, WARNING: 1, NOTE: 2}
MAX_LINES = 12
MAX_PLACES = 200


@dataclass(frozen=True)
class Finding:
    """One thing to know about a workspace.

    Attributes:
        level: ``error`` (a run would stop), ``warning`` (it would run, and this matters) or ``note``.
        rule: short name, the same for every finding of a kind.
        where: the file, with the line where there is one.
        message: what is wrong; untrusted text in it has passed through ``quoted``.
        fix: what to do.
        places: all lines that are concerned, at most 200.
        remove: positions (from 0) of rows whose removal settles it.
        edits: (position, column, new cell) that settle it.
        pictures: (caption, image files) that show it, for a page.
    """

    level: str
    rule: str
    where: str
    message: str
    fix: str
    places: tuple[int, ...] = ()
    remove: tuple[int, ...] = ()
    edits: tuple[tuple[int, str, str], ...] = ()
    pictures: tuple[tuple[str, tuple[str, ...]], ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """The finding as the JSON report has it."""
        fixable = "rows" if self.remove else "cells" if self.edits else "no"
        return {
            "fix": printable(self.fix, 400),
            "level": self.level,
            "lines": list(self.places[:MAX_PLACES]),
            "message": printable(self.message, 600),
            "rule": self.rule,
            "where": printable(self.where, 200),
            "write_fixed": fixable,
        }

    def line(self) -> str:
        """The finding as one line."""
        return printable(f"{self.level}: {self.where}: {self.message}; fix: {self.fix}", 390)


def from_stop(error: HardStop, rule: str, where: str, *, level: str = ERROR) -> Finding:
    """A finding of a stop that another room raised."""
    detail = "; ".join(x for x in (error.message, f"found {error.found}" if error.found else "") if x)
    return Finding(
        level, rule, where, detail, error.hint or (f"expected {error.expected}" if error.expected else "see the message")
    )


def lines_of(rows: Iterable[int], frame: pd.DataFrame) -> tuple[int, ...]:
    """Line numbers in the file of row positions."""
    return tuple(file_line(frame, r) for r in rows)


@dataclass(frozen=True)
class CheckReport:
    """The findings, errors first, and the frames that they are about (by workspace-relative CSV path)."""

    workspace: str
    findings: tuple[Finding, ...]
    frames: dict[str, pd.DataFrame]

    @classmethod
    def of(cls, workspace: str, findings: Sequence[Finding], frames: dict[str, pd.DataFrame]) -> CheckReport:
        """Sort and wrap."""
        return cls(workspace, tuple(sorted(findings, key=lambda f: _ORDER[f.level])), frames)

    @property
    def counts(self) -> dict[str, int]:
        """Findings by level."""
        found = Counter(f.level for f in self.findings)
        return {level: found[level] for level in _ORDER}

    def as_dict(self) -> dict[str, Any]:
        """The report of schema ``data_check``."""
        return {"counts": self.counts, "findings": [f.as_dict() for f in self.findings], "workspace": self.workspace}

    def text(self) -> str:
        """At most 14 lines for a person."""
        c = self.counts
        verdict = "the loop would stop on this data" if c[ERROR] else "the loop can run on this data"
        head = f"{c[ERROR]} errors, {c[WARNING]} warnings, {c[NOTE]} notes: {verdict}"
        shown = [f.line() for f in self.findings[:MAX_LINES]]
        more = len(self.findings) - len(shown)
        return "\n".join([head, *shown, *([f"… and {more} more (--json shows all)"] if more else [])])


def write_fixed(report: CheckReport, folder: Path) -> list[str]:
    """Propose cleaned CSVs: a copy of each CSV that a finding can clean, without the rows that break a rule.

    The workspace itself is not touched.

    Args:
        report: what was found.
        folder: where to write; must not exist, or be empty.

    Returns:
        One line for each file written.

    Raises:
        UsageError: ``folder`` has content.
    """
    folder = folder.expanduser().absolute()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"the folder {quoted(folder, 200)} is not empty", hint="choose another folder for --write-fixed")
    lines, changes = [], []
    for rel, frame in report.frames.items():
        own = [f for f in report.findings if f.where.split(",")[0] == rel and (f.remove or f.edits)]
        if not own:
            continue
        fixed = frame.copy()
        gone: dict[int, str] = {}
        for finding in own:
            for row, column, value in finding.edits:
                old, fixed.loc[row, column] = fixed.loc[row, column], value
                changes.append(f"{rel}, line {file_line(frame, row)}: {finding.rule}: {column} {quoted(old)} -> {quoted(value)}")
            gone.update({row: finding.rule for row in finding.remove if row not in gone})
        changes += [f"{rel}, line {file_line(frame, row)}: {rule}: row removed" for row, rule in sorted(gone.items())]
        fixed = fixed.drop(index=list(gone))
        if fixed.empty:
            lines.append(f"{rel}: no row would be left; not written")
            continue
        target = folder / rel
        target.parent.mkdir(parents=True, exist_ok=True)
        atomic_write_text(target, csv_text(fixed))
        lines.append(f"{target}: {len(fixed)} rows, {len(gone)} removed")
    folder.mkdir(parents=True, exist_ok=True)
    atomic_write_text(folder / "changes.txt", "".join(line + "\n" for line in changes))
    write_checked(folder / "data_check.json", report.as_dict(), "data_check")
    return lines
