"""The training set of an iteration: the previous one's rows and what was mined, checked as a whole."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from deft_aoi.analysis import dataset
from deft_aoi.analysis.identity import ContentIndex, Part
from deft_aoi.contract import spec as specs
from deft_aoi.contract.changenet_csv import csv_text, read_changenet_csv, read_table, write_changenet_csv
from deft_aoi.contract.files import atomic_write_text, digest_json, sha256_file
from deft_aoi.loop.context import RunContext, StageResult
from deft_aoi.loop.stages.train import publish_digest
from deft_aoi.record import publish

if TYPE_CHECKING:
    import pandas as pd


def files(ctx: RunContext, label: str) -> tuple[Path, Path]:
    """``(rows, provenance)`` of iteration ``label``."""
    folder = ctx.run.stage_dir(label, "dataset")
    return folder / f"train_combined_{label}.csv", folder / f"train_combined_{label}_provenance.csv"


def previous_training(ctx: RunContext, label: str) -> Part:
    """What iteration ``label`` starts from, workspace-relative, with identities."""
    return training_set(ctx, ctx.previous(label))


def training_set(ctx: RunContext, label: str) -> Part:
    """What iteration ``label`` trains on, workspace-relative, with identities.

    Raises:
        HardStop: an image is not the one that the row came in with.
    """
    layout = specs.layout(ctx.spec, ctx.workspace.root)
    if label == "baseline":
        split = ctx.splits["train"]
        frame = dataset.relative_rows(split.frame, split.layout.images_dir, ctx.workspace.root)
        return Part("base training set", frame, layout, ctx.identities["train"])
    frame = read_changenet_csv(files(ctx, label)[0], what=f"training set of {label}")
    part = ContentIndex(ctx.digest_cache).part(f"training set of {label}", frame, layout)
    recorded = _provenance(ctx, label)
    assert recorded is not None  # every iteration has one
    dataset.require_content(part, recorded["content_id"])
    return part


def _provenance(ctx: RunContext, label: str) -> pd.DataFrame | None:
    if label == "baseline":
        return None
    return read_table(files(ctx, label)[1], what=f"provenance of {label}", mandatory=dataset.PROVENANCE_COLUMNS)


def assemble(ctx: RunContext, label: str, _attempt: int) -> StageResult:
    """Append, then check: existence of every light, labels, duplicates, conflicts, leakage, growth."""
    final = ctx.run.stage_dir(label, "dataset")
    before, number = ctx.previous(label), int(label.removeprefix("iter"))
    layout, index = specs.layout(ctx.spec, ctx.workspace.root), ContentIndex(ctx.digest_cache)
    mined_csv = ctx.run.stage_dir(label, "data_mining") / "mining_pool.csv"
    previous = previous_training(ctx, label)
    inputs = digest_json([sha256_file(mined_csv), list(previous.ids["content_id"])])
    rows_csv, provenance_csv = files(ctx, label)
    if publish.adopt(final, inputs_digest=inputs) is None:
        mined = index.part("mined rows", read_changenet_csv(mined_csv, what="mined rows"), layout)
        dataset.require_content(mined, mined.frame["content_id"])
        frame, provenance = dataset.assemble(previous, mined, iteration=number, previous_provenance=_provenance(ctx, before))
        out = Path(publish.attempt_dir(final, inputs_digest=inputs))
        write_changenet_csv(frame, out / rows_csv.name)
        atomic_write_text(out / provenance_csv.name, csv_text(provenance.astype(str)))
        publish.publish(out, final, inputs_digest=inputs)
    frame = read_changenet_csv(rows_csv, what=f"training set of {label}")
    provenance = read_table(provenance_csv, what=f"provenance of {label}", mandatory=dataset.PROVENANCE_COLUMNS)
    against = [
        Part(f"{name} set", split.frame, split.layout, ctx.identities[name])
        for name, split in ctx.splits.items()
        if name != "train"
    ]
    checked = dataset.validate(
        frame,
        layout=layout,
        index=index,
        against=against,
        previous=previous,
        provenance=provenance,
        name=f"training set of {label}",
    )
    kinds = checked["provenance"]
    state = {"train_rows": len(frame), "train_added": len(frame) - len(previous.frame), "train_sdg": kinds.get("sdg", 0)}
    evidence = {
        "manifest": publish_digest(final),
        "labels": dict(list(checked["labels"].items())[:20]),
        "sources": checked["sources"],
        "provenance": kinds,
        "distinct": checked["distinct"],
    }
    return StageResult(
        f"{label}: {len(previous.frame)} + {len(frame) - len(previous.frame)} = {len(frame)} training rows "
        f"({kinds.get('real', 0)} real, {kinds.get('sdg', 0)} synthetic)",
        state,
        evidence,
    )
