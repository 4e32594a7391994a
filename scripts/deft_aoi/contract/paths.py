"""Where everything lies: the workspace, a run's folder, the user's own folders."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from deft_aoi.contract.errors import Blocked, HardStop
from deft_aoi.contract.stages import BY_NAME
from deft_aoi.contract.text import check_name, has_hidden, quoted
from deft_aoi.contract.user_folders import user_folder

__all__ = [
    "RunPaths",
    "Workspace",
    "cache_home",
    "check_name",
    "data_home",
    "given",
    "iteration_label",
    "resolve_under",
    "state_home",
]


def data_home() -> Path:
    """The user's data folder (the skill's own environment lives there)."""
    return Path(user_folder("data"))


def state_home() -> Path:
    """The user's state folder (pending plans and approvals live there)."""
    return Path(user_folder("state"))


def cache_home() -> Path:
    """The user's cache folder (digests of images that were decoded at pre-flight live there)."""
    return Path(user_folder("cache"))


def digest_cache_home() -> Path:
    """Where digests of decoded images are cached outside a workspace: before a run exists, for a check, for a script."""
    return cache_home() / "digests"


def resolve_under(root: Path, *parts: str) -> Path:
    """Join untrusted ``parts`` below ``root``.

    This tells early and with a reason; that nobody exchanges a folder for a link afterwards is checked where the file is
    opened (:func:`deft_aoi.contract.safe_open.open_regular`).

    Args:
        root: a folder whose own symbolic links are resolved.
        parts: relative POSIX paths as found in data.

    Returns:
        The path, which need not exist.

    Raises:
        HardStop: NUL, an absolute path, ``..``, ``~``, a back-slash, an over-long part, or a symbolic link on the way.
    """
    current = str(root)
    for part in parts:
        if "\0" in part or "\\" in part or part.startswith(("/", "~")) or has_hidden(part):
            raise HardStop(
                f"the path {quoted(part)} is not allowed",
                expected="a relative path with / between folders",
                found=quoted(part),
                hint="write the path as it is below the images folder, with no .. and no link",
            )
        for piece in part.split("/"):
            if piece in ("", "."):
                continue
            if piece == ".." or len(piece.encode()) > 255:
                raise HardStop(
                    f"the path {quoted(part)} leaves its folder or is too long",
                    expected=f"a path below {root}",
                    found=quoted(part),
                    hint="write a short path below that folder",
                )
            current = f"{current}/{piece}"
            if os.path.islink(current):
                raise HardStop(
                    f"a symbolic link is on the way: {quoted(part)}",
                    expected="real files and folders below the workspace",
                    found=quoted(os.path.relpath(current, root)),
                    hint="copy the data into the workspace",
                )
    return Path(current)


def given(path: str | os.PathLike[str]) -> Path:
    """A file that a person named on a command line: links among its folders are resolved, the file itself is as it is."""
    typed = Path(path).expanduser()
    return typed.parent.resolve() / typed.name


def iteration_label(number: int) -> str:
    """``baseline`` for 0, else ``iterN``."""
    return "baseline" if number == 0 else f"iter{number}"


