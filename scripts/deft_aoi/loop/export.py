"""``export_model.py``: the handed-over model as ONNX, and the proof that it decides as the engine does.

The engine's own ``visual_changenet export`` makes the graph, as a job. Then the same rows are scored by the engine and by
ONNX Runtime from images that were prepared as a station would: ``export.json`` has the largest difference of score and every
decision that changed. A graph that decides otherwise anywhere outside the engine's score noise is deleted.
"""

from __future__ import annotations

import argparse
import importlib.util
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from deft_aoi.analysis.constants import SCORE_NOISE
from deft_aoi.analysis.dataset import relative_rows
from deft_aoi.analysis.identity import image_paths
from deft_aoi.analysis.score_table import attach_scores, read_scores
from deft_aoi.contract import spec as specs
from deft_aoi.contract.changenet_csv import MANDATORY
from deft_aoi.contract.errors import Blocked, HardStop, UsageError
from deft_aoi.contract.files import copy_hashed, digest_json, sha256_file
from deft_aoi.contract.images import open_image
from deft_aoi.contract.paths import RunPaths, given
from deft_aoi.contract.schema import write_checked
from deft_aoi.contract.splits import load_splits
from deft_aoi.loop.infer import Model, Where, find_model, load_model, run_job, score_boards
from deft_aoi.loop.new_boards import Boards, changenet_boards
from deft_aoi.mining.pool import read_real_rows

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

ONNX, RECORD = "model.onnx", "export.json"
NEEDED = ("onnx", "onnxscript", "onnxruntime")
MIN_ROWS, MAX_ROWS, BATCH = 500, 2_000, 32


def export_model(args: argparse.Namespace, progress: Callable[[str], None]) -> dict[str, Any]:
    """Export, compare, and write ``export.json``.

    Args:
        args: ``model``, ``output``, and ``csv`` with ``images`` or neither.
        progress: called with live words.

    Returns:
        The object of ``export.json``.

    Raises:
        Blocked: a package of the extra ``export`` is missing.
        HardStop: too few rows to compare, or the graph lost parity (it is deleted).
    """
    path = find_model(Path(args.model))
    model, out = load_model(path), Path(args.output).expanduser().resolve()
    embedded = model.body["engine"] == "embedded"
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if embedded and missing:
        raise Blocked(
            f"{', '.join(missing)} is not installed", expected="the extra export", hint=f"pip install {' '.join(NEEDED)}"
        )
    out.mkdir(parents=True, exist_ok=True)
    for name in (ONNX, RECORD):
        (out / name).unlink(missing_ok=True)  # of an earlier call
    boards = _boards(args, model, path) if embedded else None
    made = _export(model, out, progress)
    parity = None
    if boards is not None:
        parity = _compare(model, boards, made, out, progress)
        if parity["changed_decisions"]:
            made.unlink()
            raise HardStop(
                f"the exported graph lost parity: {parity['changed_decisions']} of {parity['rows']:,} decisions changed",
                expected=f"the engine's decision wherever its score is further than {parity['noise']:g} from the threshold",
                found=f"largest difference of score {parity['largest_difference']:.3g}",
                hint="use another version of onnxruntime, or score with infer.py",
            )
    target = out / ONNX
    copy_hashed(made, target)
    body = {
        "version": 1,
        "model": {key: model.body[key] for key in ("run", "iteration", "engine")}
        | {"checkpoint_sha256": model.body["checkpoint"]["sha256"]},
        "onnx": {"path": str(target), "sha256": sha256_file(target), "size_bytes": target.stat().st_size},
        "threshold": model.body["threshold"],
        "rule": model.body["rule"],
        "preprocessing": (model.body.get("preprocessing") or {}).get("required"),
        "parity": parity,
    }
    write_checked(out / RECORD, body, "export")
    return body


def _boards(args: argparse.Namespace, model: Model, path: Path) -> Boards:
    """The rows that parity is shown on: what was named, else the workspace of the model's run."""
    if specs.has_several_goldens(model.spec) or specs.get(model.spec, "dataset.classify.concat_type") == "grid":
        raise HardStop("this model's input is not exported", expected="one golden a part, lights below one another")
    if (args.csv is None) != (args.images is None):
        raise UsageError("--csv and --images go together")
    boards = changenet_boards(given(args.csv), given(args.images)) if args.csv else _own_rows(path)
    if len(boards.frame) < MIN_ROWS:
        raise HardStop(
            "there are too few rows to show parity",
            expected=f"at least {MIN_ROWS}",
            found=f"{len(boards.frame)}",
            hint="name a larger set: --csv FILE --images DIR",
        )
    return Boards(boards.frame.head(MAX_ROWS).reset_index(drop=True), boards.known, boards.images)


