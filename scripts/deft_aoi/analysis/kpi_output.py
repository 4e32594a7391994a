"""The files of one analysis: ``kpi.json``, ``summary.txt``, ``threshold_metrics.csv``, the misses at best F1, plots."""

from __future__ import annotations

import argparse
import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from deft_aoi.analysis import kpi
from deft_aoi.analysis.constants import DEFAULT_RECALLS, MAX_THRESHOLD_ROWS, SECONDS_PER_CALL
from deft_aoi.analysis.judging import DEFAULT_RULES, JudgingRules
from deft_aoi.analysis.operating_point import Sweep, candidate_thresholds, parse_threshold_rule
from deft_aoi.analysis.reference import Untrained
from deft_aoi.analysis.scored import ScoredSet, check_scored
from deft_aoi.analysis.verdict import beside, enough, supports
from deft_aoi.contract import schema
from deft_aoi.contract import spec as specs
from deft_aoi.contract.errors import UsageError
from deft_aoi.contract.files import atomic_write_text
from deft_aoi.contract.kpi_target import KpiTarget, parse_kpi_target
from deft_aoi.contract.paths import digest_cache_home, given
from deft_aoi.contract.text import PASS, printable, quoted, shown_label

if TYPE_CHECKING:
    import pandas as pd

_FORMULA = frozenset("=+-@\t\r")
THRESHOLD_COLUMNS = ("threshold", "tp", "fp", "tn", "fn", "far_fraction", "recall_fraction", "precision_fraction", "f1")


def analyze_and_write(
    frame: pd.DataFrame,
    out_dir: Path,
    *,
    target: KpiTarget | None = None,
    recalls: Sequence[float] = DEFAULT_RECALLS,
    label_column: str = "label",
    score_column: str = "siamese_score",
    pass_label: str = PASS,
    content_ids: Any = None,
    featureless: Any = None,
    seconds_per_call: float = SECONDS_PER_CALL,
    rules: JudgingRules = DEFAULT_RULES,
    untrained: Untrained | None = None,
    plots: bool = True,
    bins: int = 50,
) -> dict[str, Any]:
    """:func:`deft_aoi.analysis.kpi.analyze`, then :func:`write_outputs`, checking and sorting once. Returns the report."""
    scored, wanted = kpi.checked(frame, target, recalls, label_column, score_column, pass_label, content_ids, featureless)
    report = kpi.report_of(scored, target, wanted, seconds_per_call, rules, untrained)
    write_outputs(report, frame, out_dir, plots=plots, bins=bins, scored=scored)
    return report


def analyze_csv(args: argparse.Namespace) -> tuple[str, dict[str, Any]]:
    """``analyze_kpi.py``: what to say, and the report."""
    from deft_aoi.analysis.score_table import read_scores

    recalls = tuple(args.recall or DEFAULT_RECALLS)
    if any(not 0 < r <= 1 for r in recalls):
        raise UsageError("--recall must be a fraction in (0, 1]", found=", ".join(map(str, recalls)))
    if args.bins < 1 or args.seconds_per_call < 0:
        raise UsageError("--bins must be at least 1 and --seconds-per-call at least 0")
    target = parse_kpi_target(args.target) if args.target else None
    if not 0 < args.min_recall_support < 100:
        raise UsageError("--min-recall-support must be a percent between 0 and 100", found=f"{args.min_recall_support:g}")
    rules = JudgingRules(parse_threshold_rule(args.threshold_rule), args.min_recall_support / 100)
    if args.csv is None:
        return _judge_counts(args, target, rules)
    frame = read_scores(args.csv, label_column=args.label_column, score_column=args.score_column)
    common: dict[str, Any] = {
        "target": target,
        "rules": rules,
        "label_column": args.label_column,
        "score_column": args.score_column,
        "pass_label": args.pass_label,
        **_contents(args, frame),
    }
    out = args.output_dir or args.csv.parent
    if args.threshold is not None:
        report = kpi.apply_threshold(frame, args.threshold, **common)
        out.mkdir(parents=True, exist_ok=True)
        schema.write_checked(out / "holdout.json", report, "holdout")
        p = report["point"]
        text = (
            f"at the fixed threshold {args.threshold!r}: FAR {p['far_fraction']:.3%} ({p['fp']} of "
            f"{p['fp'] + p['tn']} distinct), recall {p['recall_fraction']:.3%} ({p['fn']} missed)"
        )
        return f"{text}\n{printable(out / 'holdout.json', 300)}", report
    report = analyze_and_write(
        frame,
        out,
        recalls=recalls,
        seconds_per_call=args.seconds_per_call,
        plots=not args.no_plots,
        bins=args.bins,
        **common,
    )
    return f"{report['verdict_sentence']}\n{printable(out / 'summary.txt', 300)}", report


