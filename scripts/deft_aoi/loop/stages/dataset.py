"""The training set of an iteration: the previous one's rows and what was mined, checked as a whole."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from deft_aoi.analysis import dataset, dataset_files
from deft_aoi.analysis.identity import ContentIndex, Part
from deft_aoi.contract import spec as specs
from deft_aoi.contract.changenet_csv import read_changenet_csv
from deft_aoi.contract.files import digest_json, sha256_file
from deft_aoi.loop import champion
from deft_aoi.loop.context import RunContext, StageResult
from deft_aoi.record import publish
from deft_aoi.record.publish import publish_digest

if TYPE_CHECKING:
    import pandas as pd


def rows_csv(ctx: RunContext, label: str) -> Path:
    """The training set of iteration ``label``; its provenance is beside it."""
    return dataset_files.training_csv(ctx.run.stage_dir(label, "dataset"), label)


def previous_training(ctx: RunContext, label: str) -> Part:
    """What iteration ``label`` starts from, workspace-relative, with identities."""
    return training_set(ctx, ctx.previous(label))


def training_set(ctx: RunContext, label: str) -> Part:
    """What iteration ``label`` trains on, workspace-relative, with identities.

    Raises:
        HardStop: an image is not the one that the row came in with.
    """
    if label == "baseline":
        import pandas as pd

        base = dataset_files.base_training_set(ctx.splits["train"], ctx.workspace, ctx.identities["train"])
        rows = _champion_rows(ctx)
        if rows is None:
            return base
        index = ContentIndex(ctx.digest_cache)
        part = index.part("champion's rows", rows.drop(columns=["provenance", "content_id"]), base.layout)
        dataset.require_content(part, rows["content_id"])
        frame, ids = (pd.concat(both, ignore_index=True) for both in ([base.frame, part.frame], [base.ids, part.ids]))
        return Part("base training set and champion's rows", frame.fillna(""), base.layout, ids)
    frame = read_changenet_csv(rows_csv(ctx, label), what=f"training set of {label}")
    layout = specs.layout(ctx.spec, ctx.workspace.root)
    part = ContentIndex(ctx.digest_cache).part(f"training set of {label}", frame, layout)
    recorded = _provenance(ctx, label)
    assert recorded is not None  # every iteration has one
    dataset.require_content(part, recorded["content_id"])
    return part


def _provenance(ctx: RunContext, label: str) -> pd.DataFrame | None:
    if label != "baseline":
        return dataset.read_provenance(dataset_files.provenance_path(rows_csv(ctx, label)))
    rows = _champion_rows(ctx)
    return None if rows is None else dataset.with_earlier_rows(training_set(ctx, label), rows)


def _champion_rows(ctx: RunContext) -> pd.DataFrame | None:
    """Rows of the model that this run continues from, beside the workspace's training set; ``None`` where there are none."""
    path = ctx.run.stage_dir("baseline", "train") / champion.ROWS
    return read_changenet_csv(path, what="champion's rows") if path.is_file() else None


def assemble(ctx: RunContext, label: str, _attempt: int) -> StageResult:
    """Append, then check: existence of every light, labels, duplicates, conflicts, leakage, growth."""
    final = ctx.run.stage_dir(label, "dataset")
    before, number = ctx.previous(label), int(label.removeprefix("iter"))
    index = ContentIndex(ctx.digest_cache)
    mined_csv = ctx.run.stage_dir(label, "data_mining") / "mining_pool.csv"
    previous = previous_training(ctx, label)
    inputs = digest_json([sha256_file(mined_csv), list(previous.ids["content_id"])])
    csv = rows_csv(ctx, label)
    if publish.adopt(final, inputs_digest=inputs) is None:
        frame, provenance = dataset_files.assemble_file(
            previous, mined_csv, iteration=number, index=index, recorded=_provenance(ctx, before)
        )
        out = Path(publish.attempt_dir(final, inputs_digest=inputs))
        dataset_files.write_training_set(frame, provenance, out / csv.name)
        publish.publish(out, final, inputs_digest=inputs)
    frame, recorded = read_changenet_csv(csv, what=f"training set of {label}"), _provenance(ctx, label)
    checked = dataset.validate(
        frame,
        layout=previous.layout,
        index=index,
        against=list(ctx.held_out.values()),
        previous=previous,
        provenance=recorded,
        name=f"training set of {label}",
        allow_near=ctx.config.allow_near_duplicates,
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
