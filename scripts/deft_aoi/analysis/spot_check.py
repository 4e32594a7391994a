"""What a person or an agent saw on the weak images: one verdict for each sample, kept beside the run.

A sample called mislabeled or bad data stops being a mining target: more training rows like it would teach the error.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Any

from deft_aoi.contract import schema
from deft_aoi.contract.errors import Blocked, UsageError
from deft_aoi.contract.paths import RunPaths
from deft_aoi.contract.text import printable, quoted, shown_label

VERDICTS = ("mislabeled", "edge_case", "data_quality", "systematic")
EXCLUDING = ("mislabeled", "data_quality")
FILE_NAME = "spot_check.json"
LEFT_OUT = "hard_left_out.csv"
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


def side(label: str, weakness: float) -> str:
    """What the model does with a weak sample, in words."""
    if label == "PASS":
        return "false alarm" if weakness > 0 else "good part near the threshold"
    return "missed defect" if weakness >= 0 else "defect near the threshold"


def sample_line(number: int, picture: dict[str, Any], *, between: str = ", ") -> str:
    """One picture of the overview in words: number, label, score, side, object.

    Args:
        number: its number in ``weak_overview.png``, from 1.
        picture: its entry of ``images`` in ``metrics.json``.
        between: what separates the object from the rest.
    """
    name = quoted(str(picture["sample_id"]).rsplit("/", 1)[-1], 60)
    side_of_it = side(picture["label"], picture["weakness"])
    return f"{number}: {shown_label(picture['label'], 24)}, score {picture['siamese_score']:.4g}, {side_of_it}{between}{name}"


def tally(path: Path) -> dict[str, int]:
    """Number of samples by verdict."""
    found = [e["verdict"] for e in load(path)["verdicts"]]
    return {v: found.count(v) for v in VERDICTS}


def verdict_command(args: argparse.Namespace) -> tuple[str, dict[str, Any]]:
    """``record_spot_check.py``: what was recorded, sample by sample, and all verdicts of the run."""
    paths = RunPaths(args.results_dir.resolve())
    file = paths.run / FILE_NAME
    if args.list:
        body = load(file)
        lines = [f"{e['verdict']:<13} {quoted(e['sample_id'], 120)}: {quoted(e['note'], 100)}" for e in body["verdicts"][:12]]
        return "\n".join([f"{len(body['verdicts'])} verdicts in {printable(file, 300)}", *lines]), body
    if not args.picture and not (args.sample_id and args.verdict):
        raise UsageError("--picture N=VERDICT, or --sample-id and --verdict are needed, or --list")
    if not re.fullmatch(r"baseline|iter[1-9][0-9]*", args.iteration):
        raise UsageError("--iteration must be baseline or iterN", found=printable(args.iteration, 40))
    folder = paths.stage_dir(args.iteration, "rca")
    found = sorted(folder.glob("*/kpi_gaps.parquet")) or sorted(folder.glob("kpi_gaps.parquet"))
    if not found:
        raise Blocked("this iteration has no root-cause analysis yet", expected=f"kpi_gaps.parquet below {folder}")
    if args.picture:
        judged, lines = _by_picture(found[-1].parent, args.picture)
    else:
        judged, lines = [(args.sample_id, args.verdict)], [f"{quoted(args.sample_id, 120)}: {args.verdict}"]
    known = _sample_ids(found[-1]) | _in_doubt(paths.stage_dir(args.iteration, "data_mining") / LEFT_OUT)
    for sample_id, verdict in judged:
        body = record(
            file, sample_id=sample_id, verdict=verdict, by=args.by, iteration=args.iteration, note=args.note, known=known
        )
    counts = ", ".join(f"{k} {v}" for k, v in tally(file).items() if v)
    return "\n".join(
        [f"recorded: {len(judged)} sample{'s' * (len(judged) > 1)} (in all: {counts})", *(f"  {line}" for line in lines)]
    ), body


def _by_picture(folder: Path, given: list[str]) -> tuple[list[tuple[str, str]], list[str]]:
    """``N=VERDICT`` of the numbered overview as (sample id, verdict), and each in words; checked before any is recorded.

    Raises:
        UsageError: not of that form, no such picture, or no such verdict.
    """
    pictures = schema.read_checked(folder / "metrics.json", "metrics")["images"]
    judged, lines = [], []
    for text in given:
        number, _, verdict = text.partition("=")
        known = number.isascii() and number.isdigit() and 1 <= int(number) <= len(pictures)
        if not known or verdict not in VERDICTS:
            raise UsageError(
                "--picture takes the number of a picture and a verdict",
                expected=f"N=VERDICT, N from 1 to {len(pictures)}, one of {', '.join(VERDICTS)}",
                found=printable(text, 60),
            )
        judged.append((str(pictures[int(number) - 1]["sample_id"]), verdict))
        lines.append(f"{sample_line(int(number), pictures[int(number) - 1])}: {verdict}")
    return judged, lines


def _sample_ids(gaps: Path) -> set[str]:
    import pyarrow.parquet as pq

    return set(pq.read_table(gaps, columns=["sample_id"]).column("sample_id").to_pylist())


def _in_doubt(left_out: Path) -> set[str]:
    """Hard rows of the pool that mining left out for their label: a verdict brings one in or keeps it out."""
    import csv

    if not left_out.is_file():
        return set()
    with left_out.open(encoding="utf-8", newline="") as handle:
        return {row["sample_id"] for row in csv.DictReader(handle)}
