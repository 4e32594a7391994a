"""Errors that a user can act on, each with the exit code that every command returns for it.

Anything that is not a :class:`DeftError` is a bug (exit 1). This module stays free of imports: it is on the path of
``log_stage.py``, which must start as fast as a bare interpreter.
"""

from __future__ import annotations


class DeftError(Exception):
    """An error with the four parts a reader needs.

    Args:
        message: what was wrong, one sentence.
        expected: what the contract asks for.
        found: what was there instead.
        hint: what to try.
    """

    exit_code = 1
    label = "error"

    def __init__(self, message: str, *, expected: str = "", found: str = "", hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.expected = expected
        self.found = found
        self.hint = hint

    def render(self) -> str:
        """Return the error as the lines that go to stderr."""
        lines = [f"{self.label}: {self.message}"]
        for name, value in (("expected", self.expected), ("found", self.found), ("try", self.hint)):
            if value:
                lines.append(f"  {name}: {value}")
        return "\n".join(lines)

    def as_dict(self) -> dict[str, str | int]:
        """Return the error as the object that ``--json`` prints."""
        return {
            "error": type(self).__name__,
            "exit_code": self.exit_code,
            "message": self.message,
            "expected": self.expected,
            "found": self.found,
            "try": self.hint,
        }


class UsageError(DeftError):
    """Wrong arguments or KPI grammar."""

    exit_code = 2
    label = "usage"


class HardStop(DeftError):
    """Content breaks the contract, or a gate fired. Never retried unchanged."""

    exit_code = 3
    label = "hard stop"


class Blocked(DeftError):
    """Something is absent that can be supplied: a tool, a credential, a file, an image, memory."""

    exit_code = 4
    label = "blocked"


class ApprovalNeeded(DeftError):
    """The plan has no approval on record, or the plan has changed since."""

    exit_code = 5
    label = "approval needed"


class RunLocked(DeftError):
    """Another driver holds the run."""

    exit_code = 6
    label = "run is locked"


class JobFailed(DeftError):
    """A job failed on its platform."""

    exit_code = 7
    label = "job failed"


class Canceled(DeftError):
    """The user canceled what was running."""

    exit_code = 9
    label = "canceled"


class JobLost(JobFailed):
    """A job ended without an exit code: its host restarted, or somebody killed what watched over it. Worth another try."""


class KpiNotMet(DeftError):
    """The run ended without meeting the KPI; raised only with ``--fail-on-not-met``."""

    exit_code = 8
    label = "KPI not met"
