"""The gate: nothing with a side effect starts without an approval of exactly this plan."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from deft_aoi.contract import plans
from deft_aoi.contract.commands import absolute_command
from deft_aoi.contract.errors import ApprovalNeeded, HardStop, UsageError
from deft_aoi.contract.paths import RunPaths, Workspace, digest_cache_home
from deft_aoi.contract.schema import read_checked
from deft_aoi.contract.text import quoted
from deft_aoi.loop.config import RunConfig
from deft_aoi.loop.plan import RULES, Plan, plan_digest, require_unchanged
from deft_aoi.record import log, provenance

MIN_PREFIX = 6
CONFIRM_CHARS = 6

GATED = (
    "init_deft_state.py",
    "run_stage.py",
    "run_loop.py",
    "prestage_pregen.py",
    "changenet_data_pair_prepare.py",
    "prepare_inference_spec.py",
)
"""Commands that change a run or start a job: each refuses (exit 5) without an approval on record."""


def find_pending(prefix: str | None) -> Plan:
    """The pending plan of a digest or of its first characters; the newest one for ``None``.

    Raises:
        UsageError: no such plan, or the prefix fits several.
    """
    if prefix is None:
        plan = plans.read_pending()
        if plan is None:
            raise UsageError("no plan is pending", hint="run preflight.py --workspace W")
        return plan
    if len(prefix) < MIN_PREFIX or any(c not in "0123456789abcdef" for c in prefix):
        raise UsageError("a plan digest is hexadecimal", expected=f"at least {MIN_PREFIX} characters", found=quoted(prefix))
    folder = Path(plans.plans_dir())
    names = sorted(p.name for p in folder.iterdir()) if folder.is_dir() else []
    digests = [n[:64] for n in names if n.startswith(prefix) and n.endswith(".json") and plans.is_digest(n[:-5])]
    if len(digests) != 1:
        raise UsageError(
            f"{len(digests)} pending plans begin with {prefix}",
            expected="exactly one",
            hint="run preflight.py again, copy its digest",
        )
    plan = plans.read_pending(digests[0])
    assert plan is not None  # it was just listed
    return plan


def approve(plan: Plan, *, typed: str, how: str) -> None:
    """Record a person's approval.

    Args:
        plan: the pending plan.
        typed: what the person typed: the last six characters of the digest (``how == "terminal"``).
        how: see :data:`deft_aoi.contract.plans.HOWS`.

    Raises:
        ApprovalNeeded: the typed characters are not the digest's last six.
    """
    if how == "terminal" and typed.strip().lower() != plan["digest"][-CONFIRM_CHARS:]:
        raise ApprovalNeeded(
            "the plan was not approved",
            expected="the last six characters of its digest",
            found=quoted(typed),
            hint="try again",
        )
    plans.write_approval(plan["digest"], how, typed.strip())


def is_approved(digest: str) -> bool:
    """Whether an approval of this plan waits to open a run."""
    return plans.read_approval(digest) is not None


def require_approval(digest: str) -> dict[str, Any]:
    """The approval on record for exactly this plan.

    Raises:
        ApprovalNeeded: there is none.
    """
    record = plans.read_approval(digest)
    if record is None:
        raise not_approved(digest)
    return record


def not_approved(digest: str) -> ApprovalNeeded:
    """The error of a plan that nobody approved: its way on ends also where no hook hears the user's go."""
    return ApprovalNeeded(
        f"plan {digest[:12]} has not been approved",
        expected="the user's clear go as the answer to its Pre-Flight Summary",
        found="none is recorded",
        hint="show the Summary and wait; where a clear go was its answer, this host records none: ask the user to run, in a "
        f"terminal of their own, {absolute_command('approve')} {digest[:12]}",
    )


def load_plan(run: RunPaths, *, any_rules: bool = False) -> tuple[Plan, RunConfig]:
    """The plan that this run was opened for, with its digest checked.

    Args:
        run: the run.
        any_rules: also where other rules judged it (to verify a finished run).

    Raises:
        HardStop: other rules judge this run than those of this version.
        ApprovalNeeded: the run has no plan, or the plan is not the one that its record approves.
    """
    if not run.plan.is_file():
        raise ApprovalNeeded(
            f"{run.root.name} has no approved plan",
            expected=str(run.plan),
            hint="open a run with preflight.py, then init_deft_state.py",
        )
    plan: Plan = read_checked(run.plan, "plan")
    approved = provenance.latest_ok_data(log.read(run.root)).get(("run", "approve"), {})
    recorded = approved.get("plan_digest")
    same_file = provenance.is_on_record(run.plan, approved.get("plan_sha256"))
    if not same_file or plan_digest(plan) != plan["digest"] or plan["digest"] != recorded:
        raise ApprovalNeeded(
            f"the plan of {run.root.name} is not the one that was approved",
            expected=f"digest {str(recorded)[:12]} as in the record",
            found=f"digest {plan_digest(plan)[:12]}" + ("" if same_file else " in another file"),
            hint="restore run/plan.json, or open a new run",
        )
    if plan.get("rules", 1) != RULES and not any_rules:
        raise HardStop(
            f"{run.root.name} was begun under other rules of judging",
            expected=f"rules {RULES} (docs/verdict.md)",
            found=f"rules {plan.get('rules', 1)}",
            hint="finish it with the version that opened it, or open a new run; verify_run.py still checks its files",
        )
    return plan, RunConfig(plan["config"], plan["sources"])


def require_open(run: RunPaths, workspace: Workspace) -> tuple[Plan, RunConfig, list[str]]:
    """What every side-effecting stage asks first: an approved plan whose inputs are unchanged.

    Returns:
        ``(plan, config, warnings)``.

    Raises:
        ApprovalNeeded: no approval, or an input or a parameter differs from the approved one.
    """
    plan, config = load_plan(run)
    return plan, config, require_unchanged(plan, workspace, config, digest_cache_home())
