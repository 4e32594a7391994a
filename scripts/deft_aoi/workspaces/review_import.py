"""Takes over what a person judged on the review page: new boards into the mining pool, causes into a run's spot check.

The pool only grows: rows are appended, images go into a folder of their page. ``reviews.csv`` beside ``mining_pool.csv`` has
one line for each judged part: who said what and when, which model had scored it how, and what became of it. Everything is
checked before anything is written; ``mining_pool.csv`` is replaced last and as a whole, and the same file twice changes nothing.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deft_aoi.analysis import spot_check
from deft_aoi.analysis.identity import ContentIndex, Part
from deft_aoi.analysis.leakage import leaks_into
from deft_aoi.contract import spec as specs
from deft_aoi.contract.changenet_csv import MANDATORY, ImageLayout, csv_text, read_changenet_csv
from deft_aoi.contract.errors import HardStop, UsageError
from deft_aoi.contract.files import atomic_write_text, digest_json, fsync_tree, sha256_file
from deft_aoi.contract.images import open_image
from deft_aoi.contract.paths import RunPaths, Workspace, digest_cache_home
from deft_aoi.contract.schema import read_checked
from deft_aoi.contract.splits import load_split, split_names
from deft_aoi.contract.text import PASS, means_good, normalize_label, printable, quoted
from deft_aoi.contract.user_table import read_user_table
from deft_aoi.mining.path_rules import PathRule, pool_rules, resolve_column
from deft_aoi.mining.pool import read_real_rows
from deft_aoi.workspaces.builder import encode

if TYPE_CHECKING:
    import pandas as pd

REVIEWS = "reviews.csv"
REVIEW_COLUMNS = (
    *("page", "part", "name", "label", "by", "at"),
    *("run", "iteration", "checkpoint_sha256", "score", "model_said", "came_with", "outcome"),
)
APPENDED, KNOWN, CONFLICTS, LEAKS = "appended", "already in the workspace", "another label in the workspace", "leak"
MAX_LISTED = 3


@dataclass(frozen=True)
class Judgement:
    """One line of ``labels.csv``, and the part of ``review.json`` that it is about."""

    part: dict[str, Any]
    label: str
    by: str
    at: str


def import_review(args: argparse.Namespace) -> dict[str, Any]:
    """``import_review.py``: what was taken over. Raises what the functions below raise."""
    body, judged = read_review(args.labels, args.review)
    place = args.results_dir if body["kind"] == "spot_check" else args.workspace
    if place is None:
        expected = "--results-dir RUN_DIR" if body["kind"] == "spot_check" else "--workspace DIR"
        raise UsageError("where these labels belong is not said", expected=expected)
    if body["kind"] == "spot_check":
        return record_causes(body, judged, RunPaths(place.expanduser().resolve()))
    return append_to_pool(body, judged, place, leave_out_leaks=args.leave_out_leaks)


def text(found: dict[str, Any]) -> str:
    """What was taken over, in a few lines."""
    if "iteration" in found:
        counts = ", ".join(f"{count} {verdict}" for verdict, count in sorted(found["by_verdict"].items()))
        return f"{found['recorded']} causes recorded for {found['iteration']}: {counts}"
    left = "".join(f"; {found[what]:,} left out: {what}" for what in (KNOWN, CONFLICTS, LEAKS) if found[what])
    return (
        f"{found[APPENDED]:,} of {found['judged']:,} judged parts appended to the mining pool{left}\n"
        f"{found['disagree_with_model']:,} disagree with the model, {found['disagree_with_label']:,} with the label that "
        f"they came with: {found['kept_in']}"
    )


def read_review(labels: Path, review: Path) -> tuple[dict[str, Any], list[Judgement]]:
    """``review.json`` and what was judged on its page.

    Raises:
        HardStop: a file is damaged, the labels are of another page, or an answer is not allowed.
    """
    body: dict[str, Any] = read_checked(review, "review")
    if digest_json({k: v for k, v in body.items() if k != "page"})[:16] != body["page"]:
        raise HardStop(
            f"{quoted(review.name)} was changed after its page was made",
            expected=f"the file that was written with page {body['page']}",
            hint="make the page again and judge on that",
        )
    table = read_user_table(labels, what="labels of the review", wanted=("page", "part", "label", "by", "at"))
    parts = {part["id"]: part for part in body["parts"]}
    out: dict[str, Judgement] = {}
    for row, line in zip(table.frame.to_dict("records"), table.lines, strict=True):
        where = f"{quoted(labels.name)}, line {line}"
        if row["page"] != body["page"]:
            raise HardStop(
                f"{where}: these labels are of another page",
                expected=f"page {body['page']}, the one that {quoted(review.name)} lists",
                found=quoted(row["page"]),
                hint="name the review.json that lies beside the page on which these labels were given",
            )
        if row["part"] not in parts or row["part"] in out:
            raise HardStop(
                f"{where}: {'a second label of a part' if row['part'] in out else 'no such part on this page'}",
                expected="each judged part once",
                found=quoted(row["part"]),
                hint="save labels.csv from the page again",
            )
        by = printable(row["by"], 60)
        if not by:
            raise HardStop(f"{where}: nobody signed this label", expected="a name in the column by", hint="fill it in")
        out[row["part"]] = Judgement(parts[row["part"]], _answer(row["label"], body, where), by, printable(row["at"], 40))
    return body, list(out.values())


def _answer(raw: str, body: dict[str, Any], where: str) -> str:
    if body["kind"] == "spot_check":
        if raw not in body["choices"]:
            raise HardStop(
                f"{where}: no such answer",
                expected=", ".join(body["choices"]),
                found=quoted(raw),
                hint="save labels.csv from the page again",
            )
        return raw
    try:
        label = normalize_label(raw)
    except HardStop as error:
        error.message = f"{where}: {error.message}"
        raise
    if label != PASS and means_good(label):
        raise HardStop(f"{where}: this label means a good part", expected="PASS", found=quoted(raw), hint="write PASS")
    return label


def record_causes(body: dict[str, Any], judged: Sequence[Judgement], run: RunPaths) -> dict[str, Any]:
    """Causes that were given on a run's review page, into its spot check.

    Raises:
        UsageError: the page is of another run.
    """
    if run.root.name != body["source"]["run"]:
        raise UsageError("the page is of another run", expected=quoted(body["source"]["run"]), found=quoted(run.root.name))
    for it in judged:
        spot_check.record(
            run.run / spot_check.FILE_NAME,
            sample_id=it.part["name"],
            verdict=it.label,
            by="person",
            iteration=body["source"]["iteration"],
            note=f"{it.by} on the review page",
        )
    return {"iteration": body["source"]["iteration"], "recorded": len(judged), "by_verdict": Counter(it.label for it in judged)}


def append_to_pool(
    body: dict[str, Any], judged: Sequence[Judgement], root: Path, *, leave_out_leaks: bool = False
) -> dict[str, Any]:
    """Append judged parts to a workspace's mining pool.

    Args:
        body: ``review.json``.
        judged: what was judged.
        root: the workspace.
        leave_out_leaks: append the others where some are parts of the validation, KPI or hold-out set.

    Returns:
        Counts by outcome, how many disagree with the model and with the label that they came with, and where it is kept.

    Raises:
        HardStop: an image is not the one that was shown, the lights differ, or a part is one of a set that judges.
    """
    workspace = Workspace.at(root.expanduser().resolve())
    spec = specs.load_spec(workspace.baseline_spec, what="baseline spec")
    workspace.pool_dir.mkdir(parents=True, exist_ok=True)
    with _alone(workspace.pool_dir):
        aside = workspace.pool_dir / f".review_{body['page']}"
        try:
            frame = _stage(judged, aside, specs.lights(spec), specs.image_ext(spec))
            outcomes, leaks = _outcomes(workspace, spec, frame)
            if leaks and not leave_out_leaks:
                raise HardStop(
                    f"{len(leaks)} judged parts are in a set that judges: {'; '.join(leaks[:MAX_LISTED])}",
                    expected="no part of the validation, KPI or hold-out set in the pool",
                    found="the same test image, exactly or re-encoded, moved, resized, turned",
                    hint="--leave-out-leaks appends the others",
                )
            _append(workspace, frame, outcomes, body, judged, aside, specs.layout(spec, workspace.root))
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    threshold = body["source"]["threshold"]
    counts = Counter(outcomes)
    return {
        **{outcome: counts[outcome] for outcome in (APPENDED, KNOWN, CONFLICTS, LEAKS)},
        "judged": len(judged),
        "disagree_with_model": sum(_said(it, threshold) not in ("", _side(it.label)) for it in judged),
        "disagree_with_label": sum(it.part["label"] not in ("", it.label) for it in judged),
        "kept_in": str(workspace.pool_dir / REVIEWS),
    }


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Two imports at once would each keep only their own rows."""
    fd = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _stage(judged: Sequence[Judgement], aside: Path, lights: tuple[str, ...], extension: str) -> pd.DataFrame:
    """Copies of the images under the names that the spec makes of their rows; the rows, relative to the pool's folder."""
    import pandas as pd

    shutil.rmtree(aside, ignore_errors=True)
    for side in ("tests", "goldens"):
        (aside / side).mkdir(parents=True)
        for it in judged:
            files = it.part[side]
            if len(files) != len(lights):
                raise HardStop(
                    f"the page shows {len(files)} lights, the workspace has {len(lights)}",
                    expected=f"a page of a model with the lights of the workspace's spec: {', '.join(lights)}",
                    hint="import into the workspace that the model was trained for",
                )
            for light, file in zip(lights, files, strict=True):
                source = Path(file["path"])
                if not source.is_file() or sha256_file(source) != file["sha256"]:
                    raise HardStop(
                        f"an image is not the one that was judged: {quoted(source, 200)}",
                        expected=f"sha256 {file['sha256'][:16]}, as on the page",
                        found="another file" if source.is_file() else "no file",
                        hint="restore it, or score the boards and judge again",
                    )
                target = aside / side / f"{it.part['id']}{f'_{light}' if light else ''}{extension}"
                if source.suffix.lower() == extension.lower():
                    shutil.copyfile(source, target)
                else:  # readers go by content: a PNG under any name keeps the pixels
                    target.write_bytes(encode(open_image(source), ".png"))
    rows = [(f"{aside.name}/tests", f"{aside.name}/goldens", it.label, it.part["id"]) for it in judged]
    return pd.DataFrame(rows, columns=list(MANDATORY), dtype=object)