def _own_rows(path: Path) -> Boards:
    import pandas as pd

    workspace = RunPaths(path.parent).workspace
    if not workspace.baseline_spec.is_file():
        raise UsageError(
            "which rows shall show parity is not said", expected="--csv with --images, or a run inside its workspace"
        )
    spec = specs.load_spec(workspace.baseline_spec, what="baseline spec")
    splits = load_splits(workspace, spec)
    frames = [relative_rows(splits[n].frame, splits[n].layout.images_dir, workspace.root) for n in reversed(splits)]
    frames.append(read_real_rows(workspace, specs.lights(spec), specs.image_ext(spec))[0])
    whole = pd.concat([frame[list(MANDATORY)] for frame in frames], ignore_index=True)
    once = whole.drop_duplicates(["input_path", "golden_path", "object_name"], ignore_index=True)
    return Boards(once, False, workspace.root)


def _export(model: Model, out: Path, progress: Callable[[str], None]) -> Path:
    spec_path = out / "export_spec.yaml"
    specs.dump_spec(model.spec, spec_path)
    key = digest_json([sha256_file(spec_path), model.body["checkpoint"]["sha256"]])[:12]
    made = out / "export" / ONNX
    if not made.is_file():
        shutil.rmtree(out / "jobs", ignore_errors=True)  # of a graph that lost parity: a finished job would be found again
    width, height = specs.network_size(model.spec)
    overrides = (f"export.onnx_file={made}", f"export.input_width={width}", f"export.input_height={height}")
    run_job(model, Where(), "export", f"export-{key}", spec_path, (), out, progress, overrides=overrides)
    return made


def _compare(model: Model, boards: Boards, made: Path, out: Path, progress: Callable[[str], None]) -> dict[str, Any]:
    _name, csv, seen = score_boards(model, boards, out / "parity", Where(), progress)
    engine = attach_scores(boards.frame, read_scores(csv))["siamese_score"].to_numpy(dtype=float)
    progress("comparing with ONNX Runtime")
    ours, version = _onnx_scores(made, model.spec, boards, seen)
    threshold = float(model.body["threshold"])
    changed = (engine > threshold) != (ours > threshold)
    near = np.abs(engine - threshold) <= SCORE_NOISE
    return {
        "rows": len(engine),
        "largest_difference": float(np.abs(engine - ours).max()),
        "changed_decisions": int((changed & ~near).sum()),
        "changed_within_noise": int((changed & near).sum()),
        "noise": SCORE_NOISE,
        "onnxruntime": version,
    }


def _onnx_scores(made: Path, spec: specs.Spec, boards: Boards, seen: pd.DataFrame) -> tuple[NDArray[np.float64], str]:
    """What a station gets: images decoded, resized and stacked as the metadata says; goldens registered before."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(made), providers=["CPUExecutionProvider"])
    layout = specs.layout(spec, boards.images)
    lights, size = len(layout.lights), specs.network_size(spec)
    given = list(zip(*image_paths(boards.frame, layout), strict=True))
    scores = []
    for start in range(0, len(given), BATCH):
        pairs = []
        for files, golden in zip(given[start : start + BATCH], seen["golden_path"].iloc[start : start + BATCH], strict=True):
            goldens = [f"{golden}/{Path(file).name}" for file in files[lights:]] if golden.startswith("/") else files[lights:]
            pairs.append(np.stack([_image(files[:lights], size), _image(goldens, size)]))
        scores.append(session.run(None, {"pairs": np.stack(pairs)})[0])
    return np.concatenate(scores).astype(np.float64), str(onnxruntime.__version__)


def _image(paths: Any, size: tuple[int, int]) -> NDArray[np.uint8]:
    from PIL import Image

    lights = [np.asarray(open_image(path).resize(size, Image.Resampling.BILINEAR)) for path in paths]
    return np.ascontiguousarray(np.concatenate(lights, axis=0).transpose(2, 0, 1))


def text(body: dict[str, Any]) -> str:
    """The export in a few lines."""
    parity = body["parity"]
    lines = [f"exported {body['model']['iteration']} of {body['model']['run']}: {body['onnx']['path']}"]
    if parity is None:
        lines.append("made by TAO's own export; its graph was not compared here")
    else:
        lines.append(
            f"parity on {parity['rows']:,} rows with ONNX Runtime {parity['onnxruntime']}: largest difference of score "
            f"{parity['largest_difference']:.3g}, no decision changed outside the noise of {parity['noise']:g}"
        )
    if body["preprocessing"] is not None:
        lines.append("feed registered goldens: see preprocessing in export.json")
    return "\n".join(lines)
