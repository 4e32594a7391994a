"""The parts themselves: the gallery of the weakest, and the gap ledger with what was mined for each."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deft_aoi.analysis import spot_check
from deft_aoi.contract.errors import DeftError
from deft_aoi.contract.paths import resolve_under
from deft_aoi.report import number_format as fmt
from deft_aoi.report.pictures import Album
from deft_aoi.report.run_view import Iteration, RunView, kpi_layout, optional_json

GALLERY = 10
LEDGER_ROWS = 12
NEIGHBOURS = 3
OUTCOMES = {"closed": "closed", "improved": "improved, still weak", "unchanged_or_worse": "not better"}
VERDICT_WORDS = {
    "mislabeled": "label is wrong",
    "edge_case": "edge case",
    "data_quality": "bad picture",
    "systematic": "systematic weakness",
}


@dataclass(frozen=True)
class Sample:
    """One weak part of the gallery. ``note`` is what somebody wrote about it; ``uri`` is ``None`` when it cannot be shown."""

    uri: str | None
    name: str
    label: str
    score: str
    said: str
    wrong: bool
    verdict: str
    note: str


@dataclass(frozen=True)
class Neighbour:
    """One mined neighbour of a weak part."""

    uri: str | None
    label: str
    similarity: str
    provenance: str


@dataclass(frozen=True)
class LedgerRow:
    """One weak part, what was mined for it, and its margin one iteration later (positive margins are on the wrong side)."""

    iteration: str
    uri: str | None
    name: str
    label: str
    before: str
    after: str
    gain: str
    mined: str
    outcome: str
    outcome_key: str
    neighbours: tuple[Neighbour, ...]


@dataclass(frozen=True)
class Ledger:
    """The gap ledger: totals for each iteration and the rows that are shown."""

    totals: tuple[tuple[str, ...], ...]
    rows: tuple[LedgerRow, ...]
    count: int


def gallery(view: RunView, album: Album) -> tuple[Iteration | None, list[Sample]]:
    """The weakest parts of the model that is handed over, each test | golden | difference."""
    it = view.best if view.best is not None and view.best.view.get("rca_dir") else None
    it = it or next((i for i in reversed(view.iterations) if i.view.get("rca_dir")), None)
    if it is None:
        return None, []
    folder = view.run.root / str(it.view["rca_dir"])
    metrics = optional_json(view, folder / "metrics.json", "metrics")
    if metrics is None:
        return None, []
    checked = _verdicts(view)
    out = []
    for image in metrics["images"][:GALLERY]:
        good, weakness = image["label"] == "PASS", float(image["weakness"])
        wrong = weakness > 0 or (not good and weakness >= 0)
        kind = "good part" if good else "defect"
        side = ("flagged by mistake" if good else "missed") if wrong else ("passed" if good else "caught")
        said = f"{kind} {side}, {fmt.score(abs(weakness))} from the threshold"
        verdict = checked.get(image["sample_id"])
        out.append(
            Sample(
                _sheet(view, album, folder / image["file"]),
                fmt.cell(image["sample_id"]),
                fmt.part(image["label"]),
                fmt.score(image["siamese_score"]),
                said,
                wrong,
                "" if verdict is None else f"{VERDICT_WORDS[verdict['verdict']]} ({verdict['by']})",
                "" if verdict is None else fmt.cell(verdict["note"], 300),
            )
        )
    return it, out


def deciding(view: RunView, album: Album) -> list[tuple[str | None, str, str, str]]:
    """The defects that set the threshold of the best model: picture (of the first light), label, name, FAR without each."""
    kpi = view.best.kpi if view.best is not None else None
    listed = [] if kpi is None else kpi["deciding_defects"]["listed"]
    try:
        layout = kpi_layout(view)
    except DeftError:
        layout = None
    out = []
    for d in listed:
        folder, _, name = d["sample_id"].rpartition("/")
        path = None if layout is None else str(layout.input_paths({"input_path": folder, "object_name": name})[0])
        said = f"score {fmt.score(d['score'])}, line {d['line']}; without it FAR {fmt.percent(d['far_without_fraction'])}"
        out.append((_thumb(view, album, path), fmt.part(d["label"]), fmt.cell(d["sample_id"]), said))
    return out


def reference(view: RunView) -> tuple[tuple[str, ...], ...]:
    """The rule without training beside the best model, at each recall that both were judged at."""
    kpi = view.best.kpi if view.best is not None else None
    rows = (kpi or {}).get("reference") or {"points": []}
    return tuple(
        (
            fmt.percent(r["recall_target_fraction"]),
            f"{r['fp']:,} ({fmt.percent(r['far_fraction'])})",
            f"{r['model_fp']:,}",
            f"{r['says']} (p {r['p_value']:.2g})",
        )
        for r in rows["points"]
    )


def _sheet(view: RunView, album: Album, path: Path) -> str | None:
    """A contact sheet of the root-cause analysis, where it is the one that was published."""
    inside = os.path.relpath(path, view.run.root)
    return album.sheet(path) if view.intact(inside) else None


def _verdicts(view: RunView) -> dict[str, dict[str, Any]]:
    found = view.attempt("run/spot_check.json", lambda: spot_check.load(view.run.run / spot_check.FILE_NAME))
    return {e["sample_id"]: e for e in (found or {"verdicts": []})["verdicts"]}


def ledger(view: RunView, album: Album) -> Ledger | None:
    """The gap ledger with neighbours; ``None`` before the first iteration is closed."""
    from deft_aoi.analysis.gap_ledger import LEDGER_COLUMNS
    from deft_aoi.analysis.gap_ledger import OUTCOMES as KEYS

    table = view.table("run/gap_ledger.parquet", LEDGER_COLUMNS)
    if table is None or table.num_rows == 0:
        return None
    rows = table.to_pylist()
    totals = []
    for number in sorted({r["iteration"] for r in rows}):
        mine = [r for r in rows if r["iteration"] == number]
        gains = sorted(r["margin_gain"] for r in mine)
        middle = (gains[(len(gains) - 1) // 2] + gains[len(gains) // 2]) / 2
        per = [sum(r["outcome"] == key for r in mine) for key in KEYS]
        totals.append(
            (f"iteration {number}", str(len(mine)), str(sum(r["mined_rows"] > 0 for r in mine)), *map(str, per), f"{middle:+.4g}")
        )
    return Ledger(tuple(totals), tuple(_ledger_rows(view, album, rows)), len(rows))


def _ledger_rows(view: RunView, album: Album, rows: list[dict[str, Any]]) -> list[LedgerRow]:
    last = max(r["iteration"] for r in rows)
    out, pictures, pairs = [], _pictures(view, f"iter{last}"), _pairs(view, f"iter{last}")
    shown = sorted((r for r in rows if r["iteration"] == last), key=lambda r: -r["weakness_before"])[:LEDGER_ROWS]
    for row in shown:
        path = pictures.get(row["sample_id"])
        neighbours = [
            Neighbour(
                _thumb(view, album, pair["source_filepath"]),
                fmt.part(pair["label"]),
                f"{float(pair['similarity']):.3f}",
                "synthetic" if pair["provenance"] == "sdg" else "real",
            )
            for pair in pairs.get(path or "", [])[:NEIGHBOURS]
        ]
        mined = f"{row['mined_real']} real, {row['mined_sdg']} synthetic"
        out.append(
            LedgerRow(
                f"iteration {last}",
                _thumb(view, album, path),
                fmt.cell(row["sample_id"]),
                fmt.part(row["label"]),
                f"{row['weakness_before']:+.4g}",
                f"{row['weakness_after']:+.4g}",
                f"{row['margin_gain']:+.4g}",
                mined if row["mined_rows"] else "nothing similar",
                OUTCOMES.get(row["outcome"], fmt.cell(row["outcome"])),
                row["outcome"],
                tuple(neighbours),
            )
        )
    return out


def _pictures(view: RunView, label: str) -> dict[str, str]:
    """Weak sample → its picture, from the gaps that iteration ``label`` set out to close."""
    folder = next((it.view.get("routing_dir") for it in view.iterations if it.label == label), None)
    table = view.table(f"{folder}/mining_gaps.parquet", ("sample_id", "filepath")) if folder else None
    out: dict[str, str] = {}
    for row in table.to_pylist() if table is not None else []:
        out.setdefault(row["sample_id"], row["filepath"])
    return out


def _pairs(view: RunView, label: str) -> dict[str, list[dict[str, Any]]]:
    """Picture of a weak sample → its kept neighbours, nearest first."""
    folder = view.run.rel(view.run.stage_dir(label, "data_mining"))
    table = view.table(
        f"{folder}/mined_pairs.parquet", ("target_filepath", "source_filepath", "similarity", "label", "provenance", "decision")
    )
    out: dict[str, list[dict[str, Any]]] = {}
    for row in table.to_pylist() if table is not None else []:
        if row["decision"] == "kept":
            path = str(row["target_filepath"])  # relative to the workspace; gaps name their images absolutely
            out.setdefault(path if path.startswith("/") else f"{view.run.workspace.root}/{path}", []).append(row)
    for pairs in out.values():
        pairs.sort(key=lambda p: (-float(p["similarity"]), p["source_filepath"]))
    return out


def _thumb(view: RunView, album: Album, path: str | None) -> str | None:
    if not path:
        return None
    root = view.run.workspace.root
    try:
        relative = Path(path).relative_to(root).as_posix() if path.startswith("/") else path
        return album.thumb(resolve_under(root, relative))
    except (ValueError, DeftError):
        return None
