"""What a person or an agent saw on the weak images: one verdict for each sample, kept beside the run.

A sample called mislabeled or bad data stops being a mining target: more training rows like it would teach the error.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from deft_aoi.contract import schema
from deft_aoi.contract.errors import UsageError
from deft_aoi.contract.text import printable, quoted

VERDICTS = ("mislabeled", "edge_case", "data_quality", "systematic")
EXCLUDING = ("mislabeled", "data_quality")
FILE_NAME = "spot_check.json"
MAX_NOTE = 300


def record(
    path: Path, *, sample_id: str, verdict: str, by: str, iteration: str, note: str = "", known: set[str] | None = None
) -> dict[str, Any]:
    """Store one verdict; a later verdict on the same sample replaces the earlier one.

    Args:
        path: ``spot_check.json`` of the run; made when absent.
        sample_id: the sample, as ``kpi_gaps.parquet`` names it.
        verdict: one of :data:`VERDICTS`.
        by: ``agent`` or ``person``.
        iteration: ``baseline`` or ``iterN``, whose pictures were looked at.
        note: a reason, shown as data; cut to 300 characters.
        known: the sample ids that may be named; ``None`` does not check.

    Returns:
        The whole record (schema ``spot_check``).

    Raises:
        UsageError: another verdict, or a sample that is not among the weak ones.
    """
    if verdict not in VERDICTS or by not in ("agent", "person"):
        raise UsageError(
            "the verdict cannot be recorded",
            expected=f"one of {', '.join(VERDICTS)}, by agent or person",
            found=f"{quoted(verdict)} by {quoted(by)}",
        )
    if known is not None and sample_id not in known:
        raise UsageError(
            "this sample is not among the weak samples",
            expected="a sample_id of kpi_gaps.parquet (see weak_samples_breakdown.txt)",
            found=quoted(sample_id, 160),
        )
    entries = [e for e in load(path)["verdicts"] if e["sample_id"] != sample_id]
    entries.append(
        {"sample_id": sample_id, "verdict": verdict, "by": by, "iteration": iteration, "note": printable(note, MAX_NOTE)}
    )
    out = {"schema_version": 1, "verdicts": sorted(entries, key=lambda e: e["sample_id"])}
    path.parent.mkdir(parents=True, exist_ok=True)
    schema.write_checked(path, out, "spot_check")
    return out


def load(path: Path) -> dict[str, Any]:
    """The record, empty when nothing was recorded yet."""
    if not path.is_file():
        return {"schema_version": 1, "verdicts": []}
    found: dict[str, Any] = schema.read_checked(path, "spot_check")
    return found


def excluded_ids(path: Path) -> tuple[str, ...]:
    """Sample ids that are no mining targets any more."""
    return tuple(e["sample_id"] for e in load(path)["verdicts"] if e["verdict"] in EXCLUDING)


def tally(path: Path) -> dict[str, int]:
    """Number of samples by verdict."""
    found = [e["verdict"] for e in load(path)["verdicts"]]
    return {v: found.count(v) for v in VERDICTS}
