"""Training sets as files: what ``assemble_training_csv.py``, ``validate_training_csv.py`` and the dataset stage do."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deft_aoi.analysis import dataset
from deft_aoi.analysis.dataset_rules import findings
from deft_aoi.analysis.identity import ContentIndex, Part
from deft_aoi.contract import spec as specs
from deft_aoi.contract.changenet_csv import ImageLayout, csv_text, read_changenet_csv, write_changenet_csv
from deft_aoi.contract.errors import Blocked, HardStop, UsageError
from deft_aoi.contract.files import atomic_write_text
from deft_aoi.contract.paths import Workspace, given, resolve_under
from deft_aoi.contract.splits import Split, load_split, split_names, split_source
from deft_aoi.contract.text import printable, shown_label

if TYPE_CHECKING:
    import pandas as pd


def training_csv(folder: Path, label: str) -> Path:
    """The training set of iteration ``label`` below the folder of its dataset stage."""
    return folder / f"train_combined_{label}.csv"


def provenance_path(csv: Path) -> Path:
    """The provenance file of a training CSV: ``<stem>_provenance.csv`` beside it."""
    return csv.with_name(f"{csv.stem}_provenance.csv")


def base_training_set(split: Split, workspace: Workspace, ids: pd.DataFrame) -> Part:
    """The workspace's own training set, workspace-relative as every iteration's is."""
    layout = ImageLayout(workspace.root, split.layout.lights, split.layout.image_ext)
    return Part("base training set", dataset.relative_rows(split.frame, split.layout.images_dir, workspace.root), layout, ids)


def assemble_file(
    previous: Part, mined_csv: Path, *, iteration: int, index: ContentIndex, recorded: pd.DataFrame | None
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Append the rows of a ``mining_pool.csv`` to the previous training set; ``recorded`` is that set's provenance.

    Returns:
        The rows and their provenance, as :func:`deft_aoi.analysis.dataset.assemble`.

    Raises:
        HardStop: a mined image changed since it was chosen, or a rule of assembling is broken.
    """
    mined = index.part("mined rows", read_changenet_csv(mined_csv, what="mined rows"), previous.layout)
    if "content_id" in mined.frame.columns:
        dataset.require_content(mined, mined.frame["content_id"])
    return dataset.assemble(previous, mined, iteration=iteration, previous_provenance=recorded)


def write_training_set(frame: pd.DataFrame, provenance: pd.DataFrame, csv: Path) -> None:
    """Write a training set and its provenance beside it."""
    atomic_write_text(provenance_path(csv), csv_text(provenance.astype(str)))
    write_changenet_csv(frame, csv)


def assemble_training_csv(
    workspace_dir: Path, *, iteration: int, mined: Path, previous: Path | None, output_dir: Path, allow_near: bool = False
) -> tuple[str, dict[str, Any]]:
    """``assemble_training_csv.py``: nothing is written before the whole set has been checked.

    Returns:
        Two lines, and ``{csv, check, growth}``.
    """
    if iteration < 1 or (iteration > 1) != (previous is not None):
        raise UsageError(
            "iteration 1 starts from the base training set, later ones from --previous",
            found=f"--iteration {iteration}, --previous {previous}",
        )
    files = _Files(workspace_dir)
    before = files.base() if previous is None else files.rows(given(previous), "previous training set")
    recorded = None if previous is None else dataset.read_provenance(provenance_path(given(previous)))
    frame, provenance = assemble_file(before, given(mined), iteration=iteration, index=files.index, recorded=recorded)
    checked = dataset.validate(
        frame,
        layout=before.layout,
        index=files.index,
        against=files.references(),
        previous=before,
        provenance=provenance,
        allow_near=allow_near,
    )
    output_dir.mkdir(parents=True, exist_ok=True)
    target = training_csv(output_dir, f"iter{iteration}")
    write_training_set(frame, provenance, target)
    growth, old = dataset.class_counts(provenance), len(before.frame)
    text = (
        f"{len(frame)} rows: {old} before, {len(frame) - old} mined; synthetic share {growth['sdg_fraction']:.1%}\n"
        f"{printable(target, 300)}"
    )
    return text, {"csv": str(target), "check": checked, "growth": growth}


