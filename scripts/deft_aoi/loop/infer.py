"""Run a handed-over model on new boards: needs ``best_model.json``, its inference spec and the checkpoint, nothing of the run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deft_aoi import engines
from deft_aoi.analysis.registered_goldens import Preprocessing
from deft_aoi.contract import spec as specs
from deft_aoi.contract.changenet_csv import csv_text, write_changenet_csv
from deft_aoi.contract.checkpoint_scan import scan_checkpoint
from deft_aoi.contract.commands import command
from deft_aoi.contract.errors import HardStop, UsageError
from deft_aoi.contract.files import atomic_write_text, digest_json, sha256_file
from deft_aoi.contract.paths import RunPaths, digest_cache_home
from deft_aoi.contract.schema import read_checked, write_checked
from deft_aoi.contract.text import PASS, is_pass, quoted
from deft_aoi.engines import success
from deft_aoi.loop.boards_page import write_boards_page
from deft_aoi.loop.launch import canceled, one_gpu, wait_for_job
from deft_aoi.loop.new_boards import Boards
from deft_aoi.platforms.base import JobRequest, JobState, get_platform
from deft_aoi.record import log, provenance

if TYPE_CHECKING:
    import pandas as pd


FLAGGED = "NO_PASS"
MAX_ATTEMPTS = 50
TAO_BATCH = 8
"""TAO's own default of ``dataset.classify.batch_size``."""


@dataclass(frozen=True)
class Model:
    """A handed-over model, checked.

    Attributes:
        body: ``best_model.json``.
        spec: its inference spec.
        checkpoint: the checkpoint, with the digest on record.
    """

    body: dict[str, Any]
    spec: specs.Spec
    checkpoint: Path


@dataclass(frozen=True)
class Where:
    """Where the job runs; ``None`` keeps what the model was made with."""

    engine: str | None = None
    platform: str | None = None
    options: dict[str, Any] = field(default_factory=dict)
    image: str | None = None
    tao_python: str | None = None


def find_model(given: Path) -> Path:
    """``best_model.json`` that a person named by its file or by its run's folder.

    Raises:
        HardStop: the folder has none, or the run's record vouches for another one.
    """
    if not given.is_dir():
        return given
    run = RunPaths(given.resolve())
    if not run.best_model.is_file():
        raise HardStop(
            f"{quoted(given.name)} has handed over no model",
            expected=str(run.best_model),
            found="no file",
            hint=f"finish the run, or hand over its best so far: {command('prepare_inference_spec')} --results-dir {given}",
        )
    if run.log.is_file():
        provenance.require(run, log.read(run.root), run.best_model.name)
    return run.best_model


def load_model(model_json: Path, checkpoint: Path | None = None) -> Model:
    """Read ``best_model.json`` and what it names.

    Args:
        model_json: the file, or the folder of its run; its spec and checkpoint are looked for beside it, then where it says.
        checkpoint: where the checkpoint lies now, when it was moved.

    Raises:
        HardStop: a file is missing or is not the one that was handed over.
    """
    model_json = find_model(model_json)
    body: dict[str, Any] = read_checked(model_json, "best_model")
    named = Path(body["inference_spec"]["path"])
    beside = model_json.resolve().with_name(named.name)
    spec_path = beside if beside.is_file() else named
    given = Path(body["checkpoint"]["path"])
    moved = model_json.resolve().with_name(given.name)
    weights = checkpoint or (moved if moved.is_file() else given)
    for what, path, digest in (
        ("inference spec", spec_path, body["inference_spec"]["sha256"]),
        ("checkpoint", weights, body["checkpoint"]["sha256"]),
    ):
        if not path.is_file() or sha256_file(path) != digest:
            raise HardStop(
                f"the {what} is not the one that was handed over",
                expected=f"{path} with sha256 {digest[:16]}",
                found="another file" if path.is_file() else "no file",
                hint="restore it, or hand the model over again: prepare_inference_spec.py --results-dir R",
            )
    scan_checkpoint(weights.resolve())  # the model came with its own digest: from whom, nobody knows
    return Model(body, specs.load_spec(spec_path, what="inference spec"), weights.resolve())


def infer(
    model: Model,
    boards: Boards,
    out: Path,
    *,
    where: Where | None = None,
    progress: Callable[[str], None] = lambda _l: None,
) -> dict[str, Any]:
    """Score new boards and decide at the handed-over threshold.

    Args:
        model: from :func:`load_model`.
        boards: from :mod:`deft_aoi.loop.new_boards`.
        out: output folder; the same command again finds its finished job there.
        where: engine and platform.
        progress: called with live words.

    Returns:
        The object of ``decisions.json``; ``decisions.csv`` has every input column, the score, the decision, the distance
        (score - threshold) and the doubt (``unsure``: inside the margin band around the threshold).

    Raises:
        HardStop: the rows break their contract, or an image is missing.
        JobFailed: the job failed, with its evidence.
    """
    place, band = where or Where(), _band(model)
    target = out.expanduser().resolve()
    name, scores, seen = score_boards(model, boards, target, place, progress)
    return _decide(model, boards, seen, band, scores, target, name, place.platform or model.body["platform"])


