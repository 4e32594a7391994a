"""Last week's model as this run's baseline: the champion, which a challenger of this run must not be worse than.

It is scored first, on this week's KPI set. Iterations fine-tune from its weights, on its rows that are still here, the
workspace's training set and what they mine; each is promoted only by the rule for every iteration (paired, new escapes by
name). Where none is, the champion is handed over again. Its files are copied into the run, so that the old run may be gone.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from deft_aoi.contract import spec as specs
from deft_aoi.contract.checkpoint_scan import scan_checkpoint
from deft_aoi.contract.errors import HardStop
from deft_aoi.contract.files import copy_hashed, sha256_file
from deft_aoi.contract.paths import RunPaths
from deft_aoi.contract.schema import read_checked
from deft_aoi.contract.stages import EVALUATE_MANIFEST
from deft_aoi.contract.text import quoted
from deft_aoi.loop import lineage
from deft_aoi.record import log, provenance

if TYPE_CHECKING:
    import pandas as pd

    from deft_aoi.loop.infer import Model

KEPT, ROWS = "champion.json", "champion_rows.csv"
"""In ``run/adopted``: its ``best_model.json``. In ``baseline/train``: its rows that are still here, beside the training set's."""

SAME = ("input_map", "num_input", "concat_type", "image_width", "image_height", "num_golden")
"""Of ``dataset.classify``: what the network's input is made of."""


def describe(given: str) -> dict[str, Any]:
    """``--continue-from`` as the plan has it.

    Raises:
        HardStop: no model there, or one without its lineage.
    """
    from deft_aoi.loop.infer import find_model

    path = find_model(Path(given).expanduser().resolve())
    body: dict[str, Any] = read_checked(path, "best_model")
    if "lineage_rows" not in body:
        raise HardStop(
            "this model was handed over without its lineage, so nobody can say what it was trained on",
            expected="best_model.json that names lineage.parquet",
            found=quoted(path, 200),
            hint="hand it over again: prepare_inference_spec.py --results-dir R --output-dir DIR",
        )
    required = body.get("preprocessing", {}).get("required")
    return {
        "model": str(path),
        "sha256": sha256_file(path),
        "run": body["run"],
        "iteration": body["iteration"],
        "registration": "off" if required is None else {k: v for k, v in required.items() if k != "command"},
    }


def load(said: dict[str, Any]) -> tuple[Model, pd.DataFrame]:
    """The champion's model and lineage, each the one that was handed over.

    Raises:
        HardStop: a file is missing or another one.
    """
    from deft_aoi.loop.infer import load_model

    path = Path(said["model"])
    if not path.is_file() or sha256_file(path) != said["sha256"]:
        raise HardStop(
            "the champion's best_model.json has changed since it was planned with",
            expected=f"{path} with sha256 {said['sha256'][:16]}",
            found="another file" if path.is_file() else "no file",
            hint="restore it, or run pre-flight again with --continue-from",
        )
    model = load_model(path)
    return model, lineage.read(rows_file(path, model.body), model.body["lineage_rows"]["sha256"])


def rows_file(model_json: Path, body: dict[str, Any]) -> Path:
    """Where its lineage lies: beside ``best_model.json``, else where that says."""
    named = Path(body["lineage_rows"]["path"])
    beside = model_json.with_name(named.name)
    return beside if beside.is_file() else named


def require_same_network(model: Model, spec: specs.Spec, engine: str) -> None:
    """Refuse a champion that this workspace's spec would not train on.

    Raises:
        HardStop: another engine, backbone, network or input; names the first key.
    """

    def network(of: specs.Spec) -> dict[str, Any]:
        whole = specs.merge(of)
        specs.drop(whole, "model.classify.eval_margin")
        specs.drop(whole, "model.backbone.pretrained_backbone_path")
        found = {f"dataset.classify.{key}": specs.get(whole, f"dataset.classify.{key}") for key in SAME}
        return {"model.backbone.type": specs.backbone_type(of), **found, "model": specs.get(whole, "model")}

    theirs, ours = {"engine": model.body["engine"], **network(model.spec)}, {"engine": engine, **network(spec)}
    differs = [key for key in ours if theirs[key] != ours[key]]
    if differs:
        key = differs[0]
        raise HardStop(
            f"the champion is another network than the spec's: {key} differs",
            expected=quoted(ours[key], 160),
            found=quoted(theirs[key], 160),
            hint="put the champion's value into the spec, or start without --continue-from",
        )


