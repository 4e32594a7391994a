"""``register_goldens.py``: arguments to words."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from deft_aoi.analysis.identity import ContentIndex
from deft_aoi.analysis.registered_goldens import Preprocessing, register_rows, shift_table
from deft_aoi.analysis.registration_trial import distribution
from deft_aoi.contract import spec as specs
from deft_aoi.contract.changenet_csv import csv_text
from deft_aoi.contract.errors import HardStop, UsageError
from deft_aoi.contract.files import atomic_write_text
from deft_aoi.contract.paths import digest_cache_home, given
from deft_aoi.contract.schema import read_checked
from deft_aoi.loop.config import MAX_SHIFT_PX
from deft_aoi.loop.infer import find_model, refuse_missing
from deft_aoi.loop.new_boards import changenet_boards


def register_from(args: argparse.Namespace) -> tuple[str, dict[str, Any]]:
    """Run ``register_goldens.py``'s arguments.

    Raises:
        UsageError: a limit out of range, or one beside a model that has its own.
        HardStop: the rows break their contract, or the model was trained on goldens as they lie.
    """
    spec, how = _model(Path(args.model), args.limit) if args.model else _spec(Path(args.spec), args.limit)
    boards = changenet_boards(given(args.csv), Path(args.images))
    frame, known, images = boards.frame, boards.known, boards.images
    refuse_missing(frame, spec, images)
    out = Path(args.output).expanduser().resolve()
    out.mkdir(parents=True, exist_ok=True)
    layout = specs.layout(spec, images)
    ids = ContentIndex(digest_cache_home()).digest_pairs(frame, layout, what="boards")
    registered, measured = register_rows(frame, layout, ids, how, root=out / "goldens", cache=out)
    shown = frame if known else frame.drop(columns="label")
    table = shift_table(shown, ids, measured)
    atomic_write_text(out / "registered.csv", csv_text(registered if known else registered.drop(columns="label")))
    atomic_write_text(out / "shifts.csv", csv_text(table))
    doubtful = [m.needs_a_person for m in measured]
    atomic_write_text(out / "look_at.csv", csv_text(table[doubtful]))
    body = {"preprocessing": how.as_dict(), "output": str(out), "look_at": sum(doubtful), **distribution(measured, how)}
    text = (
        f"{len(frame):,} goldens, {100 * body['moved_fraction']:.2g}% moved, 95% by {body['p95_px']:g} px or less, "
        f"{100 * body['at_limit_fraction']:.2g}% at the limit; {sum(doubtful)} for a person in look_at.csv\n"
        f"run TAO on {out / 'registered.csv'} with images_dir {images}"
    )
    return text, body


def _model(path: Path, limit: int | None) -> tuple[specs.Spec, Preprocessing]:
    if limit is not None:
        raise UsageError("--limit belongs to --spec: a model has its own parameters", expected="--model without --limit")
    path = find_model(path)
    body: dict[str, Any] = read_checked(path, "best_model")
    required = (body.get("preprocessing") or {}).get("required")
    if required is None:
        raise HardStop(
            "this model was trained on goldens as they lie",
            expected="preprocessing.required in best_model.json",
            found="none",
            hint="feed it your goldens as they are",
        )
    spec = path.resolve().with_name(Path(body["inference_spec"]["path"]).name)
    return specs.load_spec(spec, what="inference spec"), Preprocessing.read(required)


def _spec(path: Path, limit: int | None) -> tuple[specs.Spec, Preprocessing]:
    if limit is not None and not 1 <= limit <= MAX_SHIFT_PX:
        raise UsageError(f"--limit must be from 1 to {MAX_SHIFT_PX}", found=str(limit))
    spec = specs.load_spec(path, what="spec")
    return spec, Preprocessing(*specs.network_size(spec), limit)
