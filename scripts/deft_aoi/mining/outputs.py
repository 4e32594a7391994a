"""The files of ``mining_filter/``: pairs, kept rows, counts, summary and target embeddings."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

from deft_aoi.contract.changenet_csv import MANDATORY, csv_text, ordered_columns
from deft_aoi.contract.files import atomic_write_text
from deft_aoi.contract.text import printable, quoted
from deft_aoi.mining.pool import write_parquet
from deft_aoi.mining.select import REASONS, Mined

_LEAKS_LISTED = 10
SHOWN = 8
"""Labels in a line of the summary, which stays below 400 characters."""


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


def add_rows(mined: Mined, further: Any, out_dir: Path) -> None:
    """Write ``mining_pool.csv`` again with the rows of a second proposer; ``proposer`` says whose a row is."""
    import pandas as pd

    both = pd.concat([mined.kept.assign(proposer="knn"), further], ignore_index=True)
    atomic_write_text(out_dir / "mining_pool.csv", csv_text(kept_csv(replace(mined, kept=both))))


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
        f"  Encoder: {quoted(mined.encoder, 120)}",
        f"  Total candidates: {counts['candidates']}",
        f"  Kept: {counts['kept']}",
        f"  Rejected: {counts['rejected']}",
    ]
    lines += [f"    {reason}: {count}" for reason, count in mined.rejected.items() if count]
    lines += [f"      in {name}: {count}" for name, count in mined.leaks.items()]
    for name, rows in mined.pool_leaks.items():
        listed = ", ".join(quoted(row) for row in rows[:_LEAKS_LISTED]) + (", …" if len(rows) > _LEAKS_LISTED else "")
        lines.append(f"  Pool rows that are in {name}, never mined: {len(rows)}: {listed}")
    for column in ("label", "provenance"):
        if column in mined.kept.columns and len(mined.kept):
            tally = Counter(mined.kept[column]).most_common()
            more = f" and {len(tally) - SHOWN} more" if len(tally) > SHOWN else ""
            lines.append(f"  Kept by {column}: " + ", ".join(f"{quoted(n, 30)} {c}" for n, c in tally[:SHOWN]) + more)
    return lines + [f"  Warning: {printable(line, 300)}" for line in mined.warnings]