def adopt(run: RunPaths, said: dict[str, Any]) -> dict[str, str]:
    """Copy the champion into ``run/adopted``.

    Returns:
        File name → SHA-256, the checkpoint first.

    Raises:
        HardStop: a file changed since it was planned with.
    """
    model, _rows = load(said)
    path = Path(said["model"])
    wanted = {
        model.checkpoint: (model.checkpoint.name, model.body["checkpoint"]["sha256"]),
        path: (KEPT, said["sha256"]),
        rows_file(path, model.body): (lineage.FILE, model.body["lineage_rows"]["sha256"]),
    }
    copies = {}
    for source, (name, digest) in wanted.items():
        copies[name] = copy_hashed(source, run.run / "adopted" / name)[1]
        if copies[name] != digest:
            raise HardStop(
                f"{quoted(source, 200)} changed while it was copied",
                expected=digest[:16],
                found=copies[name][:16],
                hint="restore it and run the same command again",
            )
    scan_checkpoint(run.run / "adopted" / model.checkpoint.name)
    return copies


def adopted(run: RunPaths) -> tuple[dict[str, Any], Path] | None:
    """The champion of a run: its ``best_model.json`` and its lineage's file, as recorded; ``None`` where there is none.

    Raises:
        HardStop: a copy is not the one that was recorded.
    """
    files = provenance.latest_ok_data(log.read(run.root))["run", "approve"].get("adopted", {})
    if KEPT not in files:
        return None
    for name in (KEPT, lineage.FILE):
        kept = run.run / "adopted" / name
        if not kept.is_file() or sha256_file(kept) != files[name]:
            raise HardStop(
                f"run/adopted/{name} is not the one that was recorded when the run was opened",
                expected=f"sha256 {files[name][:16]}",
                hint="restore it, or open a new run",
            )
    body: dict[str, Any] = read_checked(run.run / "adopted" / KEPT, "best_model")
    return body, run.run / "adopted" / lineage.FILE


def outcome(run: RunPaths, state: dict[str, Any], best: dict[str, Any], body: dict[str, Any]) -> dict[str, Any]:
    """What became of the champion ``body``: whether it stays, its figures on this week's rows, and who was refused, why."""
    first = state["iterations"]["baseline"]
    refused = []
    for label, it in state["iterations"].items():
        if label != "baseline" and it.get("promoted") is False:
            found = read_checked(run.stage_dir(label, "inference") / EVALUATE_MANIFEST, "evaluate")["comparison"]
            escapes = [e["sample_id"] for e in found["new_escapes_listed"]]
            refused.append({"iteration": label, "reason": found["reason"], "new_escapes": escapes})
    return {
        "run": body["run"],
        "iteration": body["iteration"],
        "checkpoint_sha256": body["checkpoint"]["sha256"],
        "stays": best["label"] == "baseline",
        "far_fraction": first["far_fraction"],
        "recall_fraction": first["recall_fraction"],
        "refused": refused,
    }


def history(body: dict[str, Any], before: dict[str, Any] | None, kpi: dict[str, Any]) -> list[dict[str, Any]]:
    """One entry a run, oldest first: the model that each handed over, on the KPI rows of its week.

    Args:
        body: ``best_model.json`` of this run.
        before: the champion's; ``None`` where this run had none.
        kpi: ``rows`` and ``content`` of this week's KPI set.
    """
    entry = {key: body[key] for key in ("run", "iteration", "far_fraction", "far_interval", "recall_fraction", "recall_interval")}
    entry |= {"kpi_rows": kpi["rows"], "kpi_content": kpi["content"], "champion": None, "outcome": "first model"}
    if body["champion"] is not None:
        entry["champion"] = {key: body["champion"][key] for key in ("run", "iteration", "far_fraction", "recall_fraction")}
        entry["outcome"] = "champion stays" if body["champion"]["stays"] else "challenger handed over"
    return [*(before or {}).get("history", []), entry]
