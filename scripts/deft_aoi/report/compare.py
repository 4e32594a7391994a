"""Two runs, or two iterations, side by side: KPI with intervals, per-defect recall, new escapes, data, cost."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deft_aoi.analysis import compare as paired
from deft_aoi.analysis.identity import identities_of
from deft_aoi.analysis.score_table import read_scores
from deft_aoi.contract.errors import DeftError, HardStop, UsageError
from deft_aoi.contract.spec import load_spec
from deft_aoi.contract.splits import load_split
from deft_aoi.contract.text import printable, quoted, shown_label
from deft_aoi.report import number_format as fmt
from deft_aoi.report.run_view import Iteration, RunView, optional_json, read_run


@dataclass(frozen=True)
class Side:
    """One of the two: its run and the iteration that speaks for it."""

    view: RunView
    it: Iteration

    @property
    def name(self) -> str:
        """``run_20260101_120000 iteration 2``."""
        return f"{printable(self.view.run.root.name, 60)} {fmt.iteration(self.it.label)}"


def side(text: str) -> Side:
    """``RESULTS_DIR`` (its best iteration) or ``RESULTS_DIR:iter2``.

    Raises:
        UsageError: no such run, or no such evaluated iteration.
    """
    match = re.fullmatch(r"(.+):(baseline|iter[1-9][0-9]*)", text)
    root, label = (match.group(1), match.group(2)) if match else (text, None)
    if not (Path(root).expanduser() / "loop_log.jsonl").is_file():
        raise UsageError(f"{printable(root, 200)} is not a run", expected="RESULTS_DIR or RESULTS_DIR:iterN")
    view = read_run(root)
    found = view.best if label is None else next((i for i in view.measured if i.label == label), None)
    if found is None:
        known = ", ".join(i.label for i in view.measured)
        raise UsageError(f"{printable(text, 200)} was not evaluated", expected=known or "a run with an evaluated baseline")
    return Side(view, found)


def compare(first: str, second: str) -> dict[str, Any]:
    """Compare two models.

    Args:
        first: see :func:`side`.
        second: the same.

    Returns:
        ``a`` and ``b`` (figures of each), ``per_defect`` and ``paired`` (schema ``comparison``, over distinct contents;
        ``None`` when the two were not scored on the same rows), and ``why`` where it is not so.

    Raises:
        UsageError: see :func:`side`.
    """
    a, b = side(first), side(second)
    result, why = _paired(a, b)
    labels = sorted({d["label"] for s in (a, b) for d in _kpi(s)["per_defect"]})
    return {
        "schema_version": 1,
        "a": _figures(a),
        "b": _figures(b),
        "per_defect": [{"label": n, "a": _recall(a, n), "b": _recall(b, n)} for n in labels],
        "paired": result,
        "why": why,
    }


def _kpi(s: Side) -> dict[str, Any]:
    assert s.it.kpi is not None  # only evaluated iterations become a side
    return s.it.kpi


def _recall(s: Side, label: str) -> float | None:
    return next((d["recall_fraction"] for d in _kpi(s)["per_defect"] if d["label"] == label), None)


def _figures(s: Side) -> dict[str, Any]:
    p, usage = _kpi(s)["target_point"], optional_json(s.view, s.view.run.run / "usage.json", "usage")
    total = (usage or {}).get("total")
    return {
        "name": s.name,
        "verdict": s.it.verdict,
        "primary_metric": s.it.view.get("primary_metric"),
        "target": printable(s.view.config.get("kpi_target", ""), 80),
        "far_fraction": p["far_fraction"],
        "far_interval": p["far_interval"],
        "recall_fraction": p["recall_fraction"],
        "recall_interval": p["recall_interval"],
        "threshold": p["threshold"],
        "auroc": _kpi(s)["auroc"],
        "train_rows": s.it.view.get("train_rows"),
        "train_sdg": s.it.view.get("train_sdg", 0),
        "engine": str(s.view.config.get("engine")),
        "duration_sec": round(sum(e["duration_sec"] for e in _until(s)), 3),
        "tokens": None if total is None else sum(v for k, v in total.items() if k != "messages"),
    }


def _until(s: Side) -> list[dict[str, Any]]:
    """Finished stages up to this iteration's evaluation: what this model cost."""
    end = s.it.events["evaluate"]["seq"]
    return [e for e in s.view.events if e["status"] == "ok" and e["seq"] <= end and e["stage"] != "note"]


