"""The tables of the page: iterations, data, hold-out, time, configuration, recommendations."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from deft_aoi.contract.stages import BY_NAME
from deft_aoi.report import breakdown, charts
from deft_aoi.report import number_format as fmt
from deft_aoi.report.run_view import Iteration, RunView, as_text, first_row, optional_json

REJECTIONS = {
    "leaks": "would leak a test part",
    "already_in_training": "already in training",
    "duplicate_content": "duplicate content",
    "conflicting_labels": "conflicting labels",
    "below_min_similarity": "not similar enough",
    "label_filter": "other label",
    "featureless": "flat image",
    "zero_embedding": "no embedding",
}
PHASES = ("training", "scoring", "mining", "other")
PHASE_CLASSES = ("series1", "series2", "series3", "series4")


@dataclass(frozen=True)
class IterationRow:
    """What one iteration did."""

    name: str
    verdict: str
    far_before: str
    far_after: str
    interval: str
    recall: str
    mined: str
    similarity: str
    training: str
    duration: str
    chosen: str
    best: bool
    warnings: tuple[str, ...]
    note: str
    escapes: dict[str, Any] | None


def iterations(view: RunView) -> list[IterationRow]:
    """One row for each iteration, measured or not."""
    notes, out, before = view.notes(), [], None
    for it in view.iterations:
        point = it.kpi["target_point"] if it.kpi else None
        mined = it.evidence("data_mining")
        counts = it.view
        text = "nothing to mine" if it.label == "baseline" else "not yet"
        if counts.get("mined_rows") is not None:
            text = f"{counts.get('mined_real', 0):,} real, {counts.get('mined_sdg', 0):,} synthetic"
        cut = mined.get("similarity_threshold")
        out.append(
            IterationRow(
                fmt.iteration(it.label).capitalize(),
                it.verdict if it.kpi else "not evaluated",
                fmt.percent(before) if before is not None and point else "",
                fmt.percent(point["far_fraction"]) if point else "",
                fmt.interval(point["far_interval"]) if point else "",
                fmt.percent(point["recall_fraction"]) if point else "",
                text,
                "" if cut is None else "no cut" if cut in ("null", "none") else f"at least {fmt.cell(cut, 12)}",
                f"{counts['train_rows']:,} rows"
                if counts.get("train_rows") is not None
                else "adopted"
                if counts.get("adopted")
                else "",
                fmt.duration(sum(e["duration_sec"] for e in it.events.values())),
                {"best_val": "lowest validation loss", "latest": "last epoch"}.get(str(counts.get("chosen")), ""),
                view.best is not None and it.label == view.best.label,
                tuple(_warnings(view, it)),
                fmt.cell(notes[it.label], 400) if it.label in notes else "",
                breakdown.new_escapes(it),
            )
        )
        if point and it.view.get("promoted", True):
            before = point["far_fraction"]
    return out


def _warnings(view: RunView, it: Iteration) -> Iterator[str]:
    for warning in it.evidence("data_mining").get("warnings") or []:
        yield fmt.cell(warning, 200)
    if it.comparison is not None:
        if not it.view.get("promoted", True):
            yield fmt.cell(it.comparison["reason"], 200)
        elif it.comparison["new_escapes"]:
            yield f"{fmt.plural(it.comparison['new_escapes'], 'defect')} missed now that the model before caught"
    for event in view.events:
        if event["status"] == "error" and event["iter"] == it.label:
            yield fmt.cell(event["summary"], 240)


def on_the_line(kpi: dict[str, Any]) -> list[tuple[str, str]]:
    """The KPI in the units of an inspection line, and two figures that need no threshold."""
    units, estimate = kpi["aoi_units"], kpi["estimate"]
    out = []
    if units.get("false_calls_per_board") is not None:
        out.append(("false calls a board", fmt.score(units["false_calls_per_board"])))
    out += [
        ("false calls in a million parts", f"{units['false_calls_ppm']:,.0f}"),
        ("escapes in a million parts", f"{units['escapes_ppm']:,.0f}"),
        (
            f"operator time on false calls, at {units['seconds_per_call']:g} s each",
            fmt.duration(60 * units["operator_minutes_on_false_calls"]),
        ),
        ("area under the ROC curve", f"{kpi['auroc']:.5f}"),
    ]
    if estimate:
        kind = {"split_by_board": "boards", "split_by_content": "contents (boards unknown)"}.get(estimate["kind"], "rows")
        name = f"cross-validated by {kind}, {estimate['folds']} folds"
        out.append(
            (
                name,
                f"FAR {fmt.percent(estimate['far_fraction'])}, recall {fmt.percent(estimate['recall_fraction'])}",
            )
        )
    return out


def primary_metric(view: RunView) -> dict[str, Any] | None:
    """Columns and rows of the user's own primary metric: each criterion, and its value in each iteration."""
    shown = [it for it in view.measured if it.metric is not None]
    if not shown:
        return None
    rows = []
    for number, row in enumerate((shown[-1].metric or {})["criteria"]):
        cells = []
        for it in shown:
            mine = (it.metric or {})["criteria"][number]
            cells.append(f"{fmt.score(mine['value'])} {'holds' if mine['holds'] else 'does not hold'}")
        target = f"{row['operator']} {fmt.score(row['target'])} {fmt.cell(row['unit'], 40) if row['unit'] else ''}".strip()
        rows.append((f"{fmt.cell(row['name'], 120)} ({row['role']})", target, *cells))
    return {"columns": ("criterion", "target", *(fmt.iteration(it.label) for it in shown)), "rows": rows}


