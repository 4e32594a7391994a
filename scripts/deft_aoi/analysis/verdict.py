"""The verdict of a run: four facts make one string, and every surface and exit code reads it from here.

docs/verdict.md says in plain words what each string means.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from deft_aoi.contract.errors import UsageError
from deft_aoi.contract.text import quoted

NOT_MET = "NOT MET"
CONTRADICTED = "MET on the KPI set, NOT on the hold-out"
UNSUPPORTED = "MET (not yet supported by the sample size)"
UNCONFIRMED = "MET (the hold-out does not confirm it)"
KPI_ONLY = "MET on the KPI set only"
MET = "MET"
VERDICTS = (NOT_MET, CONTRADICTED, UNSUPPORTED, UNCONFIRMED, KPI_ONLY, MET)
"""By precedence: the first that applies is the verdict."""

Holdout = Literal["confirms", "not_confirmed", "contradicts", "none"]


@dataclass(frozen=True)
class Facts:
    """What a verdict is made of.

    Attributes:
        kpi: the operating point meets the target (or the user's own primary metric with its constraints holds).
        far_supported: the one-sided upper bound of the false-alarm rate meets the target too.
        recall_supported: the one-sided lower bound of recall reaches the recall that must be supported.
        cross_validated: the false-alarm rate at thresholds that other boards chose meets the target, at most one miss more.
        holdout: what the boards say that took no part.
    """

    kpi: bool
    far_supported: bool
    recall_supported: bool
    cross_validated: bool
    holdout: Holdout = "none"

    @property
    def supported(self) -> bool:
        """Both sides are."""
        return self.far_supported and self.recall_supported

    def as_dict(self) -> dict[str, Any]:
        """The facts as JSON."""
        return {**self.__dict__, "supported": self.supported}


def verdict_of(facts: Facts) -> str:
    """THE verdict: one string, by precedence."""
    if not facts.kpi:
        return NOT_MET
    if facts.holdout == "contradicts":
        return CONTRADICTED
    if not (facts.supported and facts.cross_validated):
        return UNSUPPORTED
    return {"not_confirmed": UNCONFIRMED, "none": KPI_ONLY, "confirms": MET}[facts.holdout]


def is_met(verdict: str) -> bool:
    """Whether the operating point meets the target on the KPI set."""
    return verdict != NOT_MET


def fails(verdict: str) -> bool:
    """Whether ``--fail-on-not-met`` makes it exit code 8: not met, or the hold-out contradicts."""
    return verdict in (NOT_MET, CONTRADICTED)


def facts_of(report: Mapping[str, Any], holdout: Mapping[str, Any] | None = None, metric_met: bool | None = None) -> Facts:
    """The facts of a KPI report (schema ``kpi``) and, once it was scored, of the hold-out (schema ``holdout``).

    Args:
        report: judged against a target: its ``facts`` are there.
        holdout: the hold-out's report at the threshold that the KPI set fixed, or what ``best_model.json`` keeps of it.
        metric_met: what the user's own primary metric says; it takes the place of the KPI and of its cross-validation.
    """
    own = report["facts"]
    return Facts(
        kpi=own["kpi"] if metric_met is None else metric_met,
        far_supported=own["far_supported"],
        recall_supported=own["recall_supported"],
        cross_validated=own["cross_validated"] or metric_met is not None,
        holdout="none" if holdout is None else holdout["says"],
    )


def sentence(report: Mapping[str, Any], holdout: Mapping[str, Any] | None = None, metric_met: bool | None = None) -> str:
    """The one sentence of the console: the verdict, both halves, what they support, the hold-out.

    ``MET: 0 false alarms in 400 good parts, 180 of 180 defects caught; this supports FAR <= 0.75 %, recall >= 98.3 %;
    hold-out: 1 of 300 good parts flagged, 149 of 150 defects caught, confirmed``. Counts and rates are over distinct contents;
    bounds are one-sided 95 %.
    """
    text = f"{halves(report['target_point'])}; this supports {supports(report['target_point'])}"
    if report["target"] is None:
        return text
    facts = facts_of(report, holdout, metric_met)
    missing = needs(report["sample_size"], facts)
    parts = [text, *([missing] if missing else [])]
    if facts.kpi and not facts.cross_validated:
        parts.append("it does not hold when other boards choose the threshold (cross-validation)")
    if holdout is not None:
        parts.append(f"hold-out: {holdout_counts(holdout)}{_HOLDOUT[facts.holdout]}")
    elif verdict_of(facts) == KPI_ONLY:
        parts.append("kpi/holdout_set.csv with boards that took no part would confirm it or not")
    return f"{verdict_of(facts)}: {'; '.join(parts)} (target {report['target']['text']})"


_HOLDOUT = {"confirms": ", confirmed", "not_confirmed": ", not enough to confirm", "contradicts": ": contradicts", "none": ""}


def halves(point: Mapping[str, Any]) -> str:
    """``0 false alarms in 400 good parts, 180 of 180 defects caught``."""
    alarms = f"{point['fp']:,} false alarm{'' if point['fp'] == 1 else 's'}"
    defects = point["tp"] + point["fn"]
    return f"{alarms} in {point['fp'] + point['tn']:,} good parts, {point['tp']:,} of {defects:,} defects caught"


def supports(point: Mapping[str, Any]) -> str:
    """``FAR <= 0.75 %, recall >= 98.3 %``: the one-sided 95 % bounds."""
    return f"FAR <= {percent(point['far_interval'][1])}, recall >= {percent(point['recall_interval'][0])}"


def holdout_counts(holdout: Mapping[str, Any]) -> str:
    """``1 of 300, 149 of 150``: false alarms in good parts, defects caught."""
    p = holdout.get("point", holdout)
    return f"{p['fp']:,} of {p['fp'] + p['tn']:,} good parts flagged, {p['tp']:,} of {p['tp'] + p['fn']:,} defects caught"


def enough(events: int, trials: int, bound_fraction: float, *, good: bool) -> str:
    """Whether so few errors in so many parts prove a bound: the sentence for a person, at one-sided 95 %.

    Args:
        events: good parts flagged, or defects missed.
        trials: distinct good parts, or distinct defects.
        bound_fraction: the rate that is to be proven.
        good: whether it is about good parts (FAR), else about defects (escapes: 1 - recall).

    Raises:
        UsageError: more events than trials, or a bound outside (0, 1).
    """
    from deft_aoi.analysis.intervals import clopper_pearson, sample_size_for

    if not (0 <= events <= trials and trials > 0 and 0 < bound_fraction < 1):
        raise UsageError("counts are K/N with 0 <= K <= N", found=f"{events}/{trials} for {percent(bound_fraction)}")
    low, high = clopper_pearson(events, trials)
    parts, what, rate = ("good parts", "flagged", "FAR") if good else ("defects", "missed", "escape rate")
    says = "enough" if high <= bound_fraction else ("refuted" if low > bound_fraction else "not enough")
    need = sample_size_for(bound_fraction)
    return (
        f"{events:,} of {trials:,} distinct {parts} {what}: the {rate} is at most {percent(high)} (95 %); for "
        f"{percent(bound_fraction)} that is {says}; it takes {need:,} distinct {parts} with none {what}"
    )


def needs(size: Mapping[str, Any] | None, facts: Facts) -> str:
    """What the sample lacks, or an empty string."""
    if size is None or facts.supported or not facts.kpi:
        return ""
    parts = []
    if not facts.far_supported:
        parts.append(f"FAR {percent(size['far_fraction'])} needs {size['required_distinct_pass']:,} distinct good parts")
    if not facts.recall_supported:
        need = size["required_distinct_defect"]
        parts.append(f"recall {percent(size['min_recall_support_fraction'])} needs {need:,} distinct defects")
    return ", ".join(parts) + " without an error"


def beside(report: Mapping[str, Any]) -> list[str]:
    """What belongs beside the sentence, a line each: what no model would do, and the defects that set the threshold."""
    lines, point = [], report["target_point"]
    if report["reference"] is not None:
        kind = "registered pixels" if report["reference"]["registered"] else "pixels"
        row = report["reference"]["points"][0]
        ratio = row["fp"] / max(row["model_fp"], 1)
        fewer = f"{ratio:,.{0 if ratio >= 10 else 1}f} times fewer" if row["model_fp"] else "better"
        words = {"better": fewer, "worse": "worse than without a model"}.get(row["says"], "no better shown")
        lines.append(
            f"without training: comparing {kind} gives {row['fp']:,} false alarms at recall "
            f"{percent(row['recall_target_fraction'])}; this model {row['model_fp']:,}: {words} (p {row['p_value']:.2g})"
        )
    for d in report["deciding_defects"]["listed"]:
        far = f"FAR {percent(d['far_without_fraction'])} without it (now {percent(point['far_fraction'])})"
        lines.append(f"sets the threshold: {quoted(d['label'], 40)} {quoted(d['sample_id'], 120)}, line {d['line']}; {far}")
    return lines


def percent(fraction: float) -> str:
    """A fraction as a percent with three significant digits, never rounded to a bare 0 or 100."""
    if fraction in (0.0, 1.0):
        return f"{fraction * 100:.0f} %"
    digits = f"{fraction * 100:.3g}"
    return f"{fraction * 100:.6g} %" if float(digits) == 100 else f"{float(digits):g} %"
