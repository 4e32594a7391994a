"""What the commands of this room do: read what the arguments name, call the functions, say it in a few lines."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deft_aoi.contract import spec as specs
from deft_aoi.contract.changenet_csv import ImageLayout, read_changenet_csv, write_changenet_csv
from deft_aoi.contract.errors import Blocked, HardStop, UsageError
from deft_aoi.contract.kpi_target import parse_kpi_target
from deft_aoi.contract.paths import Workspace, cache_home, given
from deft_aoi.contract.schema import write_checked
from deft_aoi.contract.text import printable, quoted, shown_label

if TYPE_CHECKING:
    import pandas as pd

    from deft_aoi.analysis.identity import ContentIndex, Part

Outcome = tuple[str, dict[str, Any]]


def kpi_command(args: argparse.Namespace) -> Outcome:
    """``analyze_kpi.py``."""
    from deft_aoi.analysis import kpi
    from deft_aoi.analysis.constants import DEFAULT_RECALLS
    from deft_aoi.analysis.score_table import read_scores

    recalls = tuple(args.recall or DEFAULT_RECALLS)
    if any(not 0 < r <= 1 for r in recalls):
        raise UsageError("--recall must be a fraction in (0, 1]", found=", ".join(map(str, recalls)))
    if args.bins < 1 or args.seconds_per_call < 0:
        raise UsageError("--bins must be at least 1 and --seconds-per-call at least 0")
    target = parse_kpi_target(args.target) if args.target else None
    frame = read_scores(args.csv, label_column=args.label_column, score_column=args.score_column)
    common: dict[str, Any] = {
        "target": target,
        "label_column": args.label_column,
        "score_column": args.score_column,
        "pass_label": args.pass_label,
        **_contents(args, frame),
    }
    out = args.output_dir or args.csv.parent
    if args.threshold is not None:
        report = kpi.apply_threshold(frame, args.threshold, **common)
        out.mkdir(parents=True, exist_ok=True)
        write_checked(out / "holdout.json", report, "holdout")
        p = report["point"]
        text = (
            f"at the fixed threshold {args.threshold!r}: FAR {p['far_fraction']:.3%} ({p['fp']} of "
            f"{report['counts']['pass_rows']}), recall {p['recall_fraction']:.3%} ({p['fn']} missed)"
        )
        return f"{text}\n{printable(out / 'holdout.json', 300)}", report
    report = kpi.analyze_and_write(
        frame,
        out,
        recalls=recalls,
        seconds_per_call=args.seconds_per_call,
        plots=not args.no_plots,
        bins=args.bins,
        **common,
    )
    return f"{report['verdict_sentence']}\n{printable(out / 'summary.txt', 300)}", report


def _contents(args: argparse.Namespace, frame: pd.DataFrame) -> dict[str, Any]:
    if (args.spec is None) != (args.images_dir is None):
        raise UsageError("--spec and --images-dir go together: both say how rows name images")
    if args.spec is None:
        return {}
    from deft_aoi.analysis.identity import ContentIndex

    layout = specs.layout(specs.load_spec(given(args.spec)), args.images_dir.resolve())
    ids = ContentIndex(args.cache_dir or cache_home() / "digests").digest_pairs(frame, layout, what=args.csv.name)
    return {"content_ids": ids["content_id"], "featureless": ids["featureless"]}


def gaps_command(args: argparse.Namespace) -> Outcome:
    """``analyze_gaps.py``."""
    from deft_aoi.analysis import gaps, kpi, spot_check
    from deft_aoi.analysis.score_table import read_scores

    if not 0 < args.min_recall <= 1 or args.top_k_per_label < 1:
        raise UsageError("--min-recall must be in (0, 1] and --top-k-per-label at least 1")
    spec = specs.load_spec(given(args.spec))
    module = str(specs.get(spec, "model.classify.difference_module") or "euclidean")
    if specs.engine_for(spec) == "embedded" and specs.get(spec, "model.classify.difference_module") is None:
        module = "learnable"  # the embedded engine's default (its score is a probability)
    margin = specs.get(spec, "model.classify.eval_margin", 2.0)
    layout = specs.layout(spec, args.images_dir.resolve())
    frame = read_scores(args.csv)
    threshold = args.threshold
    if threshold is None:
        threshold = kpi.analyze(frame, recalls=(args.min_recall,))["target_point"]["threshold"]
    excluded = spot_check.excluded_ids(args.spot_check) if args.spot_check else ()
    found = gaps.find_gaps(
        frame,
        threshold,
        layout=layout,
        difference_module=module,
        eval_margin=margin,
        top_k_per_label=args.top_k_per_label,
        excluded=excluded,
    )
    metrics = gaps.write_outputs(
        found,
        frame,
        threshold,
        args.output_dir,
        band=gaps.margin_band(threshold, module, margin),
        recall_fraction=args.min_recall,
        top_k_per_label=args.top_k_per_label,
        excluded=excluded,
        images=not args.no_images,
    )
    text = (
        f"{metrics['gap_samples']} weak samples ({metrics['gap_rows']} images) at threshold {threshold!r}: FAR "
        f"{metrics['far_fraction']:.3%}, recall {metrics['recall_fraction']:.3%}\n{printable(args.output_dir, 300)}"
    )
    return text, metrics


def _open(args: argparse.Namespace) -> tuple[Workspace, dict[str, Any], ContentIndex]:
    from deft_aoi.analysis.identity import ContentIndex

    workspace = Workspace.at(args.workspace)
    if not workspace.baseline_spec.is_file():
        raise Blocked("the workspace has no spec", expected=str(workspace.baseline_spec))
    return workspace, specs.load_spec(workspace.baseline_spec), ContentIndex(workspace.cache_dir / "digests")


def _references(workspace: Workspace, spec: dict[str, Any], index: ContentIndex) -> list[Part]:
    """Validation, KPI and hold-out set of a workspace, those that exist."""
    layout = specs.layout(spec, workspace.kpi_images)
    sets = (
        ("validation set", workspace.validation_csv),
        ("KPI set", workspace.kpi_csv),
        ("hold-out set", workspace.holdout_csv),
    )
    return [index.part(name, read_changenet_csv(path, what=name), layout) for name, path in sets if path.is_file()]


def assemble_command(args: argparse.Namespace) -> Outcome:
    """``assemble_training_csv.py``."""
    from deft_aoi.analysis import dataset
    from deft_aoi.contract.changenet_csv import csv_text
    from deft_aoi.contract.files import atomic_write_text

    if args.iteration < 1 or (args.iteration > 1) != (args.previous is not None):
        raise UsageError(
            "iteration 1 starts from the base training set, later ones from --previous",
            found=f"--iteration {args.iteration}, --previous {args.previous}",
        )
    workspace, spec, index = _open(args)
    layout = specs.layout(spec, workspace.root)
    provenance = None
    if args.previous is None:
        base = read_changenet_csv(workspace.training_csv, what="training set")
        rows = dataset.relative_rows(base, workspace.kpi_images, workspace.root)
    else:
        rows = read_changenet_csv(given(args.previous), what="previous training set")
        provenance = dataset.read_provenance(provenance_path(given(args.previous)))
    mined = read_changenet_csv(given(args.mined), what="mined rows")
    previous = index.part("previous training set", rows, layout)
    frame, record = dataset.assemble(
        previous,
        index.part("mined rows", mined, layout),
        iteration=args.iteration,
        previous_provenance=provenance,
    )
    args.output_dir.mkdir(parents=True, exist_ok=True)
    target = args.output_dir / f"train_combined_iter{args.iteration}.csv"
    checked = dataset.validate(
        frame,
        layout=layout,
        index=index,
        against=_references(workspace, spec, index),
        previous=previous,
        provenance=record,
    )
    atomic_write_text(provenance_path(target), csv_text(record))
    write_changenet_csv(frame, target)
    growth = dataset.class_counts(record)
    text = (
        f"{len(frame)} rows: {len(rows)} before, {len(mined)} mined; synthetic share {growth['sdg_fraction']:.1%}\n"
        f"{printable(target, 300)}"
    )
    return text, {"csv": str(target), "check": checked, "growth": growth}


def provenance_path(training_csv: Path) -> Path:
    """The provenance file of a training CSV: ``<stem>_provenance.csv`` beside it."""
    return training_csv.with_name(f"{training_csv.stem}_provenance.csv")


def validate_command(args: argparse.Namespace) -> Outcome:
    """``validate_training_csv.py``."""
    from deft_aoi.analysis import dataset
    from deft_aoi.analysis.dataset_rules import findings
    from deft_aoi.contract.paths import resolve_under

    workspace, spec, index = _open(args)
    layout = specs.layout(spec, resolve_under(workspace.root, args.images_dir))
    frame = read_changenet_csv(given(args.csv), what=args.csv.name)
    beside = provenance_path(given(args.csv))
    provenance = dataset.read_provenance(beside) if beside.is_file() else None
    previous = None
    if args.previous is not None:
        previous = _previous(given(args.previous), workspace, spec, index)
    against = _references(workspace, spec, index)
    if args.write_fixed is not None:
        part = index.part(args.csv.name, frame, layout)
        found = findings(part, provenance=provenance, previous=previous, against=against)
        clean, removed = dataset.propose_clean(frame, found)
        if removed:
            write_changenet_csv(clean, args.write_fixed)
            raise HardStop(
                f"{len(removed)} row(s) break a rule; a proposed clean copy is written",
                expected=found[0].expected,
                found=removed[0],
                hint=f"compare and use {printable(args.write_fixed, 300)}",
            )
    counts = dataset.validate(
        frame,
        layout=layout,
        index=index,
        against=against,
        previous=previous,
        provenance=provenance,
        name=args.csv.name,
    )
    labels = ", ".join(f"{shown_label(k, 24)} {v}" for k, v in list(counts["labels"].items())[:8])
    text = (
        f"{counts['rows']} rows ({counts['distinct']} distinct, {counts['featureless']} featureless) hold: {labels}\n"
        f"no content shared with {', '.join(f'{k} ({v})' for k, v in counts['compared_with'].items()) or 'no other set'}"
    )
    return text, counts


def _previous(path: Path, workspace: Workspace, spec: dict[str, Any], index: ContentIndex) -> Part:
    from deft_aoi.analysis import dataset

    rows = read_changenet_csv(path, what="previous training set")
    if path.resolve() == workspace.training_csv:
        rows = dataset.relative_rows(rows, workspace.kpi_images, workspace.root)
    layout: ImageLayout = specs.layout(spec, workspace.root)
    return index.part("previous training set", rows, layout)


def spot_check_command(args: argparse.Namespace) -> Outcome:
    """``record_spot_check.py``."""
    import re

    from deft_aoi.analysis import spot_check
    from deft_aoi.contract.paths import RunPaths

    paths = RunPaths(args.results_dir.resolve())
    file = paths.run / spot_check.FILE_NAME
    if args.list:
        record = spot_check.load(file)
        lines = [f"{e['verdict']:<13} {quoted(e['sample_id'], 120)}: {quoted(e['note'], 100)}" for e in record["verdicts"][:12]]
        return "\n".join([f"{len(record['verdicts'])} verdicts in {printable(file, 300)}", *lines]), record
    if not args.picture and not (args.sample_id and args.verdict):
        raise UsageError("--picture N=VERDICT, or --sample-id and --verdict are needed, or --list")
    if not re.fullmatch(r"baseline|iter[1-9][0-9]*", args.iteration):
        raise UsageError("--iteration must be baseline or iterN", found=printable(args.iteration, 40))
    folder = paths.stage_dir(args.iteration, "rca")
    found = sorted(folder.glob("*/kpi_gaps.parquet")) or sorted(folder.glob("kpi_gaps.parquet"))
    if not found:
        raise Blocked("this iteration has no root-cause analysis yet", expected=f"kpi_gaps.parquet below {folder}")
    judged = _by_picture(found[-1].parent, args.picture) if args.picture else [(args.sample_id, args.verdict)]
    known = _sample_ids(found[-1])
    for sample_id, verdict in judged:
        record = spot_check.record(
            file, sample_id=sample_id, verdict=verdict, by=args.by, iteration=args.iteration, note=args.note, known=known
        )
    counts = ", ".join(f"{k} {v}" for k, v in spot_check.tally(file).items() if v)
    what = f"{quoted(judged[0][0], 120)} is {judged[0][1]}" if len(judged) == 1 else f"{len(judged)} samples"
    return f"recorded: {what} (in all: {counts})", record


def _by_picture(folder: Path, given: list[str]) -> list[tuple[str, str]]:
    """``N=VERDICT`` of the numbered overview as (sample id, verdict); all are checked before any is recorded.

    Raises:
        UsageError: not of that form, no such picture, or no such verdict.
    """
    from deft_aoi.analysis import spot_check
    from deft_aoi.contract import schema

    pictures = schema.read_checked(folder / "metrics.json", "metrics")["images"]
    judged = []
    for text in given:
        number, _, verdict = text.partition("=")
        known = number.isascii() and number.isdigit() and 1 <= int(number) <= len(pictures)
        if not known or verdict not in spot_check.VERDICTS:
            raise UsageError(
                "--picture takes the number of a picture and a verdict",
                expected=f"N=VERDICT, N from 1 to {len(pictures)}, one of {', '.join(spot_check.VERDICTS)}",
                found=printable(text, 60),
            )
        judged.append((str(pictures[int(number) - 1]["sample_id"]), verdict))
    return judged


def _sample_ids(gaps: Path) -> set[str]:
    import pyarrow.parquet as pq

    return set(pq.read_table(gaps, columns=["sample_id"]).column("sample_id").to_pylist())