def confusion(it: Iteration) -> dict[str, Any]:
    """The four counts of a model, over distinct contents."""
    assert it.kpi is not None
    p = it.kpi["target_point"]
    return {"name": fmt.iteration(it.label), **{k: p[k] for k in ("tp", "fp", "tn", "fn")}}


def growth(view: RunView) -> charts.Chart | None:
    """Rows of the training set by iteration and provenance."""
    bars, rows = [], []
    for it in view.iterations:
        total = it.view.get("train_rows")
        if total is None:
            continue
        kinds, added = it.evidence("dataset").get("provenance") or {"real": total}, int(it.view.get("train_added") or 0)
        sdg = int(kinds.get("sdg", 0))
        new_sdg = int(it.view.get("mined_sdg") or 0) if added else 0
        old_sdg, new_real = sdg - new_sdg, added - new_sdg
        old_real = total - sdg - new_real
        name = "baseline" if it.label == "baseline" else it.label
        bars.append(charts.Bar(name, (old_real, new_real, old_sdg, new_sdg), f"{total:,} rows"))
        distinct = it.evidence("dataset").get("distinct")
        share = fmt.percent(sdg / total) if total else ""
        rows.append(
            (
                fmt.iteration(it.label),
                f"{total:,}",
                f"{new_real:,}",
                f"{new_sdg:,}",
                f"{sdg:,} ({share})",
                fmt.count(distinct),
            )
        )
    if not bars:
        return None
    series = (
        ("series1", "real, from before"),
        ("series2", "real, newly mined"),
        ("series4", "synthetic, from before"),
        ("series3", "synthetic, newly mined"),
    )
    columns = ("training set of", "rows", "new real", "new synthetic", "synthetic in all", "distinct by content")
    return charts.stacked(
        bars,
        series,
        title="Training rows by iteration",
        key="growth",
        columns=columns,
        rows=rows,
        caption="Rows are only ever added. Distinct counts copies of one picture pair once.",
    )


def balance(view: RunView) -> list[tuple[str, ...]]:
    """Training rows by label: the baseline's, and the newest set's."""
    first = (view.plan.get("dataset") or {}).get("train", {}).get("labels", {})
    newest = next(
        (it.evidence("dataset")["labels"] for it in reversed(view.iterations) if it.evidence("dataset").get("labels")), None
    )
    kpi = (view.plan.get("dataset") or {}).get("kpi", {}).get("labels", {})
    names = sorted({*first, *(newest or {}), *kpi}, key=lambda n: (n != "PASS", n))
    return [
        (
            fmt.part(n),
            fmt.count(first.get(n, 0)),
            fmt.count((newest or first).get(n, 0)),
            fmt.count(kpi.get(n, 0)),
        )
        for n in names
    ]


def rejections(view: RunView) -> tuple[list[str], list[tuple[str, ...]]]:
    """``(reasons, rows)``: what mining refused in each iteration, and why; only reasons that occurred."""
    found = []
    for it in view.iterations:
        path = view.run.stage_dir(it.label, "data_mining") / "knn_summary.csv"
        row = view.attempt(view.run.rel(path), partial(first_row, path)) if "data_mining" in it.events else None
        if row:
            found.append((it.label, row))
    used = [r for r in REJECTIONS if any(int(row.get(f"rejected_{r}") or 0) for _l, row in found)]
    rows = [
        (
            fmt.iteration(label),
            row["candidate_count"],
            row["kept_count"],
            *(row.get(f"rejected_{r}") or "0" for r in used),
        )
        for label, row in found
    ]
    return [REJECTIONS[r] for r in used], rows


