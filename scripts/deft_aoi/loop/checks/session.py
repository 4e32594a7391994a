"""What the pre-flight's checks write: findings, and what they hand on to one another."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from deft_aoi.contract import spec as specs
from deft_aoi.contract.errors import Blocked, DeftError
from deft_aoi.contract.paths import Workspace
from deft_aoi.loop.config import RunConfig

if TYPE_CHECKING:
    from deft_aoi.contract.splits import Split


@dataclass(frozen=True)
class Finding:
    """One line of the checks.

    Attributes:
        check: 1 to 11.
        level: ``ok``, ``warn``, ``missing`` (exit 4) or ``stop`` (exit 3).
        text: what was found.
        fix: what to do about it.
    """

    check: int
    level: str
    text: str
    fix: str = ""


@dataclass
class Checklist:
    """What the checks hand on to one another.

    Attributes:
        workspace: the workspace.
        given: what the user said.
        findings: every line so far.
        config: the run's configuration, once the spec could be read.
        spec: the effective spec.
        splits: the workspace's splits, once they could be read.
        identities: their content identities.
        images: images by tool, as the plan pins them.
        staging: pairs, disk and time.
        registration: how far goldens lie off, and what was decided; measured, so outside the digest.
        fetches: weights that the assets stage will fetch.
        resume: an unfinished run.
        first_error: what decides the exit code.
    """

    workspace: Workspace
    given: dict[str, Any]
    findings: list[Finding] = field(default_factory=list)
    config: RunConfig | None = None
    spec: specs.Spec = field(default_factory=dict)
    splits: dict[str, Split] = field(default_factory=dict)
    identities: dict[str, Any] = field(default_factory=dict)
    images: dict[str, Any] = field(default_factory=dict)
    staging: dict[str, Any] = field(default_factory=dict)
    registration: dict[str, Any] = field(default_factory=dict)
    fetches: list[str] = field(default_factory=list)
    resume: str | None = None
    first_error: DeftError | None = None

    def add(self, check: int, level: str, text: str, fix: str = "") -> None:
        """Add one line."""
        self.findings.append(Finding(check, level, text, fix))

    def guard(self, check: int, work: Callable[[], None]) -> bool:
        """Run one check; a :class:`DeftError` becomes a finding."""
        try:
            work()
            return True
        except DeftError as error:
            self.refuse(check, error)
            return False

    def refuse(self, check: int, error: DeftError) -> None:
        """Take an error into the list; the first one decides the exit code."""
        self.first_error = self.first_error or error
        level = "missing" if isinstance(error, Blocked) else "stop"
        detail = f" (found: {error.found})" if error.found else ""
        self.add(check, level, f"{error.message}{detail}", error.hint or error.expected)
