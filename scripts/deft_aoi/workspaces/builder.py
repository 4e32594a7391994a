"""Writing a workspace: everything goes into a folder beside the target, which appears whole or not at all."""

from __future__ import annotations

import io
import shutil
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deft_aoi.contract import changenet_csv
from deft_aoi.contract.errors import UsageError
from deft_aoi.contract.files import copy_hashed, fsync_tree
from deft_aoi.contract.paths import Workspace, resolve_under
from deft_aoi.contract.schema import write_checked
from deft_aoi.contract.spec import Spec, dump_spec
from deft_aoi.contract.text import PASS, quoted

if TYPE_CHECKING:
    from PIL import Image

REPORT_NAME = "workspace_report.json"
JPEG_QUALITY = 92
"""Colour is not subsampled: a crop is 64 px wide and the solder's colour is the signal."""


@dataclass(frozen=True)
class Split:
    """Where the rows and images of one part of a workspace lie, relative to its root.

    Attributes:
        csv: the rows' file.
        images_dir: what row paths are relative to.
        prefix: what row paths begin with.
    """

    csv: str
    images_dir: str
    prefix: str = ""


SPLITS: dict[str, Split] = {
    "train": Split("train/base/training_set.csv", "kpi/images"),
    "validation": Split("train/base/validation_set.csv", "kpi/images"),
    "kpi": Split("kpi/testing_set.csv", "kpi/images"),
    "holdout": Split("kpi/holdout_set.csv", "kpi/images"),
    "pool": Split("augmentation/mining_pool/mining_pool.csv", "augmentation/mining_pool", "images/"),
}
"""The five parts, in the order in which boards are dealt to them."""


def embedded_spec(lights: tuple[str, ...], image_ext: str, size: int, train: Mapping[str, Any] | None = None) -> Spec:
    """A baseline spec for the embedded engine; keys and meanings are TAO's."""
    classify: Spec = {
        f"{role}_dataset": {"csv_path": SPLITS[split].csv, "images_dir": SPLITS[split].images_dir}
        for role, split in (("train", "train"), ("validation", "validation"), ("infer", "kpi"))
    }
    named = [light for light in lights if light]
    classify |= {
        "image_ext": image_ext,
        "num_input": len(lights),
        "input_map": {light: number for number, light in enumerate(named)} or None,
        "concat_type": "linear",
        "image_width": size,
        "image_height": size,
    }
    spec: Spec = {
        "task": "classify",
        "model": {"backbone": {"type": "embedded_siamese"}},
        "dataset": {"classify": classify},
    }
    return spec | ({"train": dict(train)} if train else {})


def encode(image: Image.Image, extension: str = ".jpg") -> bytes:
    """The image's bytes, without metadata."""
    buffer = io.BytesIO()
    if extension == ".jpg":
        image.save(buffer, "JPEG", quality=JPEG_QUALITY, subsampling=0)
    else:
        image.save(buffer, "PNG")
    return buffer.getvalue()


class WorkspaceBuilder:
    """A workspace being written.

    Args:
        output: where the finished workspace will be; must not exist, or be an empty folder.

    Raises:
        UsageError: ``output`` has content, or its parent does not exist.
    """

    def __init__(self, output: Path) -> None:
        output = output.expanduser().absolute()
        if output.is_symlink() or (output.exists() and (not output.is_dir() or any(output.iterdir()))):
            raise UsageError(
                f"the output folder {quoted(output, 200)} is not empty",
                expected="a folder that does not exist yet, or an empty one",
                hint="choose another --output; nothing is ever overwritten",
            )
        if not output.parent.is_dir():
            raise UsageError(
                f"the folder {quoted(output.parent, 200)} does not exist", hint="create it, or choose another --output"
            )
        self.output = output.parent.resolve() / output.name
        # Built beside the target: a rename within one file system is atomic.
        self._partial = self.output.with_name(f".{output.name}.partial")
        if self._partial.is_dir():
            shutil.rmtree(self._partial)
        self._partial.mkdir()
        try:
            Workspace.at(self._partial)
        except BaseException:
            self._partial.rmdir()
            raise
        self._summary: dict[str, dict[str, Any]] = {}

    def __enter__(self) -> WorkspaceBuilder:
        return self

    def __exit__(self, *exc: object) -> None:
        """Leave nothing half-written: an unfinished folder is removed."""
        if self._partial.is_dir():
            shutil.rmtree(self._partial)

    def path(self, rel: str) -> Path:
        """The file ``rel`` of the workspace being written; its folder exists afterwards."""
        path = resolve_under(self._partial, rel)
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def write_bytes(self, rel: str, data: bytes) -> None:
        """Write one file; durable only when the workspace is finished."""
        self.path(rel).write_bytes(data)

    def copy_file(self, source: Path, rel: str) -> None:
        """Copy one file; never a link. Raises HardStop when the source is a link or no regular file."""
        copy_hashed(source, self.path(rel))

    def write_split(self, name: str, rows: Iterable[Mapping[str, str]]) -> None:
        """Write the CSV of a part and remember its counts."""
        import pandas as pd

        frame = pd.DataFrame(list(rows), dtype=object)
        changenet_csv.write_changenet_csv(frame, self.path(SPLITS[name].csv))
        counts = Counter(frame["label"])
        labels = {PASS: counts.pop(PASS, 0)} | dict(sorted(counts.items()))
        self._summary[name] = {"rows": len(frame), "boards": frame["boardname"].nunique(), "labels": labels}

    def write_spec(self, spec: Spec) -> None:
        """Write ``specs/baseline_spec.yaml``."""
        dump_spec(spec, self.path("specs/baseline_spec.yaml"))

    def finish(self, *, kind: str, parameters: Mapping[str, Any], pregen: Mapping[str, int], notes: list[str]) -> dict[str, Any]:
        """Write the report, make everything durable and put the workspace in its place.

        Returns:
            The report (schema ``workspace_report``).
        """
        report = {
            "kind": kind,
            "notes": notes,
            "parameters": dict(parameters),
            "pregenerated": dict(sorted(pregen.items())),
            "splits": self._summary,
        }
        write_checked(self._partial / REPORT_NAME, report, "workspace_report")
        fsync_tree(self._partial)
        self._partial.rename(self.output)
        return report


def report_text(report: Mapping[str, Any], output: Path) -> str:
    """The report as the lines that a person reads."""
    lines = [f"workspace: {output}"]
    for name, part in report["splits"].items():
        labels = ", ".join(f"{quoted(label)[1:-1]} {count}" for label, count in list(part["labels"].items())[:12])
        lines.append(f"  {name}: {part['rows']} rows, {part['boards']} boards ({labels})"[:390])
    pairs = ", ".join(f"{quoted(label)[1:-1]} {count}" for label, count in list(report["pregenerated"].items())[:12])
    lines.append(f"  pre-generated pairs: {sum(report['pregenerated'].values())} ({pairs or 'none'})"[:390])
    lines += [f"  note: {quoted(note, 300)}" for note in report["notes"][:4]]
    return "\n".join(lines)
