"""Check 11: rows, labels, leakage, and what the KPI set can support."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from deft_aoi.contract import spec as specs
from deft_aoi.contract.errors import HardStop
from deft_aoi.contract.paths import digest_cache_home
from deft_aoi.contract.splits import load_splits
from deft_aoi.contract.text import shown_label
from deft_aoi.loop import primary_metric
from deft_aoi.loop.checks.session import Checklist
from deft_aoi.loop.config import RunConfig


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
        session.add(11, "ok", primary_metric.check(config, session.workspace, session.splits["kpi"].frame))


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
