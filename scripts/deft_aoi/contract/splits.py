"""Where a split's CSV and images are: the one answer for pre-flight, stages and scripts.

The spec of the workspace decides; where it is silent, the workspace's own layout does.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from deft_aoi.contract import spec as specs
from deft_aoi.contract.changenet_csv import ImageLayout, read_changenet_csv
from deft_aoi.contract.errors import HardStop
from deft_aoi.contract.paths import Workspace, resolve_under
from deft_aoi.contract.text import quoted

if TYPE_CHECKING:
    import pandas as pd

TITLES = {"train": "training set", "validation": "validation set", "kpi": "KPI set", "holdout": "hold-out set"}
"""The splits of a workspace, as messages call them."""

DATASET_KEYS = {"train": "train_dataset", "validation": "validation_dataset", "test": "test_dataset", "infer": "infer_dataset"}
"""TAO's four blocks below ``dataset.classify``."""

_BLOCK = {"train": "train", "validation": "validation", "kpi": "infer", "holdout": "infer"}


@dataclass(frozen=True)
class Split:
    """One split of the workspace.

    Attributes:
        name: ``train``, ``validation``, ``kpi`` or ``holdout``.
        csv: its file, absolute.
        layout: how its rows name images.
        frame: its rows, every cell text.
    """

    name: str
    csv: Path
    layout: ImageLayout
    frame: pd.DataFrame

    @property
    def title(self) -> str:
        """How messages call it."""
        return TITLES[self.name]

    def label_counts(self) -> dict[str, int]:
        """Rows per label, most frequent first."""
        return {str(k): int(v) for k, v in self.frame["label"].value_counts().items()}


def absolute(workspace: Workspace, path: str, what: str) -> Path:
    """Make a path of a spec absolute below the workspace.

    Raises:
        HardStop: an absolute path outside the workspace (``/results/…``), ``..``, a symbolic link.
    """
    if path.startswith("/"):
        try:
            path = Path(path).relative_to(workspace.root).as_posix()
        except ValueError as error:
            raise HardStop(
                f"{what} leads outside the workspace",
                expected=f"a path relative to {workspace.root}, or below it",
                found=quoted(path),
                hint="move the data into the workspace",
            ) from error
    return resolve_under(workspace.root, path)


def images_dir(workspace: Workspace, spec: specs.Spec, block: str) -> Path:
    """Absolute ``images_dir`` of one of :data:`DATASET_KEYS`; ``kpi/images`` when unset."""
    key = f"dataset.classify.{DATASET_KEYS[block]}.images_dir"
    value = specs.get(spec, key) or ""
    return absolute(workspace, str(value), key) if value else workspace.kpi_images


def csv_path(workspace: Workspace, spec: specs.Spec, block: str) -> Path:
    """Absolute CSV of one of :data:`DATASET_KEYS`: the spec's, else the workspace's own place for it."""
    key = f"dataset.classify.{DATASET_KEYS[block]}.csv_path"
    value = specs.get(spec, key) or ""
    fallback = {"train": workspace.training_csv, "validation": workspace.validation_csv}.get(block, workspace.kpi_csv)
    return absolute(workspace, str(value), key) if value else fallback


def split_source(workspace: Workspace, spec: specs.Spec, name: str) -> tuple[Path, Path]:
    """``(csv, images_dir)`` of a split, absolute."""
    images = images_dir(workspace, spec, _BLOCK[name])
    return (workspace.holdout_csv if name == "holdout" else csv_path(workspace, spec, _BLOCK[name])), images


def split_names(workspace: Workspace) -> list[str]:
    """The splits that this workspace has: the hold-out set is optional."""
    return [name for name in TITLES if name != "holdout" or workspace.holdout_csv.exists()]


def load_split(workspace: Workspace, spec: specs.Spec, name: str) -> Split:
    """Read one split and require every image that its rows name.

    Raises:
        HardStop: the CSV or an image breaks the contract.
    """
    csv, images = split_source(workspace, spec, name)
    frame = read_changenet_csv(csv, what=TITLES[name])
    layout = specs.layout(spec, images)
    layout.require(frame, f"the {TITLES[name]}")
    return Split(name, csv, layout, frame)


def load_splits(workspace: Workspace, spec: specs.Spec) -> dict[str, Split]:
    """All splits of the workspace, the hold-out where it exists."""
    return {name: load_split(workspace, spec, name) for name in split_names(workspace)}
