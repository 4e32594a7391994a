"""From arguments to a pending plan, and from a pending plan to an open run: what the commands share."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deft_aoi.contract.errors import DeftError
from deft_aoi.contract.paths import Workspace
from deft_aoi.loop import preflight, summary
from deft_aoi.loop.options import given
from deft_aoi.loop.plan import Plan

DEFAULT_WORKSPACE = "~/workspace"


@dataclass(frozen=True)
class PlanResult:
    """What planning came to.

    Attributes:
        plan: the pending plan; ``None`` when a check did not pass.
        text: the Pre-Flight Summary, or the consolidated list of what is missing.
        data: the same as JSON.
        exit_code: 0, or that of the first error.
    """

    plan: Plan | None
    text: str
    data: dict[str, Any]
    exit_code: int


def plan_run(args: argparse.Namespace) -> PlanResult:
    """Run the checks for parsed arguments."""
    workspace = Workspace.at(Path(args.workspace or DEFAULT_WORKSPACE).expanduser())
    plan, findings, error = preflight.run_checks(workspace, given(args))
    if plan is not None:
        return PlanResult(plan, summary.render(plan), {"digest": plan["digest"], "plan": plan}, 0)
    assert error is not None  # run_checks returns one of the two
    return PlanResult(
        None, _failure(findings, error), {**error.as_dict(), "findings": [f.__dict__ for f in findings]}, error.exit_code
    )


def _failure(findings: list[preflight.Finding], error: DeftError) -> str:
    return f"Pre-flight did not pass; nothing was started.\n{summary.render_findings(findings)}\n\n{error.render()}"