def _judge_counts(args: argparse.Namespace, target: KpiTarget | None, rules: JudgingRules) -> tuple[str, dict[str, Any]]:
    """Whether counts alone prove the target: ``--false-alarms 0/400``, ``--missed 0/180``."""
    bounds = {"false_alarms": target.far_fraction if target else None, "missed": 1 - rules.min_recall_support}
    said = {}
    for name, bound in bounds.items():
        text = vars(args)[name]
        if text is None:
            continue
        events, _, trials = text.partition("/")
        if not (events.isdecimal() and trials.isdecimal()) or bound is None:
            raise UsageError(f"--{name.replace('_', '-')} takes K/N (false alarms with --target)", found=printable(text, 40))
        said[name] = enough(int(events), int(trials), bound, good=name == "false_alarms")
    if not said:
        raise UsageError("a scored CSV is needed, or --false-alarms K/N, or --missed K/N")
    return "\n".join(said.values()), said


def _contents(args: argparse.Namespace, frame: pd.DataFrame) -> dict[str, Any]:
    if (args.spec is None) != (args.images_dir is None):
        raise UsageError("--spec and --images-dir go together: both say how rows name images")
    if args.spec is None:
        return {}
    from deft_aoi.analysis.identity import ContentIndex

    layout = specs.layout(specs.load_spec(given(args.spec)), args.images_dir.resolve())
    ids = ContentIndex(args.cache_dir or digest_cache_home()).digest_pairs(frame, layout, what=args.csv.name)
    return {"content_ids": ids["content_id"], "featureless": ids["featureless"]}


def write_outputs(
    report: dict[str, Any],
    frame: pd.DataFrame,
    out_dir: Path,
    *,
    plots: bool = True,
    bins: int = 50,
    scored: ScoredSet | None = None,
    curve: Sweep | None = None,
) -> list[Path]:
    """Write every output of an analysis.

    Args:
        report: what :func:`deft_aoi.analysis.kpi.analyze` returned.
        frame: the frame it was given.
        out_dir: existing or new folder.
        plots: also draw SVG and PNG (imports matplotlib).
        bins: histogram bins of the score plot.
        scored: the frame as checked and ``curve`` its sweep, where the caller has them already.
        curve: see ``scored``.

    Returns:
        The files written.
    """
    out = Path(out_dir)
    out.mkdir(parents=True, exist_ok=True)
    if scored is None:
        names = report["columns"]
        scored = check_scored(frame, label_column=names["label"], score_column=names["score"], pass_label=names["pass_label"])
    curve = curve or scored.distinct_contents().sweep()
    written = [out / n for n in ("kpi.json", "summary.txt", "threshold_metrics.csv", "best_f1_missed_no_pass_samples.csv")]
    atomic_write_text(written[2], _threshold_csv(curve, report))
    weakest = scored.defects_ascending
    missed = int(np.searchsorted(scored.scores[weakest], report["best_f1"]["threshold"], side="right"))
    atomic_write_text(written[3], missed_csv(frame, weakest[:missed]))
    atomic_write_text(written[1], summary_text(report))
    if plots:
        from deft_aoi.analysis.plots import draw_all

        written += draw_all(report, curve, out, bins)
    schema.write_checked(written[0], report, "kpi")
    return written


def _threshold_csv(curve: Sweep, report: dict[str, Any]) -> str:
    import pyarrow as pa
    import pyarrow.csv as pacsv

    keep = tuple(p["threshold"] for p in (*report["operating_points"], report["best_f1"]))
    thresholds = candidate_thresholds(curve, MAX_THRESHOLD_ROWS, keep)
    tp, fp = curve.counts_at(thresholds)
    tn, fn = curve.n_pass - fp, curve.n_defect - tp
    flagged = tp + fp
    precision = np.divide(tp, flagged, out=np.zeros(len(tp)), where=flagged > 0)
    table = (thresholds, tp, fp, tn, fn, fp / curve.n_pass, tp / curve.n_defect, precision, 2 * tp / (2 * tp + fp + fn))
    body = io.BytesIO()
    pacsv.write_csv(pa.table(dict(zip(THRESHOLD_COLUMNS, table, strict=True))), body, pacsv.WriteOptions(include_header=False))
    return f"{','.join(THRESHOLD_COLUMNS)}\n{body.getvalue().decode('ascii')}"