def validate_training_csv(
    csv: Path,
    workspace_dir: Path,
    *,
    images_dir: str | None,
    previous: Path | None,
    write_fixed: Path | None,
    allow_near: bool = False,
) -> tuple[str, dict[str, Any]]:
    """``validate_training_csv.py``.

    Returns:
        Two lines, and the counts of :func:`deft_aoi.analysis.dataset.validate`.

    Raises:
        HardStop: a rule is broken; with ``write_fixed`` a proposed clean copy is written first.
    """
    files, path = _Files(workspace_dir), given(csv)
    layout = specs.layout(files.spec, files.images_of(path, images_dir))
    frame = read_changenet_csv(path, what=csv.name)
    beside = provenance_path(path)
    provenance = dataset.read_provenance(beside) if beside.is_file() else None
    before = None if previous is None else files.previous(given(previous))
    against = files.references()
    if write_fixed is not None:
        part = files.index.part(csv.name, frame, layout)
        found = findings(part, provenance=provenance, previous=before, against=against, allow_near=allow_near)
        _propose(frame, found, write_fixed)
    counts = dataset.validate(
        frame,
        layout=layout,
        index=files.index,
        against=against,
        previous=before,
        provenance=provenance,
        name=csv.name,
        allow_near=allow_near,
    )
    labels = ", ".join(f"{shown_label(k, 24)} {v}" for k, v in list(counts["labels"].items())[:8])
    text = (
        f"{counts['rows']} rows ({counts['distinct']} distinct, {counts['featureless']} featureless) are valid: {labels}\n"
        f"no content shared with {', '.join(f'{k} ({v})' for k, v in counts['compared_with'].items()) or 'no other set'}"
    )
    return text, counts


def _propose(frame: pd.DataFrame, found: Sequence[dataset.Finding], target: Path) -> None:
    clean, removed = dataset.propose_clean(frame, found)
    if removed:
        write_changenet_csv(clean, target)
        raise HardStop(
            f"{len(removed)} row(s) break a rule; a proposed clean copy is written",
            expected=found[0].expected,
            found=removed[0],
            hint=f"compare and use {printable(target, 300)}",
        )


class _Files:
    """A workspace as a command line names it: its spec, its digest cache, its sets with identities."""

    def __init__(self, path: Path) -> None:
        self.workspace = Workspace.at(path)
        if not self.workspace.baseline_spec.is_file():
            raise Blocked("the workspace has no spec", expected=str(self.workspace.baseline_spec))
        self.spec = specs.load_spec(self.workspace.baseline_spec)
        self.index = ContentIndex(self.workspace.cache_dir / "digests")

    def base(self) -> Part:
        split = load_split(self.workspace, self.spec, "train")
        ids = self.index.digest_pairs(split.frame, split.layout, what=split.title)
        return base_training_set(split, self.workspace, ids)

    def rows(self, path: Path, name: str) -> Part:
        return self.index.part(name, read_changenet_csv(path, what=name), specs.layout(self.spec, self.workspace.root))

    def previous(self, path: Path) -> Part:
        return self.base() if self._is_base(path) else self.rows(path, "previous training set")

    def images_of(self, path: Path, images_dir: str | None) -> Path:
        """What the rows of a training set are relative to: the base set's images are where the spec says."""
        if images_dir is not None:
            return resolve_under(self.workspace.root, images_dir)
        return split_source(self.workspace, self.spec, "train")[1] if self._is_base(path) else self.workspace.root

    def references(self) -> list[Part]:
        """Validation, KPI and hold-out set, those that exist."""
        out = []
        for name in split_names(self.workspace):
            if name != "train" and split_source(self.workspace, self.spec, name)[0].is_file():
                split = load_split(self.workspace, self.spec, name)
                out.append(self.index.part(split.title, split.frame, split.layout))
        return out

    def _is_base(self, path: Path) -> bool:
        return path.resolve() == split_source(self.workspace, self.spec, "train")[0]