def score_boards(
    model: Model, boards: Boards, target: Path, place: Where, progress: Callable[[str], None]
) -> tuple[str, Path, pd.DataFrame]:
    """Register and score, without a decision: the job's name, ``inference.csv``, and the rows as the model saw them."""
    check_engine(model, place)
    refuse_missing(boards.frame, model.spec, boards.images)
    target.mkdir(parents=True, exist_ok=True)
    csv, spec_path = target / "boards.csv", target / "inference_spec.yaml"
    write_changenet_csv(boards.frame, csv)
    seen = _register(model, boards, csv, target)
    specs.dump_spec(_spec(model, csv, boards.images, len(boards.frame)), spec_path)
    key = digest_json([sha256_file(spec_path), sha256_file(csv), model.body["checkpoint"]["sha256"]])[:12]
    inputs = (boards.images,)
    name, folder = run_job(model, place, "inference", f"infer-{key}", spec_path, inputs, target, progress, rows=len(boards.frame))
    return name, folder / "inference.csv", seen


def check_engine(model: Model, place: Where) -> None:
    """Refuse another engine than the model's.

    Raises:
        UsageError: naming both.
    """
    engine = model.body["engine"]
    if place.engine not in (None, engine):
        raise UsageError(
            f"this model belongs to the engine {engine}",
            expected=engine,
            found=quoted(place.engine),
            hint="leave --engine out",
        )


def _band(model: Model) -> tuple[float, float]:
    from deft_aoi.analysis.gaps import margin_band

    threshold = float(model.body["threshold"])
    module = str(specs.get(model.spec, "model.classify.difference_module") or "learnable")
    if module == "euclidean" and threshold <= 0:
        return threshold, threshold  # the band is a share of the threshold
    return margin_band(threshold, module, threshold)


def refuse_missing(frame: pd.DataFrame, spec: specs.Spec, images: Path) -> None:
    missing = specs.layout(spec, images).missing(frame)
    if missing:
        line, column, path = missing[0]
        raise HardStop(
            f"{len(missing)}{' or more' if len(missing) >= 20 else ''} images of the boards are missing",
            expected=str(path),
            found=f"nothing there (row {line}, {column})",
            hint="--images is the folder that input_path and golden_path are relative to",
        )


def _register(model: Model, boards: Boards, csv: Path, out: Path) -> pd.DataFrame:
    """Move the goldens of new boards as those were that the model was trained on; the decisions keep the rows as given.

    Returns:
        The rows as the model sees them.
    """
    required = (model.body.get("preprocessing") or {}).get("required")
    if required is None:
        return boards.frame
    from deft_aoi.analysis.identity import ContentIndex
    from deft_aoi.analysis.registered_goldens import register_rows

    frame, layout = boards.frame, specs.layout(model.spec, boards.images)
    ids = ContentIndex(digest_cache_home()).digest_pairs(frame, layout, what="boards")
    registered, _ = register_rows(frame, layout, ids, Preprocessing.read(required), root=out / "registered", cache=out)
    atomic_write_text(csv, csv_text(registered))
    return registered


def _spec(model: Model, boards: Path, images: Path, rows: int) -> specs.Spec:
    spec = specs.merge(model.spec)
    # TAO refuses a set with fewer rows than one batch, and a few new boards are the rule here.
    batch = specs.get(spec, "dataset.classify.batch_size")
    specs.put(spec, "dataset.classify.batch_size", min(int(batch or TAO_BATCH), rows))
    for split in ("test_dataset", "infer_dataset"):
        specs.put(spec, f"dataset.classify.{split}", {"csv_path": str(boards), "images_dir": str(images)})
    return spec


def run_job(
    model: Model,
    place: Where,
    subtask: str,
    key: str,
    spec: Path,
    inputs: tuple[Path, ...],
    out: Path,
    progress: Callable[[str], None],
    *,
    rows: int | None = None,
    overrides: tuple[str, ...] = (),
) -> tuple[str, Path]:
    """Start a job of the model's engine, or find it again by its ``key``, and judge its evidence.

    ``subtask`` is ``inference`` (which must have scored ``rows``) or ``export``; its results go into a folder of that name
    below ``out``. ``inputs`` are folders that it reads beside the checkpoint's, ``overrides`` settings beside its own.

    Returns:
        The job's name and its results folder.

    Raises:
        JobFailed: with its evidence.
    """
    platform_name = place.platform or model.body["platform"]
    platform, jobs = get_platform(platform_name, place.options), out / "jobs"
    jobs.mkdir(exist_ok=True)
    for attempt in range(1, MAX_ATTEMPTS):
        name = f"deft-{key}" + (f"-a{attempt}" if attempt > 1 else "")
        if platform.status(name, jobs).state not in (JobState.ERROR, JobState.CANCELED):
            break
    results = out / subtask
    results.mkdir(exist_ok=True)
    log_path = results / f"{subtask}.log"
    settings = (f"{subtask}.results_dir={results}", f"{subtask}.checkpoint={model.checkpoint}", *overrides)
    platform.submit(_request(model, place, platform_name, name, subtask, settings, spec, inputs, out, log_path), jobs)
    status = wait_for_job(platform, name, jobs, progress=lambda it: progress(f"{subtask}: {it.state.value}"), say=progress)
    if status.state == JobState.CANCELED:
        raise canceled(f"the job {name} was canceled")
    success.check(
        subtask,
        results,
        exit_code=status.exit_code,
        log_path=log_path,
        launched_ns=status.started_ns or 0,
        expected_rows=rows,
        reason=status.detail if status.state != JobState.COMPLETE else "",
    )
    return name, results


