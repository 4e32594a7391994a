"""Advice beside the verdict: what to know before the number is used, and what to do next."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from deft_aoi.analysis.verdict import CONTRADICTED, MET, NOT_MET, Facts, verdict_of
from deft_aoi.report import number_format as fmt
from deft_aoi.report.run_view import ENDED_WELL, Event, Iteration, RunView
from deft_aoi.report.sections import recommendations


def last_error(view: RunView) -> Event | None:
    """The newest error that explains how the run stands: open, or right before its end."""
    errors = [e for e in view.events if e["status"] == "error"]
    if not errors or view.status in (*ENDED_WELL, "running", "new"):
        return None
    return errors[-1]


def cautions(view: RunView, best: Iteration, holdout: dict[str, Any] | None) -> Iterator[str]:
    """What must be known before the number is used."""
    kpi = best.kpi
    assert kpi is not None
    size, counts, estimate = kpi["sample_size"], kpi["counts"], kpi["estimate"]
    if best.metric is not None:
        yield (
            "A primary metric of the user's own selected the model and gave the verdict. The false-alarm rates and their "
            "intervals are shown beside it; how certain the metric itself is, is not known here."
        )
    if view.config.get("engine") == "embedded":
        yield "Trained with the embedded engine (engine: embedded): the numbers and the checkpoint are not NVIDIA TAO's."
    if size is not None and not size["supported"]:
        need = size["required_distinct_defect"]
        yield (
            f"The KPI set holds {size['distinct_pass']:,} distinct good parts and {size['distinct_defect']:,} distinct defects. "
            f"At 95% confidence the target needs {size['required_distinct_pass']:,} without a false alarm, and recall "
            f"{fmt.percent(size['min_recall_support_fraction'])} needs {need:,} without a miss."
        )
    yield f"Bounds: {kpi['boards']['note']}."
    if holdout is None:
        text = "There is no hold-out result: the threshold was chosen on the same parts that it is judged on."
        if estimate:
            text += (
                f" Cross-validated over {estimate['folds']} folds: false-alarm rate {fmt.percent(estimate['far_fraction'])}, "
                f"recall {fmt.percent(estimate['recall_fraction'])}."
            )
        yield text
    elif holdout["says"] != "confirms":
        says = "contradict" if holdout["says"] == "contradicts" else "do not confirm"
        yield f"The hold-out boards {says} the target at the same threshold: see Hold-out."
    if counts["featureless_rows"]:
        flat = fmt.plural(counts["featureless_rows"], "KPI row is flat", "KPI rows are flat")
        yield f"{flat}: images without content, which say little about the model."
    refused = [it.label for it in view.measured if not it.view.get("promoted", True)]
    if refused:
        yield f"Not handed over because of new escapes or no gain: {', '.join(fmt.iteration(r) for r in refused)}."


def questioned_label(kpi: dict[str, Any]) -> dict[str, Any] | None:
    """The weakest defect, where false alarms would fall without it: its label deserves a look."""
    first = next(iter(kpi["drop_n"]), None)
    if first is None or not first["samples"] or first["fp"] >= kpi["target_point"]["fp"]:
        return None
    sample: dict[str, Any] = first["samples"][0]
    return sample


def labels(view: RunView, best: Iteration) -> str:
    """What the scores say about labels, where no part scores like the other class."""
    assert best.kpi is not None
    scores, one = view.scores(best), questioned_label(best.kpi)
    if scores is not None and float(np.median(scores[0])) >= float(np.median(scores[1])):
        return "This model does not separate good parts from defects: its scores say nothing about labels."
    text = "No part scores like the other class"
    return (
        f"{text}."
        if one is None
        else f"{text}, but {fmt.quoted(one['sample_id'], 90)} decides the threshold: is its label right?"
    )


def lacking(kpi: dict[str, Any]) -> str:
    """What the KPI set lacks for the target's proof, ``240 distinct good parts and 12 distinct defects``; may be empty."""
    size = kpi["sample_size"]
    if size is None or size["supported"]:
        return ""
    short = (
        (size["required_distinct_pass"] - size["distinct_pass"], "good parts"),
        (size["required_distinct_defect"] - size["distinct_defect"], "defects"),
    )
    return " and ".join(f"{more:,} distinct {what}" for more, what in short if more > 0)


