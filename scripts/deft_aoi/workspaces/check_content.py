"""Content rules of the data check: copies, conflicts, leakage, pre-generated pictures, and what the sample size supports."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from deft_aoi.analysis.dataset_rules import findings as rule_findings
from deft_aoi.analysis.identity import ContentIndex, Part
from deft_aoi.analysis.intervals import sample_size_for, upper_bound
from deft_aoi.analysis.leakage import find_leaks, near_duplicates, shared_boards
from deft_aoi.contract.paths import Workspace, digest_cache_home
from deft_aoi.contract.spec import Spec, has_several_goldens, network_size
from deft_aoi.contract.table_reader import file_line
from deft_aoi.contract.text import PASS, is_pass, quoted
from deft_aoi.mining.pregen_scan import PregenPairs
from deft_aoi.workspaces.check_findings import ERROR, NOTE, WARNING, Finding, lines_of
from deft_aoi.workspaces.crop_size import large_crops, middle_side

if TYPE_CHECKING:
    import pandas as pd

NEAR_LISTED = 3
PICTURES = 10
"""Of one finding, on the page."""
SUSPECTS, LOOKED_AT = 5, 2000
"""Rows shown of each side of a set, of so many that are measured."""


def _lines(part: Part, rows: Iterable[int]) -> tuple[int, ...]:
    """Positions within the file of positions within the part."""
    return tuple(int(part.frame.index[int(r)]) for r in rows)


_LEVELS = {"label": None, "row_twice": WARNING, "content_twice": WARNING, "conflict": ERROR, "classes": ERROR}
"""Outside the training set copies are a warning (the interval counts them once); labels were judged cell by cell."""


def check_rules(workspace: Workspace, parts: dict[str, Part], found: list[Finding]) -> None:
    """Labels, classes, copies and conflicts within each part."""
    rels = _rels(workspace)
    for name, part in parts.items():
        for f in rule_findings(part):
            level = ERROR if name == "train" and f.rule != "label" else _LEVELS.get(f.rule)
            if level is None:
                continue
            rows = _lines(part, f.rows)
            message = f"{f.message}; {f.found}" if f.found else f.message
            where = f"{rels[name]}, line {file_line(part.frame, rows[0])}" if rows else rels[name]
            found.append(
                Finding(
                    level,
                    f.rule,
                    where,
                    message,
                    f.hint,
                    lines_of(rows, part.frame),
                    rows if level == ERROR else (),
                    pictures=tuple(_picture(rels[name], part, r) for r in f.rows[:PICTURES]),
                )
            )


def _picture(rel: str, part: Part, row: int, *, test_only: bool = False) -> tuple[str, tuple[str, ...]]:
    """Caption and files of a row's images."""
    cells = part.frame.iloc[row].to_dict()
    files = [*part.layout.input_paths(cells), *([] if test_only else part.layout.golden_paths(cells))]
    return f"{rel}, line {file_line(part.frame, _lines(part, [row])[0])}: {cells['label']}", tuple(map(str, files))


def check_labels(workspace: Workspace, parts: dict[str, Part], spec: Spec | None, found: list[Finding]) -> None:
    """The rows whose label fits their image least, by the rule without training; a note for a person's eye, never a verdict."""
    from deft_aoi.analysis.registered_goldens import Preprocessing, ShiftCache, pairs_of

    if spec is None or has_several_goldens(spec):
        return
    cache, rels = ShiftCache(digest_cache_home(), Preprocessing(*network_size(spec))), _rels(workspace)
    for name, part in parts.items():
        pairs = pairs_of(part.frame, part.layout, part.ids)[:LOOKED_AT]
        scores = [measured.rule_registered for measured in cache.measure(pairs)]
        good = [is_pass(str(part.frame["label"].iat[row])) for row in range(len(pairs))]
        by_score = sorted(range(len(pairs)), key=scores.__getitem__)
        rows = [r for r in reversed(by_score) if good[r]][:SUSPECTS] + [r for r in by_score if not good[r]][:SUSPECTS]
        shown = tuple(_picture(rels[name], part, row) for row in rows)
        message = f"{len(rows)} rows to look at: good parts that differ most from their golden, defects that differ least"
        lines = lines_of(_lines(part, rows), part.frame)
        found.append(Finding(NOTE, "suspect_label", rels[name], message, "correct wrong labels", lines, pictures=shown))


