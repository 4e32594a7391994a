"""Check 11: rows, labels, leakage, and what the KPI set can support."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from deft_aoi.contract import spec as specs
from deft_aoi.contract.errors import Blocked, HardStop
from deft_aoi.contract.paths import Workspace, digest_cache_home
from deft_aoi.contract.splits import load_splits
from deft_aoi.contract.text import printable, shown_label
from deft_aoi.loop.checks.session import Checklist
from deft_aoi.loop.config import RunConfig

if TYPE_CHECKING:
    import pandas as pd


def check_data(session: Checklist) -> None:
    """Every CSV by its contract, every image that it names, both classes where both are needed."""
    from deft_aoi.analysis.identity import identities_of
    from deft_aoi.workspaces.good_labels import named_defects

    said = named_defects(session.workspace.root, session.config.defect_labels if session.config else ())

    session.splits = load_splits(session.workspace, session.spec)
    for name, split in session.splits.items():
        labels = split.label_counts()
        if name in ("train", "kpi") and ("PASS" not in labels or len(labels) < 2):
            raise HardStop(
                f"the {name} set has {'no PASS rows' if 'PASS' not in labels else 'no defect rows'}",
                expected="both PASS and defect rows",
                found=", ".join(f"{shown_label(k, 30)}: {v}" for k, v in labels.items()),
                hint="add rows of the missing class: both PASS (in capitals, as TAO compares it) and defect rows are needed",
            )
        _refuse_good(f"{name} set", labels, said)
        session.identities[name] = identities_of(split, digest_cache_home())
        text = ", ".join(f"{shown_label(k, 20)} {v}" for k, v in list(labels.items())[:10])
        session.add(11, "ok", f"{name}: {len(split.frame)} rows ({text})")
    from deft_aoi.mining import pool

    real, _rules = pool.read_real_rows(session.workspace, specs.lights(session.spec), specs.image_ext(session.spec))
    _refuse_good("mining pool", {str(k): int(v) for k, v in real["label"].value_counts().items()}, said)
    session.add(11, "ok", f"mining pool: {len(real)} rows, every image found")
    if "holdout" not in session.splits:
        session.add(11, "warn", "no kpi/holdout_set.csv: the final estimate is made by splitting the KPI set by board")


def _refuse_good(what: str, labels: Mapping[str, int], said: Sequence[str]) -> None:
    from deft_aoi.workspaces.good_labels import good_as_defect

    good = [label for label, _rows in good_as_defect(labels, said)]
    if good:
        raise HardStop(
            f"{what}: the label {shown_label(good[0])} means a good part and would be trained as a defect",
            expected="good parts labelled PASS",
            found=", ".join(f"{shown_label(label, 30)}: {labels[label]} rows" for label in good),
            hint=f"write PASS (check_data.py --write-fixed does); where it is a defect: --defect-label {shown_label(good[0])}",
        )


def check_leakage(session: Checklist) -> None:
    """No training row may be a validation, KPI or hold-out row, by content."""
    from deft_aoi.analysis import leakage
    from deft_aoi.analysis.identity import Part

    splits = session.splits
    parts = {n: Part(f"{n} set", s.frame, s.layout, session.identities[n]) for n, s in splits.items()}
    for other in ("validation", "kpi", "holdout"):
        if other in parts:
            leakage.refuse_leaks(parts["train"], parts[other])
    shared = leakage.shared_boards(splits["train"].frame, splits["kpi"].frame)
    if shared:
        session.add(11, "warn", f"{len(shared)} boards are in both the training and the KPI set")
    for other in ("validation", "kpi", "holdout"):
        if other not in parts:
            continue
        near = leakage.near_duplicates(parts["train"], parts[other])
        if not len(near):
            continue
        stop = leakage.near_stop(parts["train"].name, parts[other].name, near)
        if not (session.config and session.config.allow_near_duplicates):
            raise stop
        session.add(11, "warn", f"allowed by --allow-near-duplicates: {stop.message} (found: {stop.found})")


def check_metric(session: Checklist, config: RunConfig) -> None:
    """The user's own primary metric, run once on the KPI set's labels."""
    if config.primary_metric is not None:
        session.add(11, "ok", _check_criteria(config, session.workspace, session.splits["kpi"].frame))


def check_statistics(session: Checklist, config: RunConfig) -> None:
    """Whether this KPI set can support the target at all."""
    from deft_aoi.analysis.intervals import sample_size_for
    from deft_aoi.workspaces.crop_size import large_crops, middle_side

    for note in large_crops(middle_side(session.identities["train"]["test_thumb"]), session.spec):
        message, _, fix = note.partition("; ")
        session.add(11, "warn", message, fix)
    frame, ids = session.splits["kpi"].frame, session.identities["kpi"]
    good = (frame["label"] == "PASS").to_numpy()
    distinct = int(ids.loc[good, "content_id"].nunique())
    needed = sample_size_for(config.target.far_fraction)
    if distinct < needed:
        session.add(
            11,
            "warn",
            f"the KPI set has {int(good.sum())} PASS rows ({distinct} distinct); a FAR target of "
            f"{100 * config.target.far_fraction:g}% needs {needed} without a false alarm to be supported at 95%",
            "collect more good parts; until then the verdict says 'not yet supported by the sample size'",
        )


def _check_criteria(config: RunConfig, workspace: Workspace, kpi_rows: pd.DataFrame) -> str:
    """Find before the go what would only fail after a training.

    Returns:
        A line for the checks.

    Raises:
        HardStop: a criterion names a value that the KPI report of this KPI set does not have.
        Blocked: the command's program is missing.
    """
    from deft_aoi.analysis import kpi, metric, metric_values

    plan = config.primary_metric
    assert plan is not None  # the caller asked
    # Any scores will do: which values a report offers depends on the labels and the recalls alone.
    scores = (kpi_rows["label"] != "PASS").astype(float)
    report = kpi.analyze(kpi_rows.assign(siamese_score=scores), target=config.target, seconds_per_call=config.seconds_per_call)
    builtin = metric_values.builtin_values(report)
    theirs = {c.name: c.target for c in plan.criteria if not plan.is_builtin(c)}
    metric.evaluate_criteria(plan, metric_values.combine(plan, builtin, theirs))
    if plan.argv:
        program = plan.argv[0].replace("{workspace}", str(workspace.root))
        if shutil.which(program) is None:
            raise Blocked(
                "the program of the metric command cannot be run",
                expected="an absolute path, {workspace}/…, or a name on PATH",
                found=printable(program, 200),
            )
    return f"primary metric {plan.primary.text}: every built-in value of its criteria exists"