def csv_lines(header: Iterable[str], rows: Iterable[Iterable[Any]]) -> str:
    """CSV text; floats in full precision (``repr``)."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return out.getvalue()


def missed_csv(frame: pd.DataFrame, rows: Any) -> str:
    """Rows of the frame as a file that people open in a spreadsheet: cells that would be a formula get an apostrophe."""
    part = frame.iloc[rows]
    columns = [_spreadsheet_column(part[c]) for c in part.columns]
    return csv_lines(map(str, part.columns), zip(*columns, strict=True))


def _spreadsheet_column(cells: pd.Series[Any]) -> list[Any]:
    """Cells, with an apostrophe before text that a spreadsheet would run as a formula."""
    values = list(cells.tolist())
    if cells.dtype.kind in "fiub" or not any(isinstance(v, str) and v[:1] in _FORMULA for v in set(values)):
        return values
    return [f"'{v}" if isinstance(v, str) and v[:1] in _FORMULA else v for v in values]


def summary_text(report: dict[str, Any]) -> str:
    """``summary.txt``: the verdict, then the tables behind it."""
    return "\n".join([report["verdict_sentence"], "", *_points(report), "", *_why(report), ""])


def _points(report: dict[str, Any]) -> Iterator[str]:
    c = report["counts"]
    yield f"rows {c['rows']}  PASS {c['pass_rows']} ({c['distinct_pass']} distinct)  defects {c['defect_rows']} " + (
        f"({c['distinct_defect']} distinct)"
    )
    if not c["distinct_by_content"]:
        yield "distinct contents are unknown here: every row counts as one observation"
    yield f"AUROC {report['auroc']:.6f}  AUPR {report['aupr']:.6f}  rule: {report['rule']}"
    yield ""
    yield f"{'recall >=':>10} {'threshold':>24} {'FAR':>9} {'one-sided 95 %':>20} {'TP':>7} {'FP':>7} {'TN':>7} {'FN':>7}"
    rows = [(f"{p['recall_target_fraction']:.1%}", p) for p in report["operating_points"]]
    for name, p in [*rows, ("best F1", report["best_f1"])]:
        low, high = p["far_interval"]
        yield (
            f"{name:>10} {p['threshold']!r:>24} {p['far_fraction']:>9.3%} {f'{low:.3%} .. {high:.3%}':>20} "
            f"{p['tp']:>7} {p['fp']:>7} {p['tn']:>7} {p['fn']:>7}"
        )


def _why(report: dict[str, Any]) -> Iterator[str]:
    p = report["target_point"]
    yield f"threshold interval at the target recall: [{p['interval_low']!r}, {p['interval_high']!r})  {p['note']}".rstrip()
    for row in report["setting_samples"]:
        yield f"  {row['role']}: {_row(row)}"
    for drop in report["drop_n"]:
        yield f"without the {drop['dropped']} hardest defect(s): FAR {drop['far_fraction']:.3%}"
    size = report["sample_size"]
    if size is not None:
        yield (
            f"supports (one-sided 95 %): {supports(p)}; {size['distinct_pass']} distinct good parts, FAR "
            f"{size['far_fraction']:.3%} needs {size['required_distinct_pass']} without a false alarm; "
            f"{size['distinct_defect']} distinct defects, recall {size['min_recall_support_fraction']:.3%} needs "
            f"{size['required_distinct_defect'] or 'no end of them'} without a miss"
        )
    yield report["boards"]["note"]
    yield f"{'threshold rule':>16} {'threshold':>24} {'FAR now':>9} {'expected misses in 1,000 defects':>33}"
    for rule in report["threshold_rules"]:
        mark = "*" if rule["chosen"] else " "
        yield (
            f"{mark}{rule['rule']:>15} {rule['threshold']!r:>24} {rule['far_fraction']:>9.3%} "
            f"{rule['expected_misses_per_1000']:>33.2f}"
        )
    yield from beside(report)
    estimate = report["estimate"]
    if estimate is not None:
        yield (
            f"the threshold was chosen on these rows; {estimate['kind'].replace('_', ' ')} in {estimate['folds']} folds: FAR "
            f"{estimate['far_fraction']:.3%} ({estimate['far_min_fraction']:.3%} .. {estimate['far_max_fraction']:.3%}), recall "
            f"{estimate['recall_fraction']:.3%} ({estimate['recall_min_fraction']:.3%} .. "
            f"{estimate['recall_max_fraction']:.3%})"
        )
    yield ""
    for d in report["per_defect"]:
        lowest = d["lowest"][0]
        yield (
            f"{shown_label(d['label'], 24):<26} caught {d['caught']}/{d['rows']}  lowest {lowest['score']:.6g} "
            f"({quoted(lowest['sample_id'], 100)})"
        )
    suspected = report["suspected_label_errors"]
    if suspected["count"]:
        far = suspected["far_fraction_if_relabelled"]
        yield f"{suspected['count']} suspected label error(s); FAR if relabelled {far:.3%}"
        yield from (f"  {_row(row)}" for row in suspected["listed"])


def _row(row: dict[str, Any]) -> str:
    return f"line {row['line']}: {quoted(row['sample_id'], 100)} {shown_label(row['label'], 24)} score {row['score']!r}"
