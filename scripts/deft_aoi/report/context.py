"""Everything that the template shows, gathered from disk: charts, tables, pictures, words. Nothing here decides a number."""

from __future__ import annotations

from typing import Any

from deft_aoi.report import advice, breakdown, charts, findings, hard_rows, samples, sections, shifts, trend, verdict
from deft_aoi.report import number_format as fmt
from deft_aoi.report.pictures import Album
from deft_aoi.report.run_view import Iteration, RunView, optional_json


def build(view: RunView) -> dict[str, Any]:
    """The template's variables.

    Args:
        view: the run.
    """
    handed = optional_json(view, view.run.best_model, "best_model")
    holdout = optional_json(view, view.run.holdout / "holdout.json", "holdout")
    if handed is not None and handed["holdout"] is None:
        holdout = None  # of another model or threshold than the one handed over
    album = Album((view.run.workspace.root, view.run.root))
    held, refused = findings.read(view.run)
    shown_of, gallery = samples.gallery(view, album)
    reasons, rejected = sections.rejections(view)
    time_chart, stages = sections.timeline(view)
    best = view.best
    return {
        "w": fmt,
        "run_id": view.run.root.name,
        "clock": fmt.moment(view.clock),
        "target": fmt.cell(view.config.get("kpi_target", "")),
        "verdict": verdict.judge(view, holdout),
        "findings": held,
        "findings_refused": refused,
        "history": _history(view),
        "iterations": sections.iterations(view),
        "primary_metric": sections.primary_metric(view),
        "distributions": _distributions(view),
        "far_recall": _far_recall(view),
        "line": sections.on_the_line(best.kpi) if best is not None and best.kpi is not None else [],
        "confusions": [sections.confusion(it) for it in _pair(view)],
        "kpi": best.kpi if best else None,
        "labels": advice.labels(view, best) if best is not None and best.kpi is not None else "",
        "lacking": advice.lacking(best.kpi) if best is not None and best.kpi is not None else "",
        "slices": breakdown.slices(best.kpi if best else None),
        "best": best,
        "gallery_of": fmt.iteration(shown_of.label) if shown_of else "",
        "gallery": gallery,
        "deciding": samples.deciding(view, album),
        "reference": samples.reference(view),
        "ledger": samples.ledger(view, album),
        "shifts": shifts.shifts(view, album),
        "hard": hard_rows.hard_rows(view, album),
        "growth": sections.growth(view),
        "balance": sections.balance(view),
        "reject_reasons": reasons,
        "rejected": rejected,
        "data_warnings": [fmt.cell(f["text"], 240) for f in view.plan.get("findings", []) if f.get("level") != "ok"],
        "holdout": holdout,
        "holdout_set": view.run.workspace.holdout_csv.is_file(),
        "paired": optional_json(view, view.run.holdout / "holdout_comparison.json", "comparison"),
        "handed": handed,
        "weeks": _weeks(handed),
        "time_chart": time_chart,
        "stages": stages,
        "tokens": sections.tokens(view),
        "configuration": sections.configuration(view),
        "identities": sections.identities(view, handed),
        "requests": sections.recommendations(view),
        "problems": view.problems,
    }


def _weeks(handed: dict[str, Any] | None) -> dict[str, Any] | None:
    """What became of the champion, where the run continued from one."""
    if handed is None or not handed.get("champion"):
        return None
    said = trend.sentence(handed["champion"])
    return {"said": said[0].upper() + said[1:] + ".", "columns": trend.COLUMNS, "rows": trend.rows(handed["history"])}


def _pair(view: RunView) -> list[Iteration]:
    """The baseline and the best, or the one of them that there is."""
    out = [it for it in (view.baseline, view.best) if it is not None]
    return out[:1] if len(out) == 2 and out[0] is out[1] else out


def _history(view: RunView) -> charts.Chart | None:
    points = [
        charts.KpiPoint(
            it.label,
            p["far_fraction"],
            p["far_interval"][0],
            p["far_interval"][1],
            p["recall_fraction"],
            it.verdict,
            it is view.best,
            bool(it.view.get("promoted", True)),
        )
        for it in view.measured
        if it.kpi and (p := it.kpi["target_point"])
    ]
    target = next((it.kpi["target"] for it in view.measured if it.kpi and it.kpi["target"]), None)
    if not points or target is None:
        return None
    return charts.kpi_history(points, target["far_fraction"], fmt.cell(target["text"]))


def _distributions(view: RunView) -> list[charts.Chart]:
    out = []
    for number, it in enumerate(_pair(view)):
        scores = view.scores(it)
        if scores is not None and it.kpi is not None:
            name = "the baseline" if it.label == "baseline" else fmt.iteration(it.label)
            threshold = it.kpi["target_point"]["threshold"]
            out.append(charts.score_histogram(*scores, threshold, name=name, key=f"scores{number}"))
    return out


def _far_recall(view: RunView) -> charts.Chart | None:
    pair = _pair(view)
    curves = [(fmt.iteration(it.label), sweep) for it in pair if (sweep := view.sweep(it))]
    if not curves or view.best is None or view.best.kpi is None or view.best.kpi["target"] is None:
        return None
    target = view.best.kpi["target"]
    rows = []
    for i, point in enumerate(view.best.kpi["operating_points"]):
        before = pair[0].kpi["operating_points"] if len(pair) == 2 and pair[0].kpi else []
        rows.append(
            (
                fmt.percent(point["recall_target_fraction"]),
                *((fmt.percent(before[i]["far_fraction"]),) if i < len(before) else ()),
                fmt.percent(point["far_fraction"]),
                fmt.interval(point["far_interval"]),
                fmt.score(point["threshold"]),
            )
        )
    names = [f"FAR, {n}" for n, _c in curves] if len(pair) == 2 else ["FAR"]
    return charts.far_against_recall(
        curves,
        target["far_fraction"],
        target["recall_fraction"],
        rows,
        ("recall at least", *names, "one-sided 95% bounds", "threshold"),
    )
