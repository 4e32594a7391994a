"""Hard rows on the page: what the second proposer of mining added, and the rows that it left out because of their label."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

from deft_aoi.analysis import spot_check
from deft_aoi.contract.changenet_csv import ImageLayout
from deft_aoi.report import number_format as fmt
from deft_aoi.report.pictures import Album
from deft_aoi.report.run_view import RunView, csv_rows, first_row

SHOWN = 10


@dataclass(frozen=True)
class LeftOut:
    """A pool row whose label most of its neighbours contradict; ``verdict`` is empty until somebody looked."""

    uri: str | None
    name: str
    label: str
    score: str
    verdict: str


@dataclass(frozen=True)
class HardRows:
    """One table row an iteration and proposer pair, and the rows in doubt, hardest first."""

    table: tuple[tuple[str, ...], ...]
    left_out: tuple[LeftOut, ...]
    count: int


def hard_rows(view: RunView, album: Album) -> HardRows | None:
    """``None`` where no iteration was asked for hard rows."""
    table: list[tuple[str, ...]] = []
    doubtful: dict[str, dict[str, str]] = {}
    for it in view.iterations:
        folder = view.run.stage_dir(it.label, "data_mining")
        path = folder / "hard_summary.csv"
        row = view.attempt(view.run.rel(path), partial(first_row, path)) if path.is_file() else None
        if not row:
            continue
        knn = view.attempt(view.run.rel(folder / "knn_summary.csv"), partial(first_row, folder / "knn_summary.csv"))
        kept, defects = int(row["kept_count"]), int(row["kept_defects"])
        doubt = row["rejected_label_in_doubt"]
        others = int(row["rejected_count"]) - int(doubt)
        found = (str((knn or {}).get("kept_count", "")), str(defects), str(kept - defects), doubt, str(others))
        table.append((fmt.iteration(it.label), *found, fmt.cell(row["scored_by"], 40)))
        left = folder / spot_check.LEFT_OUT
        doubtful |= {r["sample_id"]: r for r in view.attempt(view.run.rel(left), partial(csv_rows, left)) or []}
    if not table:
        return None
    files = view.attempt("synth_pool/source_pool.csv", lambda: _pictures(view, set(list(doubtful)[:SHOWN]))) or {}
    judged = spot_check.load(view.run.run / spot_check.FILE_NAME)["verdicts"] if doubtful else []
    said = {entry["sample_id"]: f"{entry['verdict']} ({entry['by']})" for entry in judged}
    shown = [
        LeftOut(
            album.row(files[name]) if name in files else None,
            fmt.cell(name),
            fmt.part(row["label"]),
            fmt.score(row["model_score"]),
            said.get(name, ""),
        )
        for name, row in list(doubtful.items())[:SHOWN]
    ]
    return HardRows(tuple(table), tuple(shown), len(doubtful))


def _pictures(view: RunView, names: set[str]) -> dict[str, list[Path]]:
    """Test and golden of each pool row's first light."""
    from deft_aoi.contract import spec as specs

    spec = specs.load_spec(view.run.workspace.baseline_spec, what="baseline spec")
    layout: ImageLayout = specs.layout(spec, view.run.workspace.root)
    rows = [row for row in csv_rows(view.run.synth_pool / "source_pool.csv") if row["sample_id"] in names]
    return {row["sample_id"]: [layout.input_paths(row)[0], layout.golden_paths(row)[0]] for row in rows}