def _outcomes(workspace: Workspace, spec: specs.Spec, frame: pd.DataFrame) -> tuple[list[str], list[str]]:
    """What becomes of each row, and the leaks in words."""
    index, layout = ContentIndex(digest_cache_home()), specs.layout(spec, workspace.pool_dir)
    part = index.part("judged parts", frame, layout)
    splits = {name: load_split(workspace, spec, name) for name in split_names(workspace)}
    sets = {name: index.part(split.title, split.frame, split.layout) for name, split in splits.items()}
    leaks = leaks_into(part, {name: held for name, held in sets.items() if name != "train"})
    known = dict(zip(sets["train"].ids["content_id"], sets["train"].frame["label"], strict=True))
    if workspace.pool_csv.is_file():
        real, _rules = read_real_rows(workspace, layout.lights, layout.image_ext)
        pool: Part = index.part("mining pool", real, specs.layout(spec, workspace.root))
        known |= dict(zip(pool.ids["content_id"], pool.frame["label"], strict=True))
    outcomes = []
    for content, label, leak in zip(part.ids["content_id"], frame["label"], leaks["leak"], strict=True):
        if leak:
            outcomes.append(LEAKS)
            continue
        outcomes.append(APPENDED if content not in known else KNOWN if known[content] == label else CONFLICTS)
        known.setdefault(content, label)
    found = leaks[leaks["leak"] != ""]
    words = [
        f"{frame['object_name'][at]} is {quoted(row['leak_with'], 80)} of the {row['leak']} set"
        for at, row in zip(found.index.tolist(), found.to_dict("records"), strict=True)
    ]
    return outcomes, words