def _rels(workspace: Workspace) -> dict[str, str]:
    return {
        "train": workspace.rel(workspace.training_csv),
        "validation": workspace.rel(workspace.validation_csv),
        "kpi": workspace.rel(workspace.kpi_csv),
        "holdout": workspace.rel(workspace.holdout_csv),
        "pool": workspace.rel(workspace.pool_csv),
    }


def check_leakage(
    workspace: Workspace, parts: dict[str, Part], pool: Part | None, found: list[Finding], *, allow_near: bool = False
) -> None:
    """Pixels, looks and boards that two parts share."""
    rels = _rels(workspace)
    every = parts | ({"pool": pool} if pool is not None else {})
    # (the part that loses rows, the part that keeps them, how bad it is)
    rules = [("train", other, ERROR) for other in ("validation", "kpi", "holdout")]
    rules += [("validation", "kpi", WARNING), ("validation", "holdout", WARNING), ("holdout", "kpi", WARNING)]
    rules += [("pool", other, NOTE) for other in ("train", "validation", "kpi", "holdout")]
    for loser, keeper, level in rules:
        if loser not in every or keeper not in every:
            continue
        a, b = every[loser], every[keeper]
        leaks = find_leaks(a, b)
        if len(leaks):
            rows, first = _lines(a, leaks["row_a"]), leaks.iloc[0]
            line_b = file_line(b.frame, _lines(b, [first.row_b])[0])
            found.append(
                Finding(
                    level,
                    "leakage",
                    f"{rels[loser]}, line {file_line(a.frame, rows[0])}",
                    f"{len(leaks)} rows have the test image of rows of the {b.name}, first its line {line_b} "
                    f"({quoted(first.sample_b, 120)})",
                    "these rows are never mined; nothing to do"
                    if loser == "pool"
                    else f"remove the rows from the {a.name}: a model must not be judged on what it has seen",
                    lines_of(rows, a.frame),
                    rows if loser != "pool" else (),
                    pictures=_both(rels[loser], a, rels[keeper], b, leaks),
                )
            )
        if loser == "train" or (loser == "pool" and keeper != "train"):
            _check_near(rels[loser], a, rels[keeper], b, found, NOTE if loser == "pool" else WARNING if allow_near else ERROR)
        if loser == "train":
            _check_boards(rels[loser], a, b, found)


def _check_near(rel: str, a: Part, rel_b: str, b: Part, found: list[Finding], level: str) -> None:
    near = near_duplicates(a, b)
    if not len(near):
        return
    rows = _lines(a, near["row_a"])
    pairs = "; ".join(
        f"line {file_line(a.frame, _lines(a, [p['row_a']])[0])} and line {file_line(b.frame, _lines(b, [p['row_b']])[0])} "
        f"({p['residual']:.1f} grey levels apart)"
        for p in near.head(NEAR_LISTED).to_dict("records")
    )
    message = (
        f"{len(near)} rows show test images of the {b.name} in another dress (nearly the same: saved again, moved, cropped, "
        f"brighter, resized, flipped or turned): {pairs}"
    )
    fix = {
        NOTE: "these rows are never mined; nothing to do",
        WARNING: "allowed by --allow-near-duplicates",
        ERROR: f"remove the rows from the {a.name}, or, where they are different parts, --allow-near-duplicates",
    }[level]
    removed = rows if level == ERROR else ()
    found.append(
        Finding(
            level,
            "near_duplicate",
            f"{rel}, line {file_line(a.frame, rows[0])}",
            message,
            fix,
            lines_of(rows, a.frame),
            removed,
            pictures=_both(rel, a, rel_b, b, near),
        )
    )


