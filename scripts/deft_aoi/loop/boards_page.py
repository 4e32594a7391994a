"""The review page of new boards: the flagged and the unsure, largest doubt first."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deft_aoi.analysis.identity import image_paths
from deft_aoi.contract.changenet_csv import ImageLayout, read_changenet_csv
from deft_aoi.contract.errors import DeftError
from deft_aoi.contract.files import sha256_file
from deft_aoi.contract.text import PASS, normalize_label
from deft_aoi.loop.new_boards import FILE_COLUMNS, Boards
from deft_aoi.report import number_format as fmt
from deft_aoi.report.review_page import MAX_CHOICES, PAGE, PARTS, Part, write_page

if TYPE_CHECKING:
    import pandas as pd

OTHER = "other defect"


def write_boards_page(
    out: Path, boards: Boards, seen: pd.DataFrame, decided: pd.DataFrame, layout: ImageLayout, body: dict[str, Any]
) -> dict[str, Any] | None:
    """Write ``review.html`` and ``review.json`` into ``out``.

    Args:
        out: output folder of ``infer.py``.
        boards: N rows as given.
        seen: (N,) the rows with the goldens that the model saw.
        decided: (N,) rows of ``decisions.csv``.
        layout: how the rows name images.
        body: ``best_model.json``.

    Returns:
        See :func:`deft_aoi.report.review_page.write_page`; ``None`` where no part is flagged or unsure.
    """
    for name in (PAGE, PARTS):
        (out / name).unlink(missing_ok=True)  # of an earlier call with other boards
    distance = decided["distance"].astype(float).abs()
    asked = decided.index[(decided["decision"] != PASS) | (decided["doubt"] != "")]
    order = sorted(asked, key=lambda row: (distance[row], row))
    if not order:
        return None
    rows, lights = boards.frame.loc[order], len(layout.lights)
    given = list(zip(*image_paths(rows, layout), strict=True))
    folders = seen.loc[order, "golden_path"]
    parts = []
    for row, files, folder in zip(decided.loc[order].to_dict("records"), given, folders, strict=True):
        # A golden that was moved lies in an absolute folder, under the name it has in its own.
        shown = tuple(f"{folder}/{Path(file).name}" for file in files[lights:]) if folder.startswith("/") else ()
        said = "flagged" if row["decision"] != PASS else "passed"
        facts = [f"{said}, score {fmt.score(float(row['siamese_score']))}", row["doubt"]]
        facts += [f"labelled {fmt.part(row['label'])}"] if boards.known else []
        parts.append(
            Part(
                row.get(FILE_COLUMNS[0]) or f"{row['input_path']}/{row['object_name']}",
                ", ".join(fact for fact in facts if fact),
                files[:lights],
                files[lights:],
                shown,
                row["label"] if boards.known else "",
                float(row["siamese_score"]),
            )
        )
    source = {
        "run": body["run"],
        "iteration": body["iteration"],
        "checkpoint_sha256": body["checkpoint"]["sha256"],
        "threshold": body["threshold"],
    }
    title = f"{body['run']} {fmt.iteration(body['iteration'])}"
    return write_page(out, parts, _choices(boards, body), kind="boards", title=title, source=source)


def _choices(boards: Boards, body: dict[str, Any]) -> list[str]:
    """``PASS``, then the defects that the model was trained with, most frequent first, then what has no name yet."""
    labels = Counter(boards.frame["label"])
    path = Path(body["training_set"]["path"])
    try:
        if path.is_file() and sha256_file(path) == body["training_set"]["sha256"]:
            labels.update(read_changenet_csv(path, what="training set")["label"])
    except DeftError:
        pass  # the old training set is a help here, not an input
    names = dict.fromkeys(normalize_label(name) for name, _count in labels.most_common())
    return [PASS, *[name for name in names if name not in (PASS, OTHER)][: MAX_CHOICES - 2], OTHER]
