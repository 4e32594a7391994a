"""The files of ``mining_filter/``: pairs, kept rows, counts, summary, target embeddings, and what data to ask for."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from deft_aoi.contract.changenet_csv import MANDATORY, csv_text, ordered_columns
from deft_aoi.contract.files import atomic_write_text
from deft_aoi.contract.schema import write_checked
from deft_aoi.contract.text import is_pass, plain_text, safe_text
from deft_aoi.mining.pool import write_parquet
from deft_aoi.mining.select import KEPT, REASONS, Mined


def write_outputs(mined: Mined, out_dir: Path) -> None:
    """Write the five files of a mining into ``out_dir`` (made if absent)."""
    import pandas as pd

    out_dir.mkdir(parents=True, exist_ok=True)
    write_parquet(mined.pairs, out_dir / "mined_pairs.parquet")
    atomic_write_text(out_dir / "mining_pool.csv", csv_text(kept_csv(mined)))
    atomic_write_text(out_dir / "knn_summary.csv", csv_text(pd.DataFrame([summary_row(mined)])))
    atomic_write_text(out_dir / "mining_summary.txt", "\n".join(summary_lines(mined)) + "\n")
    targets = mined.targets.copy()
    targets["embedding"] = [row.tolist() for row in mined.target_embeddings]
    write_parquet(targets, out_dir / "target_embeddings.parquet")


def kept_csv(mined: Mined) -> Any:
    """The kept rows as text columns: ChangeNet columns first; a file without the mandatory ones keeps its own."""
    kept = mined.kept.copy()
    if "featureless" in kept.columns:
        kept["featureless"] = kept["featureless"].map({True: "true", False: "false"})
    columns = list(kept.columns)
    if set(MANDATORY) <= set(columns):
        columns = [c for c in ordered_columns(columns) if c != "filepath"]
    return kept.reindex(columns=columns, fill_value="").fillna("")


def summary_row(mined: Mined) -> dict[str, Any]:
    """``knn_summary.csv``: counts, the threshold used (``null``: none), and one column for each reason."""
    threshold = mined.config.min_similarity
    return {
        "candidate_count": mined.counts["candidates"],
        "kept_count": mined.counts["kept"],
        "rejected_count": mined.counts["rejected"],
        "similarity_threshold": "null" if threshold is None else threshold,
        **{f"rejected_{reason}": mined.rejected[reason] for reason in REASONS},
        "target_count": mined.counts["targets"],
        "pool_rows": mined.counts["pool_rows"],
        "pair_count": mined.counts["pairs"],
        "top_k_per_target": mined.config.top_k,
        "metric": mined.config.metric,
        "encoder": mined.encoder,
    }


def summary_lines(mined: Mined) -> list[str]:
    """``mining_summary.txt``: at most some dozen short lines."""
    counts, threshold = mined.counts, mined.config.min_similarity
    lines = [
        "Summary:",
        f"  Target queries: {counts['targets']}",
        f"  Similar items per query: {mined.config.top_k}",
        f"  Total pairs: {counts['pairs']}",
        f"  Pool rows: {counts['pool_rows']}",
        f"  Metric: {mined.config.metric}, cut-off: {'none' if threshold is None else threshold}",
        f"  Encoder: {safe_text(mined.encoder, 120)}",
        f"  Total candidates: {counts['candidates']}",
        f"  Kept: {counts['kept']}",
        f"  Rejected: {counts['rejected']}",
    ]
    lines += [f"    {reason}: {count}" for reason, count in mined.rejected.items() if count]
    lines += [f"      in {name}: {count}" for name, count in mined.leaks.items()]
    for column in ("label", "provenance"):
        if column in mined.kept.columns and len(mined.kept):
            tally = Counter(mined.kept[column]).most_common(20)
            lines.append(f"  Kept by {column}: " + ", ".join(f"{safe_text(name)} {count}" for name, count in tally))
    return lines + [f"  Warning: {plain_text(line, 300)}" for line in mined.warnings]


def data_requests(mined: Mined) -> dict[str, Any]:
    """What to collect next: for each label of the targets, what the pool offered and what became of it.

    Returns:
        The object of ``data_requests.json`` (schema ``data_requests``), most needed label first.
    """
    pairs, rows = mined.pairs, []
    for label, count in sorted(Counter(mined.targets["label"].tolist()).items()):
        mine = pairs[pairs["target_label"] == label]
        same = mine[mine["label"] == label]
        rows.append(
            {
                "label": label,
                "targets": count,
                "kept_rows": int(same[same["decision"] == KEPT]["sample_id"].nunique()),
                "candidates_of_this_label": int(same["sample_id"].nunique()),
                "best_similarity": float(mine["similarity"].max()) if len(mine) else None,
                "request": "more good parts that look like these false alarms"
                if is_pass(label)
                else "more defects of this kind, real or generated",
                "examples": mined.targets[mined.targets["label"] == label]["filepath"].astype(str).head(5).tolist(),
            }
        )
    rows.sort(key=lambda row: (row["kept_rows"], -row["targets"], row["label"]))
    return {"version": 1, "kept": mined.counts["kept"], "rejected": mined.rejected, "requests": rows}


def write_data_requests(mined: Mined, path: Path) -> None:
    """Write ``data_requests.json``."""
    write_checked(path, data_requests(mined), "data_requests")