def _both(rel_a: str, a: Part, rel_b: str, b: Part, pairs: pd.DataFrame) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """The test images of the rows of both parts, side by side."""
    out = []
    for pair in pairs.head(PICTURES).to_dict("records"):
        (one, left), (two, right) = (
            _picture(rel_a, a, pair["row_a"], test_only=True),
            _picture(rel_b, b, pair["row_b"], test_only=True),
        )
        out.append((f"{one} | {two}", (*left, *right)))
    return tuple(out)


def _check_boards(rel: str, a: Part, b: Part, found: list[Finding]) -> None:
    boards = shared_boards(a.frame, b.frame)
    if boards:
        message = f"{len(boards)} boards are in the {b.name} too: {', '.join(quoted(x, 40) for x in boards[:5])}"
        found.append(Finding(WARNING, "shared_board", rel, message, "keep a board in one part: its parts look alike"))


def check_pair_leakage(
    workspace: Workspace, pairs: PregenPairs | None, parts: dict[str, Part], index: ContentIndex, found: list[Finding]
) -> None:
    """No picture of a pre-generated pair may be a test picture of an evaluation set."""
    if pairs is None or not pairs.pairs:
        return
    files = {str(workspace.root / rel): rel for pair in pairs.pairs for rel in (pair.ng, pair.ok)}
    synthetic = index.pixel_digests(files)
    rels = _rels(workspace)
    for name in ("validation", "kpi", "holdout"):
        if name not in parts:
            continue
        part = parts[name]
        rows = [str(p) for row in part.frame.to_dict("records") for p in part.layout.input_paths(row)]
        known = {digest for digest, flat in index.pixel_digests(rows).values() if not flat}
        hits = [files[path] for path, (digest, _flat) in synthetic.items() if digest in known]
        if hits:
            message = f"{len(hits)} pictures are test pictures of {rels[name]}, first {quoted(hits[0], 160)}"
            fix = "remove them from augmentation/anomalygen, the NG and the OK picture"
            found.append(Finding(ERROR, "pregenerated_leak", workspace.rel(workspace.pregen_dir), message, fix))


def check_crop_size(workspace: Workspace, parts: dict[str, Part], spec: Spec | None, found: list[Finding]) -> None:
    """Crops far larger than the network's input, by the middle crop of the training set."""
    if spec is None or "train" not in parts:
        return
    for note in large_crops(middle_side(parts["train"].ids["test_thumb"]), spec):
        message, _, fix = note.partition("; ")
        found.append(Finding(NOTE, "crop_size", _rels(workspace)["train"], message, fix))


def check_statistics(workspace: Workspace, parts: dict[str, Part], found: list[Finding]) -> None:
    """What the KPI set can support at all."""
    rels = _rels(workspace)
    if "kpi" in parts:
        part = parts["kpi"]
        good = (part.frame["label"] == PASS).to_numpy()
        distinct = int(part.ids["content_id"][good].nunique())
        if distinct:
            best = upper_bound(0, distinct) * 100
            message = (
                f"{int(good.sum())} good parts, {distinct} distinct: without any false alarm the true FAR may still be "
                f"{best:.2g} %"
            )
            fix = f"FAR < 0.1 % needs {sample_size_for(0.001)} distinct good parts, FAR < 1 % needs {sample_size_for(0.01)}"
            found.append(Finding(NOTE, "sample_size", rels["kpi"], message, fix))
    if "holdout" not in parts and not workspace.holdout_csv.exists():
        message = "there is no hold-out: the KPI set chooses and judges, which is optimistic"
        found.append(Finding(NOTE, "holdout", rels["holdout"], message, "add kpi/holdout_set.csv with boards of its own"))
    if "kpi" in parts and "train" in parts:
        unseen = sorted(set(parts["kpi"].frame["label"]) - set(parts["train"].frame["label"]))
        if unseen:
            message = f"labels that base training lacks: {', '.join(quoted(x, 30) for x in unseen[:12])}"
            found.append(Finding(NOTE, "gap", rels["kpi"], message, "this is what mining is for: the pool should have them"))
