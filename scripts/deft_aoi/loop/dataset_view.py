"""The workspace's splits as frames with content identities: what pre-flight, the gate and the stages agree on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from deft_aoi.contract import spec as specs
from deft_aoi.contract.changenet_csv import ImageLayout, read_changenet_csv
from deft_aoi.contract.files import digest_json
from deft_aoi.contract.paths import Workspace, cache_home
from deft_aoi.loop.specs import csv_path, images_dir

if TYPE_CHECKING:
    import pandas as pd

_WHAT = {"train": "training set", "validation": "validation set", "kpi": "KPI set", "holdout": "hold-out set"}


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

    def identities(self, cache_dir: Path, *, thumbs: bool = False) -> pd.DataFrame:
        """Content identity of every row (decodes what the cache does not know); with thumbnails if asked for."""
        from deft_aoi.analysis.identity import ContentIndex

        return ContentIndex(cache_dir).digest_pairs(self.frame, self.layout, what=f"the {_WHAT[self.name]}", thumbs=thumbs)

    def label_counts(self) -> dict[str, int]:
        """Rows per label, most frequent first."""
        return {str(k): int(v) for k, v in self.frame["label"].value_counts().items()}


def identity_cache() -> Path:
    """Where digests of decoded images are cached before a run exists."""
    return cache_home() / "digests"


def split_source(workspace: Workspace, spec: specs.Spec, name: str) -> tuple[Path, Path]:
    """``(csv, images_dir)`` of a split, absolute."""
    if name == "holdout":
        return workspace.holdout_csv, images_dir(workspace, spec, "infer")
    key = {"train": "train", "validation": "validation", "kpi": "infer"}[name]
    return csv_path(workspace, spec, key), images_dir(workspace, spec, key)


def load_split(workspace: Workspace, spec: specs.Spec, name: str) -> Split:
    """Read one split and require every image that its rows name.

    Raises:
        HardStop: the CSV or an image breaks the contract.
    """
    csv, images = split_source(workspace, spec, name)
    frame = read_changenet_csv(csv, what=_WHAT[name])
    layout = specs.layout(spec, images)
    layout.require(frame, f"the {_WHAT[name]}")
    return Split(name, csv, layout, frame)


def load_splits(workspace: Workspace, spec: specs.Spec) -> dict[str, Split]:
    """All splits of the workspace, the hold-out where it exists."""
    names = ["train", "validation", "kpi"] + (["holdout"] if workspace.holdout_csv.exists() else [])
    return {name: load_split(workspace, spec, name) for name in names}


def content_digest(identities: pd.DataFrame) -> str:
    """One digest over the content identities of a split, in row order."""
    return digest_json(identities["content_id"].tolist())
