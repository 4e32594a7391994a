"""Pre-flight: eleven read-only checks, one consolidated list of what is missing, one plan.

Nothing here writes to the workspace, to Docker or to any cache of the workspace; decoded digests are cached in the
user's own cache folder, and the pending plan goes to the user's state folder.
"""

from __future__ import annotations

import platform as host
from typing import Any

from deft_aoi.contract import plans
from deft_aoi.contract import spec as specs
from deft_aoi.contract.errors import Blocked, DeftError
from deft_aoi.contract.paths import Workspace, digest_cache_home
from deft_aoi.loop.checks import champion, data, machine, mining, model_spec, registration, supplies
from deft_aoi.loop.checks import workspace as places
from deft_aoi.loop.checks.session import Checklist, Finding
from deft_aoi.loop.config import RunConfig, effective_spec
from deft_aoi.loop.plan import RULES, Plan, configuration, inputs, plan_digest
from deft_aoi.loop.specs import refuse_outside
from deft_aoi.loop.summary import render

__all__ = ["Finding", "run_checks"]


def run_checks(workspace: Workspace, given: dict[str, Any]) -> tuple[Plan | None, list[Finding], DeftError | None]:
    """Resolve everything and check it.

    Args:
        workspace: the workspace.
        given: what the user said; see :func:`deft_aoi.loop.config.resolve`.

    Returns:
        ``(plan, findings, error)``: the plan is ``None`` and ``error`` the first error when a check did not pass.

    Raises:
        UsageError: the KPI target or another parameter cannot be read.
    """
    session = Checklist(workspace, given)
    session.guard(1, lambda: places.check_workspace(session))
    if workspace.baseline_spec.is_file():
        session.config, user_spec = configuration(workspace, given)  # a UsageError is the caller's, not a finding
        session.spec = effective_spec(user_spec, session.config)
    session.guard(2, lambda: machine.check_bundle(session))
    if session.config is not None:
        _check_run(session, session.config)
    session.findings.sort(key=lambda f: f.check)
    if session.first_error is not None or session.config is None:
        return None, session.findings, session.first_error or Blocked("the baseline spec is missing")
    plan = _build_plan(session, session.config)
    plans.write_pending(plan)
    plans.write_summary(plan["digest"], render(plan))
    return plan, session.findings, None


def _check_run(session: Checklist, config: RunConfig) -> None:
    """The checks that need the run's configuration."""
    session.guard(6, lambda: supplies.check_images(session, config))
    session.guard(4, lambda: machine.check_platform(session, config))
    session.guard(7, lambda: refuse_outside(session.workspace, session.spec))
    session.guard(7, lambda: machine.check_request(session, config))
    session.guard(8, lambda: places.check_pairs(session))
    session.guard(8, lambda: supplies.check_backbone(session, config))
    session.guard(8, lambda: supplies.check_encoder(session, config))
    session.guard(3, lambda: supplies.check_credentials(session, config))
    splits_ok = session.guard(11, lambda: data.check_data(session))
    session.guard(7, lambda: model_spec.check_spec(session, config))
    session.guard(9, lambda: machine.check_gpus(session, config))
    if splits_ok:
        session.guard(10, lambda: places.check_space(session, config))
        session.guard(11, lambda: data.check_leakage(session))
        session.guard(11, lambda: data.check_metric(session, config))
        data.check_statistics(session, config)
        session.guard(11, lambda: registration.check_registration(session, config))
        session.guard(11, lambda: champion.check_champion(session, config))
        session.guard(11, lambda: mining.check_mining(session, config))


def _build_plan(session: Checklist, config: RunConfig) -> Plan:
    plan: Plan = {
        "version": 1,
        "rules": RULES,
        "workspace": str(session.workspace.root),
        "config": config.as_dict(),
        "sources": dict(config.sources),
        "inputs": inputs(session.workspace, session.spec, session.splits, digest_cache_home(), metric=config.primary_metric),
        "images": session.images,
        "dataset": {name: {"rows": len(s.frame), "labels": s.label_counts()} for name, s in session.splits.items()},
        "staging": session.staging,
        "registration": session.registration,
        "spec_engine": specs.engine_for(session.spec),
        "findings": [f.__dict__ for f in session.findings],
        "resume": session.resume,
        "host": {"node": host.node(), "python": host.python_version()},
    }
    plan["digest"] = plan_digest(plan)
    return plan