def _request(
    model: Model,
    place: Where,
    platform: str,
    name: str,
    subtask: str,
    settings: tuple[str, ...],
    spec: Path,
    inputs: tuple[Path, ...],
    out: Path,
    log_path: Path,
) -> JobRequest:
    engine, image = model.body["engine"], model.body["image"] or {}
    reference = place.image or image.get("reference")
    containers = platform != "local"
    argv = engines.command(
        engine,
        "visual_changenet",
        subtask,
        spec,
        settings,
        place.tao_python,
        container=containers and bool(reference),
    )
    backbone = model.body["backbone"]["path"]
    return JobRequest(
        name=name,
        argv=argv,
        cwd=str(log_path.parent),
        log_path=str(log_path),
        env=engines.environment(engine),
        gpus=one_gpu(engine, get_platform(platform, place.options)),
        read_only=(*inputs, model.checkpoint.parent, *((Path(backbone).parent,) if backbone else ())),
        writable=(out,),
        image=reference if containers else None,
        image_digest=image.get("id") if platform == model.body["platform"] and not place.image else None,
        python=place.tao_python,
    )


def _decide(
    model: Model,
    boards: Boards,
    seen: pd.DataFrame,
    band: tuple[float, float],
    scores_csv: Path,
    out: Path,
    job: str,
    platform: str,
) -> dict[str, Any]:
    from deft_aoi.analysis.score_table import attach_scores, read_scores

    frame, known = boards.frame, boards.known
    scores = attach_scores(frame, read_scores(scores_csv))["siamese_score"].to_numpy(dtype=float)
    threshold = float(model.body["threshold"])
    flagged = scores > threshold
    unsure = (scores >= band[0]) & (scores <= band[1])
    table = frame if known else frame.drop(columns="label")
    decided = table.assign(
        siamese_score=[repr(float(s)) for s in scores],
        decision=[FLAGGED if f else PASS for f in flagged],
        distance=[repr(float(s)) for s in scores - threshold],
        doubt=["unsure" if u else "" for u in unsure],
    )
    csv = out / "decisions.csv"
    atomic_write_text(csv, csv_text(decided))
    body = {
        "version": 1,
        "model": {
            "run": model.body["run"],
            "iteration": model.body["iteration"],
            "checkpoint_sha256": model.body["checkpoint"]["sha256"],
            "status": model.body["status"],
            "verdict": model.body["verdict"],
        },
        "engine": model.body["engine"],
        "platform": platform,
        "job": job,
        "rule": "score > threshold: defect",
        "threshold": threshold,
        "rows": len(frame),
        "flagged": int(flagged.sum()),
        "passed": int((~flagged).sum()),
        "unsure": int(unsure.sum()),
        "unsure_band": list(band),
        "decisions_csv": {"path": str(csv), "sha256": sha256_file(csv)},
        "measured": _measured(model, boards, scores) if known else None,
        "review": write_boards_page(out, boards, seen, decided, specs.layout(model.spec, boards.images), model.body),
    }
    write_checked(out / "decisions.json", body, "decisions")
    return body


def _measured(model: Model, boards: Boards, scores: Any) -> dict[str, Any] | None:
    """FAR and recall over distinct contents, as the model's verdict counts, where the boards hold both classes."""
    frame = boards.frame
    good = frame["label"].map(is_pass).to_numpy()
    if good.all() or not good.any():
        return None
    from deft_aoi.analysis import kpi
    from deft_aoi.analysis.identity import ContentIndex

    ids = ContentIndex(digest_cache_home()).digest_pairs(frame, specs.layout(model.spec, boards.images), what="boards")
    point = kpi.apply_threshold(
        frame.assign(siamese_score=scores),
        float(model.body["threshold"]),
        content_ids=ids["content_id"].to_numpy(),
        featureless=ids["featureless"].to_numpy(),
    )["point"]
    keys = ("far_fraction", "far_interval", "recall_fraction", "recall_interval", "tp", "fp", "tn", "fn")
    return {k: point[k] for k in keys}
