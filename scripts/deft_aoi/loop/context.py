"""What a stage is given: the run, its plan, its record so far, and how to speak to whoever watches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deft_aoi.contract import spec as specs
from deft_aoi.contract.errors import HardStop
from deft_aoi.contract.paths import RunPaths, Workspace, iteration_label
from deft_aoi.contract.splits import Split, load_splits
from deft_aoi.loop.config import RunConfig, effective_spec
from deft_aoi.loop.plan import Plan

if TYPE_CHECKING:
    import pandas as pd

    from deft_aoi.analysis.identity import Part
    from deft_aoi.platforms.base import Platform
    from deft_aoi.record.log import LogReader


@dataclass(frozen=True)
class StageResult:
    """What a stage says of itself.

    Attributes:
        summary: one line, composed by code from typed values.
        state: flat values that join ``iterations[label]`` in the view.
        evidence: paths, digests, counts.
    """

    summary: str
    state: dict[str, Any]
    evidence: dict[str, Any]


@dataclass
class RunContext:
    """One run, opened by the driver that holds its lock."""

    run: RunPaths
    workspace: Workspace
    plan: Plan
    config: RunConfig
    say: Callable[[str], None]
    progress: Callable[[str], None]

    @cached_property
    def user_spec(self) -> specs.Spec:
        """The workspace's spec."""
        return specs.load_spec(self.workspace.baseline_spec, what="baseline spec")

    @cached_property
    def spec(self) -> specs.Spec:
        """The effective spec."""
        return effective_spec(self.user_spec, self.config)

    @cached_property
    def splits(self) -> dict[str, Split]:
        """The workspace's splits."""
        return load_splits(self.workspace, self.spec)

    @cached_property
    def identities(self) -> dict[str, pd.DataFrame]:
        """Content identities of every split, cached in the workspace's own cache."""
        from deft_aoi.analysis.identity import identities_of

        return {name: identities_of(split, self.digest_cache) for name, split in self.splits.items()}

    @cached_property
    def held_out(self) -> dict[str, Part]:
        """The sets that judge, with identities: nothing of them is ever trained on."""
        from deft_aoi.analysis.identity import Part

        return {
            name: Part(f"{name} set", split.frame, split.layout, self.identities[name])
            for name, split in self.splits.items()
            if name != "train"
        }

    @property
    def digest_cache(self) -> Path:
        """Digest cache of this workspace."""
        return self.workspace.cache_dir / "digests"

    @property
    def embedding_cache(self) -> Path:
        """Embedding cache of this workspace."""
        return self.workspace.cache_dir / "embeddings"

    @cached_property
    def platform(self) -> Platform:
        """Where jobs run."""
        from deft_aoi.platforms.base import get_platform

        return get_platform(self.config.platform, dict(self.config.platform_options))

    @cached_property
    def _log(self) -> LogReader:
        from deft_aoi.record.log import LogReader

        return LogReader(self.run.root)

    def events(self) -> list[dict[str, Any]]:
        """The run log so far, verified; not to be changed."""
        return self._log.events()

    def state(self) -> dict[str, Any]:
        """The state folded from the run log; not to be changed."""
        return self._log.state()

    def iteration(self, label: str) -> dict[str, Any]:
        """The view of one iteration; empty before its first event."""
        return dict(self.state().get("iterations", {}).get(label, {}))

    def previous(self, label: str) -> str:
        """The label before ``iterN``.

        Raises:
            HardStop: the baseline has none.
        """
        if label == "baseline":
            raise HardStop("the baseline has no previous iteration")
        return iteration_label(int(label.removeprefix("iter")) - 1)

    def path(self, relative: str) -> Path:
        """An output on record (relative to the run) as an absolute path."""
        return self.run.root / relative