def _paired(a: Side, b: Side) -> tuple[dict[str, Any] | None, str]:
    frames = [read_scores(s.view.run.root / s.it.view["inference_csv"]) for s in (a, b)]
    thresholds = [_kpi(s)["target_point"]["threshold"] for s in (a, b)]
    known, why = _contents(a, len(frames[0]))
    try:
        result = paired.compare(frames[0], frames[1], thresholds[0], thresholds[1], **known)
    except HardStop as error:
        return None, printable(f"not paired row by row: {error.message}", 200)
    return result, why


def _contents(a: Side, rows: int) -> tuple[dict[str, Any], str]:
    """The identities by content of the KPI rows, as the verdicts count them; nothing, and why, where there are none."""
    run, why = a.view.run, "counted over rows: {}"
    if not _kpi(a)["counts"]["distinct_by_content"]:
        return {}, why.format("their contents are unknown")
    try:
        split = load_split(run.workspace, load_spec(run.workspace.baseline_spec), "kpi")
        ids = identities_of(split, run.workspace.cache_dir / "digests")
    except DeftError as error:
        return {}, printable(why.format(error.message), 200)
    if len(ids) != rows:
        return {}, why.format("the KPI set is another one now")
    return {name: ids[column].to_numpy() for name, column in (("content_ids", "content_id"), ("featureless", "featureless"))}, ""


def text(found: dict[str, Any]) -> str:
    """The comparison in at most fifteen lines."""
    a, b, pair = found["a"], found["b"], found["paired"]
    rows = [
        ("verdict", a["verdict"], b["verdict"]),
        *(
            [("metric", *(printable(s["primary_metric"] or "none", 120) for s in (a, b)))]
            if a["primary_metric"] or b["primary_metric"]
            else []
        ),
        ("FAR", *(f"{fmt.percent(s['far_fraction'])} ({fmt.interval(s['far_interval'])})" for s in (a, b))),
        (
            "recall",
            *(f"{fmt.percent(s['recall_fraction'])} ({fmt.interval(s['recall_interval'])})" for s in (a, b)),
        ),
        ("threshold", *(fmt.score(s["threshold"]) for s in (a, b))),
        ("training rows", *(f"{fmt.count(s['train_rows'])}, {s['train_sdg']} synthetic" for s in (a, b))),
        ("time so far", *(fmt.duration(s["duration_sec"]) for s in (a, b))),
    ]
    width = max(len(str(r[1])) for r in rows)
    lines = [f"A  {a['name']}", f"B  {b['name']}", *(f"{n:14} {x:<{width}}  {y}" for n, x, y in rows)]
    moved = [d for d in found["per_defect"] if d["a"] != d["b"]]
    if moved:
        shown = (f"{shown_label(d['label'], 24)} {fmt.percent(d['a'])} → {fmt.percent(d['b'])}" for d in moved[:5])
        lines.append("recall by defect: " + ", ".join(shown))
    if found["why"]:
        lines.append(found["why"])
    if pair is None:
        return "\n".join(lines)
    lines.append(
        f"defects: {pair['new_escapes']} newly missed, {pair['newly_caught']} newly caught (p {pair['mcnemar_p_defects']:.3g})"
    )
    alarms, cleared = pair["new_false_alarms"], pair["cleared_false_alarms"]
    lines.append(f"good parts: {alarms} newly flagged, {cleared} cleared (p {pair['mcnemar_p_good_parts']:.3g})")
    escapes = [quoted(e["sample_id"], 60) for e in pair["new_escapes_listed"][:3]]
    return "\n".join([*lines, *(["first new escapes: " + ", ".join(escapes)] if escapes else [])])