def limit(best: Iteration, holdout: dict[str, Any] | None, facts: Facts) -> tuple[str, str]:
    """What limits the result, ``(in a few words, the sentence behind it)``; never less than the verdict itself names."""
    kpi = best.kpi
    assert kpi is not None
    p, size, one = kpi["target_point"], kpi["sample_size"], questioned_label(kpi)
    if facts.holdout in ("contradicts", "not_confirmed") and holdout is not None:
        seen = holdout["point"]
        if seen["fn"]:
            return "Defects not seen before", f"{_of(seen, 'fn', 'tp', 'defect')} of the hold-out score below the threshold."
        if seen["fp"] and facts.holdout == "contradicts":
            return (
                "Good parts not seen before",
                f"{_of(seen, 'fp', 'tn', 'good part')} of the hold-out score above the threshold.",
            )
    if one is not None:
        without = kpi["drop_n"][0]["fp"]
        return (
            "One defect" if p["fp"] - without >= p["fp"] / 2 else "The weakest defects",
            f"The {fmt.kind(one['label'])} {fmt.quoted(one['sample_id'].rsplit('/', 1)[-1], 60)} scores only "
            f"{fmt.score(one['score'])} and pulls the threshold down. Without it: {fmt.plural(without, 'false alarm')} "
            f"instead of {p['fp']:,}.",
        )
    if not facts.kpi and (p["fp"] or p["fn"]):
        return "Overlap", f"{_errors(p)} on the KPI set: see the score chart."
    if best.metric is not None and not facts.kpi:
        return "The primary metric", "Its criteria are not met: see Iterations."
    if size is not None and not size["supported"]:
        return (
            "The test set",
            f"{size['distinct_pass']:,} distinct good parts and {size['distinct_defect']:,} distinct defects can support FAR "
            f"{fmt.percent(size['best_supportable_far_fraction'])} and recall "
            f"{fmt.percent(size['best_supportable_recall_fraction'])} at best.",
        )
    if not facts.cross_validated and kpi["estimate"]:
        estimate = kpi["estimate"]
        return (
            "The choice of the threshold",
            f"At thresholds that other parts chose, the false-alarm rate is {fmt.percent(estimate['far_fraction'])} at "
            f"{fmt.percent(estimate['recall_fraction'])} recall (cross-validated).",
        )
    if facts.holdout == "not_confirmed" and holdout is not None:
        return "The hold-out", f"{_of(holdout['point'], 'fp', 'tn', 'good part')} score above the threshold: it confirms nothing."
    if p["fp"] or p["fn"]:
        return "Overlap", f"{_errors(p)} on the KPI set: see the score chart."
    if facts.holdout == "none":
        return "No hold-out", "Every part of the KPI set is on its side of the threshold; no other boards have been scored."
    return "Nothing found", "Every part of the KPI set is on its side of the threshold."


def _of(point: dict[str, Any], wrong: str, right: str, what: str) -> str:
    return f"{point[wrong]:,} of {fmt.plural(point[wrong] + point[right], what)}"


def _errors(point: dict[str, Any]) -> str:
    named = ((point["fp"], "false alarm"), (point["fn"], "missed defect"))
    return " and ".join(fmt.plural(n, what) for n, what in named if n)


def steps(view: RunView, best: Iteration, holdout: dict[str, Any] | None, facts: Facts) -> Iterator[str]:
    """What to do next, first things first."""
    kpi, verdict = best.kpi, verdict_of(facts)
    assert kpi is not None
    error, one, missing = last_error(view), questioned_label(kpi), lacking(kpi)
    if error is not None:
        yield f"Resolve what stopped the run: {fmt.cell(error['summary'], 240)}"
        if error["data"].get("try"):
            yield fmt.cell(error["data"]["try"], 220)
    elif view.status in ("running", "new"):
        yield "Let the run finish; this page is written again after every iteration."
    if holdout is not None and holdout["missed_count"]:
        yield f"Look at what the hold-out missed ({fmt.plural(holdout['missed_count'], 'defect')}), and collect more like it."
    if one is not None:
        yield f"Look at {fmt.quoted(one['sample_id'], 90)} (line {one['line']}): is its label right? It decides the threshold."
    if missing:
        yield f"Add at least {missing} to the KPI set before a rate is promised to anyone."
    elif kpi["sample_size"] is not None and not kpi["sample_size"]["supported"]:
        yield f"Remove the errors ({_errors(kpi['target_point'])}), or enlarge the KPI set: as it is, nothing is proven."
    elif facts.kpi and not facts.cross_validated:
        yield "Add more boards to the KPI set: the target does not hold at thresholds that other parts chose."
    if view.status not in ENDED_WELL:
        return
    if verdict == NOT_MET:
        wanted = "the parts listed under Recommendations" if recommendations(view) else "more parts like the weakest"
        exhausted = view.status == "pool_exhausted"
        yield f"Collect {wanted}{': the pool has nothing more to offer' if exhausted else ', or allow more iterations'}."
        return
    if verdict == CONTRADICTED:
        yield "Add boards like the hold-out's to the pool and to the KPI set, and run again with another hold-out."
        return
    if facts.holdout == "none":
        yield "Label boards that took no part as kpi/holdout_set.csv: only they can confirm the target."
    elif facts.holdout == "not_confirmed":
        yield "Add boards to kpi/holdout_set.csv: as it is, it does not confirm the target."
    files = "best_model.json and best_model_inference_spec.yaml"
    if verdict == MET:
        yield f"Deploy it with {files}, and watch the false calls of the first boards."
    else:
        yield f"Pilot it with {files}: let people check what it passes as well as what it flags, and count both."
