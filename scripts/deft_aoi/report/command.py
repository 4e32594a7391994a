"""``render_report.py``: the note, the summary, the page, and then the findings' own verdict."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from deft_aoi.contract.errors import UsageError
from deft_aoi.contract.paths import RunPaths
from deft_aoi.contract.text import printable
from deft_aoi.report import findings, summary
from deft_aoi.report.render import render_report


def render(
    results_dir: str, *, iteration: int | None = None, note: str | None = None, review: bool = False
) -> tuple[str, dict[str, Any]]:
    """Write what was asked for.

    Args:
        results_dir: the run's folder.
        iteration: also write this iteration's summary, from 1.
        note: a sentence on that iteration.
        review: also write the page on which weak samples and doubtful labels are judged.

    Returns:
        ``(text, data)``.

    Raises:
        UsageError: not a run, no such iteration, or a note without one.
        HardStop: the record is damaged, or findings do not hold (the page is written without them first).
    """
    run = RunPaths(Path(results_dir).expanduser().resolve())
    if not run.log.is_file():
        raise UsageError(f"{printable(run.root.name)} is not a run", expected="a folder with loop_log.jsonl", found=str(run.root))
    if note is not None and iteration is None:
        raise UsageError("a note belongs to an iteration", expected="--iteration N with --note", found="--note alone")
    lines: list[str] = []
    data: dict[str, Any] = {}
    if iteration is not None:
        label = f"iter{iteration}"
        summary.write(run.root, label)  # refuses an iteration that is not there before anything is recorded
        if note is not None:
            summary.add_note(run.root, label, note)
        data["summary"] = str(summary.write(run.root, label))
        lines.append(f"summary: {data['summary']}")
    data["report"] = str(render_report(run.root))
    lines.append(f"report:  {data['report']}")
    if review:
        from deft_aoi.report.review_of_run import write_review

        data["review"] = write_review(run.root)
        lines.append(f"review:  {data['review']['path']} ({data['review']['parts']:,} to judge)")
    findings.require(run)
    return "\n".join(lines), data
