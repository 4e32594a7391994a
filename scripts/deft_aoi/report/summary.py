"""``iterN_summary.md``: an iteration in at most 300 words, from the files that the page is made of, with room for a note."""

from __future__ import annotations

import re
from pathlib import Path

from deft_aoi.analysis.verdict import sentence as the_sentence
from deft_aoi.contract.errors import UsageError
from deft_aoi.contract.files import atomic_write_text
from deft_aoi.contract.text import printable
from deft_aoi.record import log
from deft_aoi.report import number_format as fmt
from deft_aoi.report.run_view import Iteration, RunView, read_run
from deft_aoi.report.verdict import sentence

MAX_WORDS = 300
MAX_NOTE = 380
MAX_WARNINGS = 3
NO_NOTE = "(none yet; add one with render_report.py --iteration N --note TEXT)"


def file_of(results_dir: str | Path, label: str) -> Path:
    """Where the summary of ``iterN`` lies."""
    return Path(results_dir) / f"{label}_summary.md"


def write(results_dir: str | Path, label: str) -> Path:
    """Write the summary of an iteration.

    Args:
        results_dir: the run's folder.
        label: ``iterN``.

    Raises:
        UsageError: no such iteration, or the baseline, which has no summary of its own.
        HardStop: the record is missing or damaged.
    """
    view = read_run(results_dir)
    it = next((i for i in view.iterations if i.label == label), None)
    if it is None or not re.fullmatch(r"iter[1-9][0-9]*", label):
        raise UsageError(
            "there is no such iteration", expected=", ".join(i.label for i in view.iterations[1:]) or "iter1", found=label
        )
    path = file_of(view.run.root, label)
    atomic_write_text(path, "\n".join(_lines(view, it)) + "\n")
    return path


def refresh(results_dir: str | Path, label: str) -> None:
    """After the hand-over: the verdict's paragraph of a summary that is there says what the hold-out said; the rest stays."""
    path, view = file_of(results_dir, label), read_run(results_dir)
    it = next(i for i in view.iterations if i.label == label)
    old, new = path.read_text(encoding="utf-8").split("\n"), _lines(view, it)
    if old[:2] == new[:2] and old[2:3] != new[2:3]:
        atomic_write_text(path, "\n".join([*old[:2], new[2], *old[3:]]))


def add_note(results_dir: str | Path, label: str, note: str) -> None:
    """Put somebody's sentence on an iteration on record; summary and report show it as data, the newest one only.

    Raises:
        UsageError: an empty note.
    """
    text = printable(note, MAX_NOTE)
    if not text:
        raise UsageError("the note is empty", expected="a sentence")
    log.append(results_dir, iter_label=label, stage="note", status="ok", summary=text)


def _lines(view: RunView, it: Iteration) -> list[str]:
    state = it.view
    lines = [f"# {fmt.iteration(it.label).capitalize()} of {view.run.root.name}", ""]
    before = _before(view, it)
    if it.kpi is not None:
        moved = ""
        if before is not None and before.kpi is not None:
            old = before.kpi["target_point"]["far_fraction"]
            earlier = "the baseline" if before.label == "baseline" else fmt.iteration(before.label)
            moved = f" The false-alarm rate was {fmt.percent(old)} after {earlier}."
        handed = view.view["run"] if view.view["run"].get("best_iteration") == it.label else {}
        whole = handed.get("verdict_sentence") or the_sentence(it.kpi, None, None if it.metric is None else it.metric["met"])
        lines.append(f"**{it.verdict}**{fmt.cell(whole, 600).removeprefix(it.verdict)}. {sentence(it.kpi)}{moved}")
        if it.metric is not None:
            lines += ["", f"Decided by the primary metric: {fmt.cell(state['primary_metric'], 300)}."]
        if not state.get("promoted", True) and it.comparison is not None:
            lines += ["", f"Not handed over: {fmt.cell(it.comparison['reason'], 200)}."]
    else:
        lines.append("This iteration was not evaluated.")
    lines += ["", f"- Aimed at {fmt.count(state.get('targets'))} weak parts."]
    if state.get("mined_rows") is not None:
        rejected = it.evidence("data_mining").get("rejected", 0)
        lines.append(
            f"- Mined {state['mined_rows']:,} rows: {state.get('mined_real', 0):,} real "
            f"({state.get('mined_real_defects', 0):,} of them defects), {state.get('mined_sdg', 0):,} synthetic; "
            f"{rejected:,} candidates refused."
        )
    warnings = it.evidence("data_mining").get("warnings") or []
    lines += [f"- Warning: {fmt.cell(warning, 200)}." for warning in warnings[:MAX_WARNINGS]]
    if state.get("train_rows") is not None:
        lines.append(f"- Trained on {state['train_rows']:,} rows, {state.get('train_added', 0):,} of them new.")
    lines += _ledger(view, it.label)
    if it.kpi is not None:
        missed = [f"{fmt.kind(d['label'])} {d['missed']}" for d in it.kpi["per_defect"] if d["missed"]][:6]
        lines.append(f"- Missed defects: {', '.join(missed) or 'none'} on the KPI set.")
        for one in it.kpi["setting_samples"][:1]:
            name, score = fmt.quoted(one["sample_id"], 90), fmt.score(one["score"])
            lines.append(f"- The threshold is set by {fmt.kind(one['label'])} {name} (score {score}).")
    if state.get("rca_dir"):
        lines.append(f"- Still weak: {fmt.count(state.get('weak_samples'))} parts, see `{fmt.cell(state['rca_dir'], 100)}`.")
    note = fmt.cell(view.notes().get(it.label, ""), MAX_NOTE).split()
    room = MAX_WORDS - len(" ".join(lines).split()) - 2
    said = " ".join(note if len(note) <= room else [*note[:room], "…"])
    lines += ["", f"Note: {fmt.quoted(said, MAX_NOTE + 2) if said else NO_NOTE}"]
    return lines


def _before(view: RunView, it: Iteration) -> Iteration | None:
    """The newest promoted iteration before ``it``."""
    earlier = view.iterations[: view.iterations.index(it)]
    return next((i for i in reversed(earlier) if i.measured and i.view.get("promoted", True)), None)


def _ledger(view: RunView, label: str) -> list[str]:
    table = view.table("run/gap_ledger.parquet", ("iteration", "outcome", "mined_rows"))
    rows = [r for r in (table.to_pylist() if table is not None else []) if f"iter{r['iteration']}" == label]
    if not rows:
        return []
    closed = sum(r["outcome"] == "closed" for r in rows)
    improved = sum(r["outcome"] == "improved" for r in rows)
    helped = sum(r["mined_rows"] > 0 for r in rows)
    return [f"- Of {len(rows):,} weak parts {closed:,} are closed, {improved:,} improved; {helped:,} had mined rows."]