@dataclass(frozen=True)
class Workspace:
    """The customer's folder. ``root`` is a real path (symbolic links resolved once, by :meth:`at`)."""

    root: Path

    @classmethod
    def at(cls, path: str | os.PathLike[str]) -> Workspace:
        """Open the workspace at ``path``.

        Raises:
            Blocked: there is no such folder.
            HardStop: its path has a space or a quote (TAO's launcher splits its command
                line there), or what a run writes would lead elsewhere by a link.
        """
        root = Path(path).expanduser()
        if not root.is_dir():
            raise Blocked(
                f"the workspace {quoted(root)} does not exist",
                expected="a folder with specs/, train/base/, kpi/ and augmentation/",
                hint="see --workspace; make_demo_workspace.py renders one to try",
            )
        real = root.resolve()
        if any(c.isspace() or c in "'\"\\,:$`" for c in str(real)):
            raise HardStop(
                f"the workspace's path {quoted(real, 200)} has a character that TAO's launcher cannot take",
                expected="a path without spaces, quotes, commas, colons, $ and back-slashes",
                hint="move the workspace to a plain path",
            )
        for name in ("results", ".deft"):
            if (real / name).is_symlink():
                raise HardStop(
                    f"{name} of the workspace is a symbolic link",
                    expected="a folder below the workspace: what a run writes stays there",
                    found=quoted(real / name, 200),
                    hint="move the whole workspace to the larger disk",
                )
        return cls(real)

    @property
    def baseline_spec(self) -> Path:
        """The user's spec; never rewritten."""
        return self.root / "specs" / "baseline_spec.yaml"

    @property
    def training_csv(self) -> Path:
        """Base training rows."""
        return self.root / "train" / "base" / "training_set.csv"

    @property
    def validation_csv(self) -> Path:
        """Validation rows."""
        return self.root / "train" / "base" / "validation_set.csv"

    @property
    def kpi_images(self) -> Path:
        """Images of the base training, validation, KPI and hold-out rows."""
        return self.root / "kpi" / "images"

    @property
    def kpi_csv(self) -> Path:
        """The KPI test set."""
        return self.root / "kpi" / "testing_set.csv"

    @property
    def holdout_csv(self) -> Path:
        """The optional hold-out, scored once at the end."""
        return self.root / "kpi" / "holdout_set.csv"

    @property
    def pool_dir(self) -> Path:
        """The mining pool's folder."""
        return self.root / "augmentation" / "mining_pool"

    @property
    def pool_csv(self) -> Path:
        """The mining pool's rows; append-only."""
        return self.pool_dir / "mining_pool.csv"

    @property
    def pregen_dir(self) -> Path:
        """The pre-generated synthetic pairs."""
        return self.root / "augmentation" / "anomalygen"

    @property
    def pregen_ng(self) -> Path:
        """Synthetic defect images."""
        return self.pregen_dir / "reconstructed_image"

    @property
    def pregen_ok(self) -> Path:
        """Their defect-free partners."""
        return self.pregen_dir / "original_image"

    @property
    def defect_spec(self) -> Path:
        """Optional: which stems have which defect type."""
        return self.pregen_dir / "defect_spec.jsonl"

    @property
    def backbone_dir(self) -> Path:
        """Staged backbone weights, real suffix kept."""
        return self.root / "augmentation" / "backbone"

    @property
    def results(self) -> Path:
        """All runs of this workspace."""
        return self.root / "results"

    @property
    def cache_dir(self) -> Path:
        """Caches that outlive a run: digests, embeddings."""
        return self.root / ".deft"

    @property
    def env_file(self) -> Path:
        """Optional credentials file."""
        return self.root / ".env"

    def rel(self, path: str | os.PathLike[str]) -> str:
        """``path`` relative to the workspace, POSIX.

        Raises:
            HardStop: ``path`` is outside.
        """
        try:
            return Path(path).relative_to(self.root).as_posix()
        except ValueError as error:
            raise HardStop(
                f"{quoted(path, 200)} is outside the workspace",
                expected=f"below {self.root}",
                hint="copy the data into the workspace",
            ) from error


@dataclass(frozen=True)
class RunPaths:
    """The layout of one run's folder (RESULTS_DIR)."""

    root: Path

    @property
    def workspace(self) -> Workspace:
        """The workspace that holds this run: RESULTS_DIR is ``<workspace>/results/run_…``."""
        return Workspace(self.root.parent.parent)

    @property
    def log(self) -> Path:
        """The record."""
        return self.root / "loop_log.jsonl"

    @property
    def state(self) -> Path:
        """The view of the record."""
        return self.root / "deft_state.json"

    @property
    def report(self) -> Path:
        """The HTML report."""
        return self.root / "DEFT_Loop_Report.html"

    @property
    def best_model(self) -> Path:
        """Hand-over: which checkpoint, which threshold."""
        return self.root / "best_model.json"

    @property
    def best_spec(self) -> Path:
        """Hand-over: the spec to run it with."""
        return self.root / "best_model_inference_spec.yaml"

    @property
    def lineage(self) -> Path:
        """Hand-over: every row that the model was ever trained on, by content."""
        return self.root / "lineage.parquet"

    @property
    def run(self) -> Path:
        """What the documented tree does not name: plan, lock, jobs, logs."""
        return self.root / "run"

    @property
    def plan(self) -> Path:
        """The approved plan."""
        return self.run / "plan.json"

    @property
    def lock(self) -> Path:
        """The driver's kernel lock."""
        return self.run / "run.lock"

    @property
    def jobs(self) -> Path:
        """Job records."""
        return self.run / "jobs"

    @property
    def logs(self) -> Path:
        """Job logs."""
        return self.run / "logs"

    @property
    def holdout(self) -> Path:
        """Hold-out scoring, once, at the end."""
        return self.run / "holdout"

    @property
    def unregistered(self) -> Path:
        """The model of registered pairs, scored on KPI pairs as they lie."""
        return self.run / "unregistered"

    @property
    def synth_pool(self) -> Path:
        """Staged synthetic pairs and the pool."""
        return self.root / "synth_pool"

    def iteration(self, label: str) -> Path:
        """``baseline`` or ``iterN``."""
        return self.root / label

    def stage_dir(self, label: str, stage: str) -> Path:
        """The folder that ``stage`` of iteration ``label`` publishes."""
        spec = BY_NAME[stage]
        return (self.root if spec.scope == "run" else self.iteration(label)) / spec.folder

    def rel(self, path: str | os.PathLike[str]) -> str:
        """``path`` relative to the run's folder, POSIX: how outputs are named in the record."""
        return Path(path).relative_to(self.root).as_posix()