def _append(
    workspace: Workspace,
    frame: pd.DataFrame,
    outcomes: list[str],
    body: dict[str, Any],
    judged: Sequence[Judgement],
    aside: Path,
    layout: ImageLayout,
) -> None:
    new = frame[[outcome == APPENDED for outcome in outcomes]].reset_index(drop=True)
    before = _text(workspace.pool_csv) or ",".join(MANDATORY) + "\n"
    header = before.split("\n", 1)[0].removeprefix("\ufeff").rstrip("\r").split(",")
    rules = _rules(workspace, layout)
    for column, side in (("input_path", "tests"), ("golden_path", "goldens")):
        base = workspace.pool_dir / "images" if workspace.pool_dir.is_relative_to(rules[column].base) else rules[column].base
        folder = base / f"review_{body['page']}" / side
        if len(new):
            folder.mkdir(parents=True, exist_ok=True)
            for name in new["object_name"]:
                for file in (aside / side).glob(f"{name}[._]*"):
                    file.replace(folder / file.name)
            fsync_tree(folder.parent)
        inside = folder.relative_to(rules[column].base).as_posix()
        style = rules[column].file_style
        first = [layout.file_name(name, layout.lights[0]) for name in new["object_name"]]
        new[column] = [f"{inside}/{name}" if style else inside for name in first]
    source, path = body["source"], workspace.pool_dir / REVIEWS
    lines = [
        {
            "page": body["page"],
            "part": it.part["id"],
            "name": it.part["name"],
            "label": it.label,
            "by": it.by,
            "at": it.at,
            **{key: source[key] for key in ("run", "iteration", "checkpoint_sha256")},
            "score": "" if it.part["score"] is None else repr(it.part["score"]),
            "model_said": _said(it, source["threshold"]),
            "came_with": it.part["label"],
            "outcome": outcome,
        }
        for it, outcome in zip(judged, outcomes, strict=True)
    ]
    kept = _text(path) or ",".join(REVIEW_COLUMNS) + "\n"
    seen = {_without_outcome(line) for line in kept.splitlines()}
    again = [line for line in _csv_lines(lines, REVIEW_COLUMNS) if _without_outcome(line) not in seen]
    atomic_write_text(path, kept + "".join(f"{line}\n" for line in again))
    if len(new):
        rows = _csv_lines(new.to_dict("records"), header)
        atomic_write_text(workspace.pool_csv, before + "".join(f"{row}\n" for row in rows))


