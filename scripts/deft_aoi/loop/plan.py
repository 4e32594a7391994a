"""The plan: what a run will read and do, and the digest that an approval is bound to.

The digest covers inputs, images, parameters and engine. What may honestly change between approval and start (warnings,
estimates, the host) is kept beside it, not in it. The pool is append-only, so it enters by its rows so far: a plan is
compared with the same number of rows, and growth is a warning.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deft_aoi.contract import spec as specs
from deft_aoi.contract.errors import ApprovalNeeded, HardStop
from deft_aoi.contract.files import digest_json, sha256_file
from deft_aoi.contract.manifests import list_files
from deft_aoi.contract.paths import Workspace
from deft_aoi.contract.splits import Split, absolute, load_splits
from deft_aoi.loop.config import RunConfig, resolve

if TYPE_CHECKING:
    from deft_aoi.analysis.metric import MetricPlan

Plan = dict[str, Any]

DIGEST_KEYS = ("workspace", "config", "inputs", "images", "rules")
RULES = 3
"""Which rules judge a run: 1 counted rows and compared floats, 2 compared two models over rows, 3 is docs/verdict.md.
One run keeps to one set of rules."""


def plan_digest(plan: Plan) -> str:
    """Hex SHA-256 over the parts of the plan that an approval is bound to."""
    return digest_json({key: plan[key] for key in DIGEST_KEYS if key in plan})


def pool_prefix(csv: Path, rows: int | None = None) -> dict[str, Any]:
    """Rows of the pool's CSV and the digest of its header and first ``rows`` rows (all of them by default).

    Raises:
        HardStop: the pool is missing, has no rows, or fewer than ``rows`` (it is append-only).
    """
    if not csv.is_file():
        raise HardStop("the mining pool is missing", expected=str(csv), hint="list the pool's rows in mining_pool.csv")
    lines = csv.read_bytes().splitlines()
    while lines and not lines[-1].strip():
        lines.pop()
    have = len(lines) - 1
    if have < 1:
        raise HardStop("the mining pool has no rows", expected=f"at least one row in {csv}", hint="add rows to mining_pool.csv")
    if rows is not None and have < rows:
        raise HardStop(
            "the mining pool has lost rows",
            expected=f"at least the {rows} rows of the approved plan: the pool is append-only",
            found=f"{have} rows in {csv}",
            hint="restore the old rows",
        )
    take = have if rows is None else rows
    return {"rows": take, "sha256": hashlib.sha256(b"\n".join(line.rstrip() for line in lines[: take + 1])).hexdigest()}


def _folder_digest(folder: Path) -> str:
    """Digest of names and bytes of the files in a folder (what is hidden is not ours)."""
    if not folder.is_dir():
        return ""
    names = [n for n in list_files(folder) if not any(part.startswith(".") for part in n.split("/"))]
    return digest_json([[n, sha256_file(folder / n)] for n in names if not (folder / n).is_symlink()])


def metric_files(plan: MetricPlan, workspace: Workspace) -> dict[str, str]:
    """Digests of the files that a command names: a script that changes closes the gate again.

    A compiled program in the first place (an interpreter, an installed tool) is known by its name alone, like every other
    program of the machine.
    """
    out = {}
    for number, part in enumerate(plan.argv):
        path = Path(part.replace("{workspace}", str(workspace.root)))
        if not path.is_absolute() or not path.is_file():
            continue
        if number == 0:
            with path.open("rb") as handle:
                if handle.read(2) != b"#!":
                    continue
        out[part] = sha256_file(path)
    return out


def inputs(
    workspace: Workspace,
    spec: specs.Spec,
    splits: dict[str, Split],
    identity_cache: Path,
    *,
    pool_rows: int | None = None,
    metric: MetricPlan | None = None,
) -> dict[str, Any]:
    """Digests of everything that the run will read.

    Args:
        workspace: the workspace.
        spec: the effective spec.
        splits: its splits, read.
        identity_cache: where decoded digests are cached.
        pool_rows: compare with this many pool rows instead of all.
        metric: the user's own primary metric, whose command may name files.
    """
    from deft_aoi.analysis.identity import content_digest, identities_of

    out: dict[str, Any] = {"spec": sha256_file(workspace.baseline_spec), "pool": pool_prefix(workspace.pool_csv, pool_rows)}
    for name, split in splits.items():
        out[name] = {
            "rows": len(split.frame),
            "csv": sha256_file(split.csv),
            "content": content_digest(identities_of(split, identity_cache)),
        }
    out["pregen"] = {
        "ng": _folder_digest(workspace.pregen_ng),
        "ok": _folder_digest(workspace.pregen_ok),
        "defect_spec": sha256_file(workspace.defect_spec) if workspace.defect_spec.is_file() else "",
    }
    backbone = specs.get(spec, "model.backbone.pretrained_backbone_path")
    path = absolute(workspace, str(backbone), "pretrained_backbone_path") if backbone else None
    out["backbone"] = sha256_file(path) if path is not None and path.is_file() else ""
    if metric is not None:
        out["metric"] = metric_files(metric, workspace)
    return out


def configuration(workspace: Workspace, given: dict[str, Any]) -> tuple[RunConfig, specs.Spec]:
    """The run's configuration and the workspace's own spec."""
    user_spec = specs.load_spec(workspace.baseline_spec, what="baseline spec")
    return resolve(given, user_spec), user_spec


def require_unchanged(plan: Plan, workspace: Workspace, config: RunConfig, identity_cache: Path) -> list[str]:
    """Compare the workspace with an approved plan.

    Returns:
        Warnings: what grew as it may.

    Raises:
        ApprovalNeeded: an input differs from the approved one; names which.
        HardStop: an input no longer meets the contract at all.
    """
    from deft_aoi.loop.config import effective_spec

    user_spec = specs.load_spec(workspace.baseline_spec, what="baseline spec")
    spec = effective_spec(user_spec, config)
    approved = plan["inputs"]
    splits = load_splits(workspace, spec)
    now = inputs(workspace, spec, splits, identity_cache, pool_rows=approved["pool"]["rows"], metric=config.primary_metric)
    changed = sorted(name for name in {*approved, *now} if approved.get(name) != now.get(name))
    if not approved.get("backbone") and "backbone" in changed:
        changed.remove("backbone")  # fetched by the assets stage, after approval
    if changed:
        raise ApprovalNeeded(
            f"what the plan reads has changed since it was approved: {', '.join(changed)}",
            expected=f"the inputs of plan {plan['digest'][:12]}",
            found="other content",
            hint="restore them, or run preflight.py again and approve the new plan",
        )
    grown = pool_prefix(workspace.pool_csv)["rows"] - approved["pool"]["rows"]
    return [f"the mining pool has grown by {grown} rows since approval; they join the next iteration"] if grown else []
