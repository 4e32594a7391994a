"""Every row that a model was ever trained on, by content: ``lineage.parquet``, handed over beside ``best_model.json``.

A row has the digests of its pair and of its test image, the thumbnail that proposes near-duplicates and the reduced grey
picture that confirms them. So the next run can hold a model against its own validation, KPI and hold-out sets when the run
that trained it, and every image of it, is gone.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from deft_aoi.analysis.identity import ContentIndex, Part
from deft_aoi.analysis.leakage import grey_images
from deft_aoi.analysis.near_duplicates import match, reduced
from deft_aoi.contract.errors import HardStop
from deft_aoi.contract.files import atomic_write_bytes, sha256_file
from deft_aoi.contract.images import decode_image
from deft_aoi.contract.text import quoted

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

IDENTITY = ("content_id", "featureless", "test_id", "test_flat", "test_thumb")
COLUMNS = ("run", "iteration", "input_path", "golden_path", "object_name", "label", "provenance", *IDENTITY, "grey")
FILE = "lineage.parquet"
MAX_LISTED = 3


def describe(part: Part, kinds: list[str], iterations: list[str], run: str) -> pd.DataFrame:
    """The rows of a training set as the lineage has them.

    Args:
        part: N rows, workspace-relative, with identities.
        kinds: (N,) ``real`` or ``sdg``.
        iterations: (N,) in which a row came in.
        run: name of the run that trained on them.
    """
    import pandas as pd

    load = grey_images(part)
    frame = part.frame[["input_path", "golden_path", "object_name", "label"]].reset_index(drop=True)
    frame = frame.assign(run=run, iteration=iterations, provenance=kinds)
    for name in IDENTITY:
        frame[name] = part.ids[name].to_numpy()
    frame["grey"] = [[_png(image) for image in load(row)] for row in range(len(frame))]
    return pd.DataFrame(frame[list(COLUMNS)])


def _png(image: NDArray[np.float32]) -> bytes:
    from PIL import Image

    sink = io.BytesIO()
    Image.fromarray(np.clip(np.rint(reduced(image)), 0, 255).astype(np.uint8)).save(sink, "PNG")
    return sink.getvalue()


def write(path: Path, rows: pd.DataFrame) -> int:
    """Write the lineage, each content once, where it came in first; the number of rows."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    once = rows[~rows["content_id"].duplicated()].reset_index(drop=True)
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pandas(once[list(COLUMNS)], preserve_index=False), sink)
    atomic_write_bytes(path, sink.getvalue())
    return len(once)


def read(path: Path, digest: str) -> pd.DataFrame:
    """Read a lineage.

    Raises:
        HardStop: it is not the file with this digest.
    """
    import pyarrow.parquet as pq

    if not path.is_file() or sha256_file(path) != digest:
        raise HardStop(
            "the lineage of the model is not the one that was handed over",
            expected=f"{path} with sha256 {digest[:16]}",
            found="another file" if path.is_file() else "no file",
            hint="keep lineage.parquet beside best_model.json, or hand the model over again: prepare_inference_spec.py",
        )
    return pq.read_table(path).to_pandas()


def refuse_leaks(rows: pd.DataFrame, held_out: Sequence[Part], *, allow_near: bool) -> int:
    """Stop where a model was trained on a part of a set that is to judge it.

    Args:
        rows: the lineage.
        held_out: the sets that judge, with identities.
        allow_near: near-duplicates are the user's decision.

    Returns:
        How many near-duplicates were allowed.

    Raises:
        HardStop: naming the set and the first rows.
    """
    solid, allowed = rows[~rows["test_flat"]].reset_index(drop=True), 0
    for part in held_out:
        tests = part.ids["test_id"]
        exact = np.flatnonzero(tests.isin(set(solid["test_id"])).to_numpy())
        pairs = [(int(solid.index[solid["test_id"] == tests.iat[row]][0]), int(row)) for row in exact[:MAX_LISTED]]
        if not len(exact):
            near = _near(solid, part)
            allowed += len(near) if allow_near else 0
            if near.empty or allow_near:
                continue
            exact, pairs = (
                near["row_b"].unique(),
                list(near.head(MAX_LISTED).itertuples(index=False, name=None)),
            )
        shown = "; ".join(
            f"line {b + 2} of the {part.name} is {quoted(solid['object_name'].iat[a], 60)} of {solid['run'].iat[a]}"
            for a, b in pairs
        )
        raise HardStop(
            f"leakage: the model was trained on {len(exact)} parts of this workspace's {part.name}",
            expected=f"no part of the {part.name} among the {len(rows):,} rows of the model's lineage, whatever it is called",
            found=shown,
            hint=f"remove these rows from the {part.name}, or start from a model that never saw them",
        )
    return allowed


def _near(rows: pd.DataFrame, part: Part) -> pd.DataFrame:
    """``row_a`` (of the lineage), ``row_b`` (of the set): asked both ways, since either may be the other's crop."""
    import pandas as pd

    def load(row: int) -> list[NDArray[np.float32]]:
        return [_grey(data) for data in rows["grey"].iat[row]]

    of_set = grey_images(part)
    there = match(part.ids, rows, of_set, load).rename(columns={"row_a": "row_b", "row_b": "row_a"})
    both = pd.concat([match(rows, part.ids, load, of_set), there])
    return both[["row_a", "row_b"]].drop_duplicates("row_b").sort_values("row_b", ignore_index=True)


def _grey(data: bytes) -> NDArray[np.float32]:
    return np.asarray(decode_image(data, "lineage.parquet").convert("L"), dtype=np.float32)


def still_here(rows: pd.DataFrame, training: Part, index: ContentIndex) -> pd.DataFrame:
    """Rows of a lineage that a workspace still has and that are not in its training set.

    Args:
        rows: the lineage.
        training: the workspace's own training set, workspace-relative.
        index: digests of this workspace.

    Returns:
        ChangeNet rows with ``provenance`` and ``content_id``, in the order of the lineage.
    """
    known = set(training.ids["content_id"])
    names = set(training.frame[["input_path", "object_name"]].itertuples(index=False, name=None))
    taken = [key in names for key in rows[["input_path", "object_name"]].itertuples(index=False, name=None)]
    new = rows[~rows["content_id"].isin(known) & ~np.array(taken, dtype=bool)]
    here = []
    for row in new[["input_path", "golden_path", "object_name"]].itertuples(index=False):
        names = [training.layout.file_name(row.object_name, light) for light in training.layout.lights]
        folders = [training.layout.images_dir / folder for folder in (row.input_path, row.golden_path)]
        here.append(all((folder / name).is_file() for folder in folders for name in names))
    found = new[here].reset_index(drop=True)
    if found.empty:
        return found
    now = index.digest_pairs(found, training.layout, what="rows that the model was trained on")
    same = (now["content_id"] == found["content_id"]).to_numpy()
    return found[same].reset_index(drop=True)


def of_training(training: Part, provenance: pd.DataFrame | None, run: str) -> pd.DataFrame:
    """The lineage of one run's training set; ``provenance``: its rows beside it, ``None`` for the base set."""
    n = len(training.frame)
    kinds: list[Any] = ["real"] * n if provenance is None else provenance["provenance"].tolist()
    numbers: list[Any] = ["0"] * n if provenance is None else provenance["iteration"].astype(str).tolist()
    return describe(training, kinds, ["baseline" if number == "0" else f"iter{number}" for number in numbers], run)
