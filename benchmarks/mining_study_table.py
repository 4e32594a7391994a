"""The tables of ``mining_study.py``: means and ranges over seeds, paired differences, similarity of neighbours."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from math import comb
from pathlib import Path
from typing import Any

import numpy as np

from deft_aoi.contract.files import atomic_write_json, read_json

Result = dict[str, Any]
COLUMNS: dict[str, Callable[[Result], float]] = {
    "KPI FAR @100 %": lambda r: 100 * r["kpi"]["far_at_100"],
    "KPI FAR @99 %": lambda r: 100 * r["kpi"]["far_at_99"],
    "KPI AUROC": lambda r: r["kpi"]["auroc"],
    "hold-out FAR @100 %": lambda r: 100 * r["holdout"]["far_at_100"],
    "hold-out FAR @99 %": lambda r: 100 * r["holdout"]["far_at_99"],
    "hold-out AUROC": lambda r: r["holdout"]["auroc"],
    "hold-out FAR at KPI threshold": lambda r: 100 * r["fixed"]["far_fraction"],
    "hold-out recall at KPI threshold": lambda r: 100 * r["fixed"]["recall_fraction"],
}
HIGHER_IS_BETTER = ("KPI AUROC", "hold-out AUROC", "hold-out recall at KPI threshold")
PAIRED = (
    ("none", "baseline"),
    ("knn", "none"),
    ("knn", "random"),
    ("knn", "random_mix"),
    ("random_mix", "random"),
    ("knn", "pixels"),
    ("knn", "knn_no_sdg"),
    ("knn", "knn_minus_sdg"),
    ("knn", "knn_cut_80"),
    ("knn", "all"),
    ("knn", "knn_quota"),
    ("knn", "knn_diverse"),
    ("knn", "knn_hard_pass"),
    ("baseline_2", "knn"),
    ("latest_2", "baseline_2"),
)


def load(out: Path) -> dict[str, dict[int, Result]]:
    """Policy → seed → result, for all that is there."""
    found: dict[str, dict[int, Result]] = defaultdict(dict)
    for path in sorted(out.glob("seed-*/*/result.json")):
        result = read_json(path, what="study result")
        found[result["policy"]][int(result["seed"])] = result
    return dict(found)


def summarise(out: Path, policies: Mapping[str, str]) -> str:
    """Markdown tables of a study; writes all results and figures to ``OUT/mining_study.json``."""
    found = load(out)
    names = [name for name in ("baseline", *policies) if name in found]
    seeds = sorted(set().union(*(found[n] for n in names))) if names else []
    body = [f"Seeds: {', '.join(map(str, seeds))}. Mean (lowest – highest) over seeds; FAR and recall in percent.", ""]
    body += _policy_table(found, names)
    pairs = [(a, b) for a, b in PAIRED if a in found and b in found]
    body += ["", "Paired by seed: mean difference of first less second (better : worse in seeds, two-sided sign test).", ""]
    body += _paired_table(found, pairs)
    body += ["", "Kept-able neighbours of `knn` (5 a target, all seeds): by similarity.", ""]
    body += _similarity_table(found.get("knn", {}).values())
    atomic_write_json(
        out / "mining_study.json",
        {
            "policies": {**policies, "baseline": "before any mining"},
            "results": [found[n][s] for n in names for s in sorted(found[n])],
            "means": {n: {c: float(np.mean([f(r) for r in found[n].values()])) for c, f in COLUMNS.items()} for n in names},
            "paired": [paired(found, a, b, c) for a, b in pairs for c in COLUMNS],
        },
    )
    return "\n".join(body)


def _cell(values: list[float], column: str) -> str:
    digits = 4 if "AUROC" in column else 1
    return f"{np.mean(values):.{digits}f} ({min(values):.{digits}f} – {max(values):.{digits}f})"


def _policy_table(found: dict[str, dict[int, Result]], names: list[str]) -> list[str]:
    lines = [
        f"| policy | seeds | rows added | defects among real rows | synthetic | {' | '.join(COLUMNS)} |",
        "|" + "---|" * (5 + len(COLUMNS)),
    ]
    for name in names:
        results = list(found[name].values())
        added = [r["added"] for r in results if "added" in r]
        shape = ["0", "", ""]
        if added:
            share = np.mean([a["real_defects"] / max(1, a["real"]) for a in added])
            shape = [
                f"{np.mean([a['rows'] for a in added]):.0f}",
                f"{100 * share:.0f} %",
                f"{100 * np.mean([a['sdg'] / max(1, a['rows']) for a in added]):.0f} %",
            ]
        cells = [_cell([figure(r) for r in results], column) for column, figure in COLUMNS.items()]
        lines.append(f"| `{name}` | {len(results)} | {' | '.join(shape)} | {' | '.join(cells)} |")
    return lines


def paired(found: dict[str, dict[int, Result]], first: str, second: str, column: str) -> Result:
    """Difference of two policies in one column, seed by seed."""
    figure = COLUMNS[column]
    seeds = sorted(set(found[first]) & set(found[second]))
    delta = [figure(found[first][s]) - figure(found[second][s]) for s in seeds]
    good = [d if column in HIGHER_IS_BETTER else -d for d in delta]
    better, worse = sum(d > 0 for d in good), sum(d < 0 for d in good)
    return {
        "first": first,
        "second": second,
        "column": column,
        "seeds": len(seeds),
        "better": better,
        "worse": worse,
        "mean": float(np.mean(delta)) if delta else None,
        "lowest": min(delta, default=None),
        "highest": max(delta, default=None),
        "sign_test_p": sign_test(better, worse),
    }


def sign_test(better: int, worse: int) -> float:
    """Two-sided p of so lopsided a split when both sides are equally likely; ties left out."""
    n, k = better + worse, max(better, worse)
    return min(1.0, 2 * sum(comb(n, i) for i in range(k, n + 1)) / 2**n)


def _paired_table(found: dict[str, dict[int, Result]], pairs: list[tuple[str, str]]) -> list[str]:
    shown = [c for c in COLUMNS if c != "hold-out FAR at KPI threshold"]
    lines = [f"| first less second | {' | '.join(shown)} |", "|" + "---|" * (1 + len(shown))]
    for first, second in pairs:
        cells = []
        for column in shown:
            p = paired(found, first, second, column)
            digits = 4 if "AUROC" in column else 1
            split = f"{p['better']} : {p['worse']}, p {p['sign_test_p']:.2g}"
            cells.append("" if p["mean"] is None else f"{p['mean']:+.{digits}f} ({split})")
        lines.append(f"| `{first}` – `{second}` | {' | '.join(cells)} |")
    return lines


def _similarity_table(results: Iterable[Result]) -> list[str]:
    total: dict[tuple[str, float], list[int]] = defaultdict(lambda: [0, 0, 0])
    medians: dict[str, list[float]] = defaultdict(list)
    kept: list[float] = []
    for result in results:
        kept += result["facts"].get("kept_similarity", [])
        for entry in result["facts"].get("neighbours", []):
            if entry["low"] is None:
                medians[entry["target"]].append(entry["median"])
                continue
            slot = total[entry["target"], entry["low"]]
            for i, field in enumerate(("pairs", "same_side", "same_label")):
                slot[i] += entry[field]
    lines = ["| target | similarity from | pairs | neighbour on the same side | same label |", "|---|---|---|---|---|"]
    for (target, low), (n, side, label) in sorted(total.items()):
        lines.append(f"| {target} | {low:g} | {n} | {100 * side / n:.0f} % | {100 * label / n:.0f} % |")
    for target, values in sorted(medians.items()):
        lines.append(f"| {target} | median {np.mean(values):.2f} ({min(values):.2f} – {max(values):.2f}) | | | |")
    if kept:
        shares = ", ".join(f"{cut:g}: {100 * np.mean(np.array(kept) < cut):.0f} %" for cut in (0.3, 0.5, 0.6, 0.7, 0.8, 0.9))
        lines += ["", f"Kept rows whose best similarity is below … {shares}"]
    return lines
