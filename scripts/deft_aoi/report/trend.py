"""Week by week: what each run of a chain handed over, champion and model on the same KPI rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from deft_aoi.contract.errors import UsageError
from deft_aoi.contract.paths import RunPaths
from deft_aoi.contract.schema import read_checked
from deft_aoi.contract.text import quoted
from deft_aoi.report import number_format as fmt

COLUMNS = ("run", "handed over", "KPI rows", "champion's FAR", "FAR", "one-sided 95% bounds", "champion's recall", "recall")


def rows(history: list[dict[str, Any]]) -> list[tuple[str, ...]]:
    """One row a run, oldest first, as :data:`COLUMNS`; ``*`` marks KPI rows that are not those of the run before."""
    out: list[tuple[str, ...]] = []
    before = None
    for week in history:
        old = week["champion"]
        other = "" if before in (None, week["kpi_content"]) else " *"
        before = week["kpi_content"]
        out.append(
            (
                fmt.cell(week["run"], 60),
                week["outcome"],
                f"{fmt.count(week['kpi_rows'])}{other}",
                fmt.percent(old["far_fraction"]) if old else "",
                fmt.percent(week["far_fraction"]),
                fmt.interval(week["far_interval"]),
                fmt.percent(old["recall_fraction"]) if old else "",
                fmt.percent(week["recall_fraction"]),
            )
        )
    return out


def sentence(champion: dict[str, Any]) -> str:
    """What became of the champion, with every challenger that was refused and its new escapes by name."""
    name = f"{fmt.iteration(champion['iteration'])} of {fmt.cell(champion['run'], 60)}"
    said = f"the champion ({name}) " + ("stays" if champion["stays"] else "is replaced")
    for it in champion["refused"]:
        escapes = ", ".join(fmt.quoted(e, 60) for e in it["new_escapes"][:3])
        said += f"; {fmt.iteration(it['iteration'])} {fmt.cell(it['reason'], 160)}" + (f" ({escapes})" if escapes else "")
    return said


def read_history(given: str) -> list[dict[str, Any]]:
    """The chain that a hand-over is the last of.

    Args:
        given: a run's folder, or ``best_model.json``.

    Raises:
        UsageError: no hand-over there, or one of a version that kept no history.
    """
    path = Path(given).expanduser().resolve()
    path = RunPaths(path).best_model if path.is_dir() else path
    body = read_checked(path, "best_model") if path.is_file() else {}
    if "history" not in body:
        raise UsageError(
            f"{quoted(given, 200)} has no history", expected="a run that handed over a model, or its best_model.json"
        )
    history: list[dict[str, Any]] = body["history"]
    return history


def text(history: list[dict[str, Any]]) -> str:
    """The last twelve runs as a table of lines."""
    table = [COLUMNS, *rows(history)[-12:]]
    widths = [max(len(row[i]) for row in table) for i in range(len(COLUMNS))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table]
    return "\n".join([*lines, "FAR and recall of a line are on the same KPI rows; * other rows than the run before"])
