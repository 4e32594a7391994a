"""The gate of a headless session: a person's words on the terminal approve a plan; the model has no way to.

The Summary that the person reads is the one that ``preflight.py`` printed, shown by this code and not rephrased by the
model, and only the plan that was pending when it was shown can be approved.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field

from deft_aoi.agent import consent
from deft_aoi.contract import plans

_DIGEST = re.compile(r"\b[0-9a-f]{64}\b")


@dataclass
class Gatekeeper:
    """Knows which plan was shown, asks the person, and records the answer.

    Args:
        ask: shows a text to the person and returns their words; the empty string where there is nobody.
        session: the session's name, kept with the approval.
        approve_first: the person said ``--yes`` at the start: the first plan that passes is approved, and only that.
    """

    ask: Callable[[str], str]
    session: str
    approve_first: bool = False
    shown: str = field(default="", init=False)
    summary: str = field(default="", init=False)
    approved: str = field(default="", init=False)
    """The plan that was approved since it was shown; its approval is consumed by the run that it opens."""

    def after_preflight(self, output: str) -> str:
        """Takes notice of a Summary that a script printed; returns what the model reads beside it."""
        plan = plans.read_pending()
        if plan is None or plan["digest"] not in _DIGEST.findall(output):
            return ""
        self.shown, self.summary, self.approved = str(plan["digest"]), output.partition("\n")[2], ""
        if self.approve_first:
            self.approve_first = False
            plans.write_approval(self.shown, "yes-flag", "--yes", self.session)
            self.approved = self.shown
            return "\n[gate] The person started this session with --yes: this plan is approved. Start the loop."
        return "\n[gate] Not approved yet. End your turn: the person reads this Summary and answers."

    @property
    def waiting(self) -> bool:
        """True while a plan has been shown by pre-flight and not approved."""
        if self.shown and plans.read_approval(self.shown) is not None:
            self.approved = self.shown
        return bool(self.shown) and self.approved != self.shown

    def put_to_person(self, text: str) -> str:
        """Shows a text (and the Summary, while a plan waits) and returns the person's words with what they mean."""
        waiting = self.waiting
        words = self.ask(f"{self.summary}\n\n{text}".strip() if waiting else text).strip()
        if not waiting or not words:
            return words
        reason = consent.why_not(words, self.shown)
        if reason:
            return f"{words}\n[gate] This is not an approval ({reason}); plan {self.shown[:12]} stays closed."
        plans.write_approval(self.shown, "terminal", words, self.session)
        self.approved = self.shown
        return f"{words}\n[gate] Approval of plan {self.shown[:12]} is recorded. Start the loop."