def timeline(view: RunView) -> tuple[charts.Chart | None, list[tuple[str, ...]]]:
    """``(time by iteration, every stage)``."""
    usage = optional_json(view, view.run.run / "usage.json", "usage")
    tokens = (usage or {}).get("stages", {})
    stages: list[tuple[str, ...]] = []
    by_label: dict[str, dict[str, float]] = {}
    for event in view.events:
        if event["status"] == "started" or event["stage"] == "note":
            continue
        used = tokens.get(f"{event['iter']}/{event['stage']}")
        shown = f"{sum(v for k, v in used.items() if k != 'messages'):,}" if used else ""
        stages.append(
            (
                event["iter"],
                event["stage"],
                event["status"],
                fmt.duration(event["duration_sec"]),
                shown,
                fmt.moment(event["ts"]),
            )
        )
        if event["status"] == "ok":
            row = by_label.setdefault(event["iter"], dict.fromkeys(PHASES, 0.0))
            row[BY_NAME[event["stage"]].phase] += float(event["duration_sec"])
    bars = [
        charts.Bar(label, tuple(row[phase] for phase in PHASES), fmt.duration(sum(row.values())))
        for label, row in by_label.items()
        if sum(row.values()) >= 0.5
    ]
    if not bars:
        return None, stages
    rows = [(fmt.iteration(b.label), *(fmt.duration(v) if v else "" for v in b.values), b.note) for b in bars]
    chart = charts.stacked(
        bars,
        tuple(zip(PHASE_CLASSES, PHASES, strict=True)),
        title="Time by iteration",
        key="time",
        columns=("", *PHASES, "together"),
        rows=rows,
        caption="Waiting for people is left out.",
    )
    return chart, stages


def tokens(view: RunView) -> list[tuple[str, str]]:
    """The agent's use, once its transcripts were aligned."""
    usage = optional_json(view, view.run.run / "usage.json", "usage")
    if usage is None:
        return []
    total = usage["total"]
    names = {
        "input_tokens": "input tokens",
        "output_tokens": "output tokens",
        "cache_read_input_tokens": "tokens read from cache",
        "cache_creation_input_tokens": "tokens written to cache",
        "messages": "messages",
    }
    return [(words_, f"{total[key]:,}") for key, words_ in names.items()]


def configuration(view: RunView) -> list[tuple[str, str, str]]:
    """``(parameter, value, where it came from)``."""
    sources = view.plan.get("sources", {})
    out = [(fmt.cell(k, 60), fmt.cell(as_text(v), 300), fmt.cell(sources.get(k, ""), 40)) for k, v in sorted(view.config.items())]
    for name, image in sorted((view.plan.get("images") or {}).items()):
        shown = f"{(image or {}).get('reference')} ({(image or {}).get('id')})"
        out.append((f"image {fmt.cell(name, 40)}", fmt.cell(shown, 300), ""))
    return out


def identities(view: RunView, handed: dict[str, Any] | None) -> list[tuple[str, str]]:
    """Digests that tie the page to its run."""
    out = [
        ("run", view.run.root.name),
        ("plan digest", str(view.view.get("plan_digest"))),
        ("record head", f"{view.view['seq']}: {view.view['head']}"),
    ]
    if view.best is not None:
        out += [
            ("checkpoint", str(view.best.view.get("best_ckpt_path"))),
            ("checkpoint sha256", str(view.best.view.get("best_ckpt_sha256"))),
        ]
    encoder = next((it.view["encoder"] for it in reversed(view.iterations) if it.view.get("encoder")), None)
    if encoder:
        out.append(("mining encoder", str(encoder)))
    if handed is not None:
        out += [
            ("inference spec sha256", handed["inference_spec"]["sha256"]),
            ("training set sha256", handed["training_set"]["sha256"]),
        ]
    return [(k, fmt.cell(v, 200)) for k, v in out]


def recommendations(view: RunView) -> list[dict[str, Any]]:
    """What to collect, from the open gaps over the whole run."""
    found = optional_json(view, view.run.run / "data_requests.json", "open_gaps")
    out = []
    for row in (found or {"requests": []})["requests"][:12]:
        part = f" of part {fmt.quoted(row['part_type'], 60)}" if row["part_type"] else ""
        kind = (
            "good parts that look like these false alarms" if row["label"] == "PASS" else f"pictures of {fmt.kind(row['label'])}"
        )
        out.append(
            {
                "what": f"about {row['images_wanted']:,} {kind}{part}",
                "why": f"{fmt.plural(row['samples'], 'weak sample')}: {row['no_neighbour']} without a similar row in the pool, "
                f"{row['stayed_open']} still open after training",
                "examples": [fmt.cell(e["sample_id"]) for e in row["examples"]],
            }
        )
    return out
