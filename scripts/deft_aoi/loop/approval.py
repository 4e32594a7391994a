"""A person's approval, typed at a terminal."""

from __future__ import annotations

import sys

from deft_aoi.contract.text import printable
from deft_aoi.loop import gate
from deft_aoi.loop.plan import Plan

TRIES = 3


def approve_at_terminal(prefix: str | None, confirm: str | None = None) -> str:
    """Ask for the last six characters of a pending plan's digest and record the approval.

    Returns:
        The plan's digest.

    Raises:
        ApprovalNeeded: nobody is at the terminal, or something else was typed.
        UsageError: no such plan.
    """
    plan = gate.find_pending(prefix)
    gate.approve(plan, typed=confirm if confirm is not None else ask(plan), how="terminal")
    return str(plan["digest"])


def ask(plan: Plan) -> str:
    """Prompt on the terminal; a slip of the fingers may be repeated, an empty line or ``no`` ends it.

    Raises:
        ApprovalNeeded: standard input is not a terminal.
    """
    digest = plan["digest"]
    if not sys.stdin.isatty():
        raise gate.not_approved(digest)
    print(f"Plan {digest} for {printable(plan['workspace'], 200)}", file=sys.stderr)
    for left in range(TRIES - 1, -1, -1):
        print("Type the last six characters of the digest to approve it: ", end="", file=sys.stderr, flush=True)
        typed = sys.stdin.readline()
        said = typed.strip().lower()
        if not left or said in ("", "n", "no", digest[-gate.CONFIRM_CHARS :]):
            break
        print("These are not its last six characters. Once more, or an empty line to leave it:", file=sys.stderr)
    return typed
