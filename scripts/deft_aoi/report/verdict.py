"""The verdict in plain words: whether to deploy, at what threshold, what is still missed, why, and what to do next."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deft_aoi.analysis.verdict import (
    CONTRADICTED,
    KPI_ONLY,
    MET,
    NOT_MET,
    UNCONFIRMED,
    UNSUPPORTED,
    Facts,
    facts_of,
    verdict_of,
)
from deft_aoi.analysis.verdict import sentence as the_sentence
from deft_aoi.report import advice
from deft_aoi.report import number_format as fmt
from deft_aoi.report.run_view import ENDED_WELL, Iteration, RunView, optional_json, read_run
from deft_aoi.report.sections import recommendations

ENDINGS = {
    "kpi_met": "Run finished: its rule to stop was met",
    "max_iterations": "Run finished: all planned iterations are done",
    "pool_exhausted": "Run finished early: the pool has no further useful rows",
    "user_stop": "Run stopped by the user",
    "hard_stop": "Run stopped by a safety check",
    "job_failed": "Run stopped: a job failed",
    "error": "Run interrupted: a stage failed",
    "running": "Run in progress",
    "new": "Run in progress",
}


@dataclass(frozen=True)
class Card:
    """One of the four answers: the question, the answer in a few words, and the sentence behind it."""

    question: str
    answer: str
    detail: str
    tone: str = "plain"


@dataclass(frozen=True)
class Verdict:
    """What stands at the top of the page.

    Attributes:
        tone: ``good``, ``warn``, ``bad`` or ``info``; never said by colour alone.
        badge: the verdict in capitals, as the record spells it, or the run's state.
        state: how the run ended, or that it goes on.
        headline: the one sentence.
        text: the verdict in one sentence, as the console says it.
        cards: the four answers.
        cautions: what must be known before the number is used.
        steps: what to do next, first things first.
    """

    tone: str
    badge: str
    state: str
    headline: str
    text: str
    cards: tuple[Card, ...]
    cautions: tuple[str, ...]
    steps: tuple[str, ...]


def judge(view: RunView, holdout: dict[str, Any] | None) -> Verdict:
    """The verdict of a run as it stands.

    Args:
        view: the run.
        holdout: ``holdout.json``, once the hold-out was scored.
    """
    best = view.best
    state = ENDINGS.get(view.status, "Run in progress")
    if view.status == "running" and view.measured:
        state += f": {where(view)}"
    finished = view.status in ENDED_WELL
    if best is None or best.kpi is None:
        return _nothing_measured(view, state)
    facts = facts_of(best.kpi, holdout, None if best.metric is None else best.metric["met"])
    verdict = verdict_of(facts)
    tone = {MET: "good", NOT_MET: "bad", CONTRADICTED: "bad"}.get(verdict, "warn")
    badge = verdict
    if not finished:
        tone, badge = ("info", "IN PROGRESS") if view.status in ("running", "new") else ("bad", _stop_badge(view.status))
    return Verdict(
        tone,
        badge,
        state,
        _headline(view, best, verdict, finished),
        f"{the_sentence(best.kpi, holdout, None if best.metric is None else best.metric['met'])}.",
        _cards(view, best, holdout, facts, finished),
        tuple(advice.cautions(view, best, holdout)),
        tuple(advice.steps(view, best, holdout, facts)),
    )


def limits(results_dir: Path) -> list[str]:
    """What the best model still gets wrong, what to collect and what to do next, in a few lines for a console.

    Raises:
        DeftError: the run's files cannot be read.
    """
    view = read_run(results_dir)
    holdout = optional_json(view, view.run.holdout / "holdout.json", "holdout")
    if view.best is None or view.best.kpi is None:
        return []
    wrong = _misses(view.best.kpi, holdout)
    lines = [f"wrong:   {wrong.answer}. {wrong.detail}"]
    wanted = [row["what"] for row in recommendations(view)[:3]]
    lines += [f"collect: {'; '.join(wanted)}"] if wanted else []
    return lines + [f"to do:   {step}" for step in judge(view, holdout).steps[:3]]


def _stop_badge(status: str) -> str:
    return {"hard_stop": "STOPPED", "job_failed": "FAILED", "error": "INTERRUPTED"}.get(status, "STOPPED")


def where(view: RunView) -> str:
    """Where a run that goes on is: ``iteration 2, after train``."""
    label = str(view.view.get("current_iteration") or "run")
    place = view.view["iterations"].get(label, view.view["run"])
    started = [e for e in view.events if e["status"] == "started" and e["iter"] == label]
    done = place.get("stage_completed")
    if started and started[-1]["stage"] not in place.get("stages", {}):
        return f"{fmt.iteration(label)}, {started[-1]['stage']} under way"
    return f"{fmt.iteration(label)}, {done} done" if done else fmt.iteration(label)


def _nothing_measured(view: RunView, state: str) -> Verdict:
    error = advice.last_error(view)
    todo = []
    if error is not None:
        tone, badge = "bad", _stop_badge(view.status)
        headline = "The run stopped before a model was measured. There is nothing to deploy."
        text = fmt.cell(error["summary"], 400)
        if error["data"].get("try"):
            todo.append(fmt.cell(error["data"]["try"], 220))
    elif view.status in ENDED_WELL:
        tone, badge = "bad", "NO RESULT"
        headline, text = "The run ended before a model was measured. There is nothing to deploy.", ""
    else:
        tone, badge = "info", "IN PROGRESS"
        headline, text = (
            "No model has been measured yet. This page is complete once the baseline has been evaluated.",
            f"Now: {where(view)}.",
        )
    return Verdict(tone, badge, state, headline, text, (), (), tuple(todo))


HEADLINES = {
    NOT_MET: "The target is not met. Do not deploy this model for it.",
    CONTRADICTED: "The target is met on the KPI set, but the hold-out boards contradict it. Do not deploy.",
    UNSUPPORTED: "The target is met on this test set, which does not prove it yet. Run a pilot before deployment.",
    UNCONFIRMED: "The target is met and supported, but the hold-out boards do not confirm it. Run a pilot before deployment.",
    KPI_ONLY: "The target is met on the KPI set only: no boards that took no part have confirmed it. Run a pilot first.",
    MET: "The target is met, and boards that took no part confirm it. {name} can be deployed.",
}


def _headline(view: RunView, best: Iteration, verdict: str, finished: bool) -> str:
    name = fmt.iteration(best.label)
    if finished:
        return HEADLINES[verdict].format(name=name.capitalize())
    so_far = "does not meet the target" if verdict == NOT_MET else "meets the target on the KPI set"
    if view.status in ("running", "new"):
        return f"No final verdict yet. The best model so far ({name}) {so_far}."
    return f"The run did not finish. The best model before it stopped ({name}) {so_far}."


def sentence(kpi: dict[str, Any]) -> str:
    """The rates behind the verdict with their bounds, over distinct contents, then the counts over rows."""
    p, counts = kpi["target_point"], kpi["counts"]
    text = (
        f"A false-alarm rate of {fmt.percent(p['far_fraction'])} at {fmt.percent(p['recall_fraction'])} recall. "
        f"With 95% confidence on each side the true false-alarm rate is between {fmt.percent(p['far_interval'][0])} and "
        f"{fmt.percent(p['far_interval'][1])}, and recall at least {fmt.percent(p['recall_interval'][0])}."
    )
    if counts["pass_rows"] != p["fp"] + p["tn"] or counts["defect_rows"] != p["tp"] + p["fn"]:
        r = p["rows"]
        text += (
            f" Counted over rows, as TAO does: {r['fp']:,} of {r['fp'] + r['tn']:,} good rows flagged, "
            f"{r['tp']:,} of {r['tp'] + r['fn']:,} defect rows caught."
        )
    return text


def _cards(view: RunView, best: Iteration, holdout: dict[str, Any] | None, facts: Facts, finished: bool) -> tuple[Card, ...]:
    assert best.kpi is not None
    return (
        _deploy(best, facts, finished, view.status),
        _threshold(best),
        _misses(best.kpi, holdout),
        Card("What limits it?", *advice.limit(best, holdout, facts)),
    )


ANSWERS = {
    NOT_MET: ("No", "bad"),
    CONTRADICTED: ("No", "bad"),
    UNSUPPORTED: ("Pilot only", "warn"),
    UNCONFIRMED: ("Pilot only", "warn"),
    KPI_ONLY: ("Pilot only", "warn"),
    MET: ("Yes", "good"),
}


def _deploy(best: Iteration, facts: Facts, finished: bool, status: str) -> Card:
    kpi = best.kpi
    assert kpi is not None
    answer, tone = ANSWERS[verdict_of(facts)]
    detail = sentence(kpi)
    if best.metric is not None:
        detail = f"By the primary metric of this run: {fmt.cell(best.view['primary_metric'], 300)}. {detail}"
    if finished:
        return Card("Deploy it?", answer, detail, tone)
    going = status in ("running", "new")
    shown, why = ("Wait", "The run is not finished.") if going else ("Not yet", "The run did not finish.")
    return Card("Deploy it?", shown, f"{why} As it stands: {answer.lower()}. {detail}", "plain" if going else "bad")


def _threshold(best: Iteration) -> Card:
    assert best.kpi is not None
    p = best.kpi["target_point"]
    return Card(
        "At what threshold?",
        fmt.score(p["threshold"]),
        f"A score above it is a defect. Any value between {fmt.score(p['interval_low'])} and {fmt.score(p['interval_high'])} "
        f"gives the same result on the KPI set. Exact value: {fmt.full(p['threshold'])}.",
    )


def _misses(kpi: dict[str, Any], holdout: dict[str, Any] | None) -> Card:
    p = kpi["target_point"]
    answer = f"{fmt.plural(p['fn'], 'defect')}, {fmt.plural(p['fp'], 'false alarm')}"
    detail = "On the KPI set, which also chose the threshold."
    tone = "bad" if p["fn"] else "plain"
    if p["fn"]:
        worst = [f"{fmt.kind(d['label'])} {d['missed']}" for d in kpi["per_defect"] if d["missed"]]
        detail = f"Missed on the KPI set: {', '.join(worst[:4])}."
    if holdout is not None:
        point = holdout["point"]
        types = [f"{fmt.kind(d['label'])} {d['missed']}" for d in holdout["per_defect"] if d["missed"]]
        by_type = f" ({', '.join(types[:4])})" if types else ""
        detail += (
            f" On the hold-out: {fmt.plural(point['fn'], 'defect')} missed{by_type} of {point['fn'] + point['tp']:,}, "
            f"{fmt.plural(point['fp'], 'false alarm')} in {point['fp'] + point['tn']:,} good parts."
        )
        tone = "bad" if point["fn"] else tone
    return Card("What does it get wrong?", answer, detail, tone)
