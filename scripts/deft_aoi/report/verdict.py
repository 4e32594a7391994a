"""The verdict in plain words: whether to deploy, at what threshold, what is still missed, why, and what to do next."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from deft_aoi.analysis.kpi import MET, NOT_MET, UNSUPPORTED
from deft_aoi.report import advice
from deft_aoi.report import number_format as fmt
from deft_aoi.report.run_view import ENDED_WELL, Iteration, RunView

ENDINGS = {
    "kpi_met": "Run finished: the target was reached",
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
        text: the KPI in words.
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
    verdict, missed = best.verdict, holdout is not None and holdout.get("met") is False
    tone = {MET: "good", UNSUPPORTED: "warn", NOT_MET: "bad"}.get(verdict, "info")
    if missed and tone == "good":
        tone = "warn"
    badge = verdict
    if not finished:
        tone, badge = ("info", "IN PROGRESS") if view.status in ("running", "new") else ("bad", _stop_badge(view.status))
    return Verdict(
        tone,
        badge,
        state,
        _headline(view, best, missed, finished),
        sentence(best.kpi),
        _cards(view, best, holdout, finished),
        tuple(advice.cautions(view, best, holdout)),
        tuple(advice.steps(view, best, holdout)),
    )


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


def _headline(view: RunView, best: Iteration, holdout_missed: bool, finished: bool) -> str:
    assert best.kpi is not None
    name, verdict = fmt.iteration(best.label), best.verdict
    if not finished:
        so_far = {MET: "meets the target", UNSUPPORTED: "meets the target on this test set, which is too small to prove it"}
        told = so_far.get(verdict, "does not meet the target")
        if view.status in ("running", "new"):
            return f"No final verdict yet. The best model so far ({name}) {told}."
        return f"The run did not finish. The best model before it stopped ({name}) {told}."
    if verdict == MET:
        if holdout_missed:
            return "The target is met on the KPI set but not on the hold-out boards. Do not deploy yet."
        return f"The target is met. {name.capitalize()} can be deployed."
    if verdict == UNSUPPORTED:
        if holdout_missed:
            return "The target is met on the KPI set but not on the hold-out boards. Do not deploy without a pilot."
        return "The target is met on this test set, but the set is too small to prove it. Run a pilot before deployment."
    return "The target is not met. Do not deploy this model for it."


def sentence(kpi: dict[str, Any]) -> str:
    """The KPI in words."""
    p, counts = kpi["target_point"], kpi["counts"]
    distinct = ""
    if counts["distinct_by_content"] and counts["distinct_pass"] != counts["pass_rows"]:
        distinct = f" ({counts['distinct_pass']:,} of them distinct)"
    return (
        f"{fmt.plural(p['fp'], 'false alarm')} in {counts['pass_rows']:,} good parts{distinct}, with {p['tp']:,} of "
        f"{fmt.plural(counts['defect_rows'], 'defect')} caught: a false-alarm rate of {fmt.percent(p['far_fraction'])} "
        f"at {fmt.percent(p['recall_fraction'])} recall. With 95% confidence the true false-alarm rate is between "
        f"{fmt.percent(p['far_interval'][0])} and {fmt.percent(p['far_interval'][1])}."
    )


def _cards(view: RunView, best: Iteration, holdout: dict[str, Any] | None, finished: bool) -> tuple[Card, ...]:
    assert best.kpi is not None
    return (_deploy(best, holdout, finished, view.status), _threshold(best), _misses(best.kpi, holdout), _why(best.kpi))


def _deploy(best: Iteration, holdout: dict[str, Any] | None, finished: bool, status: str) -> Card:
    kpi = best.kpi
    assert kpi is not None
    question, size = "Deploy it?", kpi["sample_size"]
    target = fmt.cell(kpi["target"]["text"])
    failed = holdout is not None and holdout.get("met") is False
    if best.metric is not None and (best.verdict == NOT_MET or not failed):
        met, told = best.verdict == MET, fmt.cell(best.view["primary_metric"], 300)
        card = Card(question, "Yes" if met else "No", f"By the primary metric of this run: {told}.", "good" if met else "bad")
    elif best.verdict == NOT_MET:
        far = fmt.percent(kpi["target_point"]["far_fraction"])
        card = Card(question, "No", f"The target {target} is not met: the false-alarm rate is {far}.", "bad")
    elif failed:
        assert holdout is not None
        point = holdout["point"]
        card = Card(
            question,
            "Not yet",
            f"Met on the KPI set, but on boards that took no part in the choice the false-alarm rate is "
            f"{fmt.percent(point['far_fraction'])} and recall is {fmt.percent(point['recall_fraction'])}.",
            "bad" if point["fn"] else "warn",
        )
    elif best.verdict == UNSUPPORTED:
        more = size["required_distinct_pass"] - size["distinct_pass"]
        need = f"; {more:,} more distinct good parts without a false alarm would prove it" if more > 0 else ""
        card = Card(
            question,
            "Pilot only",
            f"Met so far, but the true rate may be up to {fmt.percent(size['far_upper_fraction'])}{need}.",
            "warn",
        )
    else:
        card = Card(question, "Yes", f"The target {target} is met, and the sample is large enough to support it.", "good")
    if finished:
        return card
    going = status in ("running", "new")
    answer, why = ("Wait", "The run is not finished.") if going else ("Not yet", "The run did not finish.")
    return Card(question, answer, f"{why} As it stands: {card.answer.lower()}. {card.detail}", "plain" if going else "bad")


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
        told = f" ({', '.join(types[:4])})" if types else ""
        detail += (
            f" On the hold-out: {fmt.plural(point['fn'], 'defect')} missed{told} of {point['fn'] + point['tp']:,}, "
            f"{fmt.plural(point['fp'], 'false alarm')} in {point['fp'] + point['tn']:,} good parts."
        )
        tone = "bad" if point["fn"] else tone
    return Card("What does it get wrong?", answer, detail, tone)


def _why(kpi: dict[str, Any]) -> Card:
    """What limits the result: the sample that pins the threshold, or the size of the test set."""
    p, drop = kpi["target_point"], kpi["drop_n"]
    size = kpi["sample_size"]
    if p["fp"] and drop and drop[0]["fp"] < p["fp"] and drop[0]["samples"]:
        one = drop[0]["samples"][0]
        return Card(
            "What limits it?",
            "One defect" if p["fp"] - drop[0]["fp"] >= p["fp"] / 2 else "The weakest defects",
            f"The {fmt.kind(one['label'])} {fmt.quoted(one['sample_id'].rsplit('/', 1)[-1], 60)} scores only "
            f"{fmt.score(one['score'])} and pulls the threshold down. Without it: {fmt.plural(drop[0]['fp'], 'false alarm')} "
            f"instead of {p['fp']:,}.",
        )
    if size is not None and not size["supported"] and size["distinct_pass"] >= size["required_distinct_pass"]:
        return Card(
            "What limits it?",
            "The false alarms left",
            f"With {fmt.plural(p['false_alarm_contents'], 'false alarm')} in {size['distinct_pass']:,} distinct good parts the "
            f"true rate may still be up to {fmt.percent(size['far_upper_fraction'])}; without any, the target would be proven.",
        )
    if size is not None and not size["supported"]:
        return Card(
            "What limits it?",
            "The test set",
            f"{size['distinct_pass']:,} distinct good parts can support a rate of "
            f"{fmt.percent(size['best_supportable_far_fraction'])} at best; the target needs "
            f"{size['required_distinct_pass']:,}.",
        )
    if p["fp"]:
        return Card(
            "What limits it?", "Overlap", "Several good parts score higher than the weakest defects: see the score chart."
        )
    return Card("What limits it?", "Nothing seen", "Good parts and defects are fully separated on the KPI set.")
