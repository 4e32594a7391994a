"""Advice beside the verdict: what to know before the number is used, and what to do next."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from deft_aoi.analysis.verdict import MET, NOT_MET
from deft_aoi.report import number_format as fmt
from deft_aoi.report.run_view import ENDED_WELL, Event, Iteration, RunView

REQUESTS = "data_requests.json"


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
        told = "contradict" if holdout["says"] == "contradicts" else "do not confirm"
        yield f"The hold-out boards {told} the target at the same threshold: see Hold-out."
    if counts["featureless_rows"]:
        flat = fmt.plural(counts["featureless_rows"], "KPI row is flat", "KPI rows are flat")
        yield f"{flat}: pictures without content, which say little about the model."
    refused = [it.label for it in view.measured if not it.view.get("promoted", True)]
    if refused:
        yield f"Not handed over because of new escapes or no gain: {', '.join(fmt.iteration(r) for r in refused)}."


def steps(view: RunView, best: Iteration, holdout: dict[str, Any] | None, verdict: str) -> Iterator[str]:
    """What to do next, first things first."""
    kpi = best.kpi
    assert kpi is not None
    error, size = last_error(view), kpi["sample_size"]
    if error is not None:
        yield f"Resolve what stopped the run: {fmt.cell(error['summary'], 240)}"
        if error["data"].get("try"):
            yield fmt.cell(error["data"]["try"], 220)
    elif view.status in ("running", "new"):
        yield "Let the run finish; this page is written again after every iteration."
    if holdout is not None and holdout["missed_count"]:
        yield f"Look at what the hold-out missed ({fmt.plural(holdout['missed_count'], 'defect')}), and collect more like it."
    if kpi["drop_n"] and kpi["drop_n"][0]["samples"] and kpi["target_point"]["fp"]:
        one = kpi["drop_n"][0]["samples"][0]
        yield f"Look at {fmt.quoted(one['sample_id'], 90)} (line {one['line']}): is it labelled rightly? It sets the threshold."
    if size is not None and not size["supported"]:
        short = ((size["required_distinct_pass"] - size["distinct_pass"], "good parts"),)
        short += ((size["required_distinct_defect"] - size["distinct_defect"], "defects"),)
        lacking = [f"{more:,} distinct {what}" for more, what in short if more > 0]
        if lacking:
            yield f"Add at least {' and '.join(lacking)} to the KPI set before a rate is promised to anyone."
        else:
            yield "Remove the remaining false alarms, or enlarge the KPI set: at this size the target is not proven."
    if verdict == NOT_MET and view.status in ENDED_WELL:
        wanted = (
            "the parts listed under Recommendations" if (view.run.run / REQUESTS).is_file() else "more parts like the weakest"
        )
        why = "the pool has nothing more to offer" if view.status == "pool_exhausted" else "or allow more iterations"
        yield f"Collect {wanted}{':' if view.status == 'pool_exhausted' else ','} {why}."
    if view.status in ENDED_WELL and verdict != NOT_MET:
        files = "best_model.json and best_model_inference_spec.yaml"
        if verdict != MET:
            yield f"Pilot it with {files}: let people check what it passes as well as what it flags, and count both."
        else:
            yield f"Deploy it with {files}, and watch the false calls of the first boards."