def _without_outcome(line: str) -> str:
    """What was said of a part: imported again it is said once, whatever the pool has become."""
    return line.rpartition(",")[0]


def _text(path: Path) -> str:
    """A table as it is, its last line ended."""
    text = path.read_bytes().decode("utf-8") if path.is_file() else ""
    return text if not text or text.endswith("\n") else text + "\n"


def _csv_lines(rows: Sequence[dict[Any, Any]], columns: Sequence[str]) -> list[str]:
    import pandas as pd

    table = pd.DataFrame(
        [{column: row.get(column, "") for column in columns} for row in rows], columns=list(columns), dtype=object
    )
    return csv_text(table).splitlines()[1:]


def _rules(workspace: Workspace, layout: ImageLayout) -> dict[str, PathRule]:
    """How the pool's rows name their folders: new rows must follow it."""
    first = pool_rules(workspace)[0]
    if not workspace.pool_csv.is_file():
        return {"input_path": first, "golden_path": first}
    frame = read_changenet_csv(workspace.pool_csv, what="mining pool")
    return {column: resolve_column(frame, column, workspace, layout)[1] for column in ("input_path", "golden_path")}


def _side(label: str) -> str:
    return PASS if label == PASS else "NO_PASS"


def _said(it: Judgement, threshold: float) -> str:
    """What the model had decided; empty where it had not scored the part."""
    score = it.part["score"]
    return "" if score is None else "NO_PASS" if score > threshold else PASS
