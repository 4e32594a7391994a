"""The files of a root-cause analysis: gaps, threshold, metrics, breakdown, pictures."""

from __future__ import annotations

import argparse
import io
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from deft_aoi.analysis.constants import RCA_IMAGES
from deft_aoi.analysis.gaps import good_part_threshold
from deft_aoi.analysis.scored import ScoredSet, check_scored, weakness
from deft_aoi.analysis.spot_check import sample_line
from deft_aoi.contract import schema
from deft_aoi.contract import spec as specs
from deft_aoi.contract.errors import HardStop, UsageError
from deft_aoi.contract.files import atomic_write_bytes, atomic_write_text
from deft_aoi.contract.images import open_image
from deft_aoi.contract.paths import given
from deft_aoi.contract.text import printable, quoted, shown_label

if TYPE_CHECKING:
    import pandas as pd
    from PIL import Image

CELL = 192
GAP = 6
OVERVIEW = "weak_overview.png"
OVERVIEW_COLUMNS = 2
CAPTION_HEIGHT = 40
"""Two lines of text."""


def analyze_csv(args: argparse.Namespace) -> tuple[str, dict[str, Any]]:
    """``analyze_gaps.py``: what to say, and the metrics."""
    from deft_aoi.analysis import gaps, kpi, spot_check
    from deft_aoi.analysis.score_table import read_scores

    if not 0 < args.min_recall <= 1 or args.top_k_per_label < 1:
        raise UsageError("--min-recall must be in (0, 1] and --top-k-per-label at least 1")
    spec = specs.load_spec(given(args.spec))
    module = str(specs.get(spec, "model.classify.difference_module") or "euclidean")
    if specs.engine_for(spec) == "embedded" and specs.get(spec, "model.classify.difference_module") is None:
        module = "learnable"  # the embedded engine's default (its score is a probability)
    margin = specs.get(spec, "model.classify.eval_margin", 2.0)
    layout = specs.layout(spec, args.images_dir.resolve())
    frame = read_scores(args.csv)
    threshold = args.threshold
    if threshold is None:
        threshold = kpi.analyze(frame, recalls=(args.min_recall,))["target_point"]["threshold"]
    excluded = spot_check.excluded_ids(args.spot_check) if args.spot_check else ()
    found = gaps.find_gaps(
        frame,
        threshold,
        layout=layout,
        difference_module=module,
        eval_margin=margin,
        top_k_per_label=args.top_k_per_label,
        excluded=excluded,
    )
    metrics = write_outputs(
        found,
        frame,
        threshold,
        args.output_dir,
        band=gaps.margin_band(threshold, module, margin),
        recall_fraction=args.min_recall,
        top_k_per_label=args.top_k_per_label,
        excluded=excluded,
        images=not args.no_images,
    )
    text = (
        f"{metrics['gap_samples']} weak samples ({metrics['gap_rows']} images) at threshold {threshold!r}: FAR "
        f"{metrics['far_fraction']:.3%}, recall {metrics['recall_fraction']:.3%}\n{printable(args.output_dir, 300)}"
    )
    return text, metrics


def write_outputs(
    gaps: pd.DataFrame,
    frame: pd.DataFrame,
    threshold: float,
    out_dir: Path,
    *,
    band: tuple[float, float],
    recall_fraction: float = 1.0,
    top_k_per_label: int,
    excluded: Collection[str] = (),
    images: bool = True,
) -> dict[str, Any]:
    """Write ``kpi_gaps.parquet``, ``threshold.txt``, ``metrics.json``, the breakdown, ``rca_images/`` and their overview.

    Args:
        gaps: what :func:`deft_aoi.analysis.gaps.find_gaps` returned.
        frame: the scored frame it was given.
        threshold: the threshold it was given.
        out_dir: existing or new folder.
        band: lowest and highest marginal score, from :func:`deft_aoi.analysis.gaps.margin_band`.
        recall_fraction: the target recall, for the record.
        top_k_per_label: as given to ``find_gaps``.
        excluded: as given to ``find_gaps``.
        images: also draw the pictures.

    Returns:
        The object in ``metrics.json`` (schema ``metrics``).

    Raises:
        HardStop: the KPI is unreachable: every row has the same score, so no threshold separates anything.
            ``unreachable_kpi.txt`` is written first.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    out = Path(out_dir)
    out.mkdir(parents=True, exist_ok=True)
    scored = check_scored(frame)
    _refuse_unreachable(scored, recall_fraction, out)
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pandas(gaps, preserve_index=False), buffer)
    atomic_write_bytes(out / "kpi_gaps.parquet", buffer.getvalue())
    atomic_write_text(out / "threshold.txt", f"{float(threshold)!r}\n")
    pictures = write_images(gaps, out / "rca_images") if images else []
    if pictures:
        write_overview(out, pictures)
    metrics = _metrics(scored, gaps, threshold, band, recall_fraction, top_k_per_label, excluded, pictures)
    atomic_write_text(out / "weak_samples_breakdown.txt", "\n".join(_breakdown(metrics, gaps)) + "\n")
    schema.write_checked(out / "metrics.json", metrics, "metrics")
    return metrics


def _refuse_unreachable(scored: ScoredSet, recall_fraction: float, out: Path) -> None:
    if scored.scores.min() != scored.scores.max():
        return
    text = (
        "The KPI is unreachable with this model: all rows have one score, so no threshold separates defects from good parts.\n"
        f"Target recall: {recall_fraction:.6%}\n"
        "Best reachable recall with any good part passed: 0 %\n"
        f"Recall 100 % is reached only by flagging all {int((~scored.defect).sum())} good parts (FAR 100 %).\n"
    )
    atomic_write_text(out / "unreachable_kpi.txt", text)
    raise HardStop(
        "the KPI is unreachable: every row of the KPI set has the same score",
        expected="scores that differ between rows",
        found=f"{len(scored)} rows at {float(scored.scores[0])!r}",
        hint="training collapsed: look at its loss, learning rate and class balance; see unreachable_kpi.txt",
    )


def _metrics(
    scored: ScoredSet,
    gaps: pd.DataFrame,
    threshold: float,
    band: tuple[float, float],
    recall_fraction: float,
    top_k: int,
    excluded: Collection[str],
    pictures: list[dict[str, Any]],
) -> dict[str, Any]:
    weak = weakness(scored, threshold)
    samples = gaps.drop_duplicates("sample_id")
    per_label = []
    taken = np.zeros(len(scored), dtype=bool)
    taken[samples["row"].to_numpy(dtype=np.int64)] = True
    for code, name in enumerate(scored.label_names):
        rows = scored.label_codes == code
        if rows.any():
            per_label.append(
                {
                    "label": name,
                    "rows": int(rows.sum()),
                    "wrong": int((weak[rows] > 0).sum() if code == 0 else (weak[rows] >= 0).sum()),
                    "within_band": int(
                        ((scored.scores[rows] > band[0]) & (scored.scores[rows] < band[1]) & (weak[rows] <= 0)).sum()
                    ),
                    "targets": int((rows & taken).sum()),
                    "worst_weakness": float(weak[rows].max()),
                }
            )
    flagged = scored.scores > threshold
    return {
        "schema_version": 1,
        "threshold": float(threshold),
        "margin_band": [float(band[0]), float(band[1])],
        "good_part_threshold": float(good_part_threshold(scored, threshold)),
        "target_recall_fraction": float(recall_fraction),
        "far_fraction": float((flagged & ~scored.defect).sum() / (~scored.defect).sum()),
        "recall_fraction": float((flagged & scored.defect).sum() / scored.defect.sum()),
        "rows": len(scored),
        "gap_samples": len(samples),
        "gap_rows": len(gaps),
        "top_k_per_label": int(top_k),
        "excluded": sorted(excluded),
        "labels": per_label,
        "images": pictures,
    }


def _breakdown(metrics: dict[str, Any], gaps: pd.DataFrame) -> Iterator[str]:
    low, high = metrics["margin_band"]
    yield f"threshold {metrics['threshold']!r}   margin band {low:.6g} .. {high:.6g}   rule: score > threshold = defect"
    if metrics["good_part_threshold"] != metrics["threshold"]:
        yield f"few defects decide this threshold alone: good parts are taken at {metrics['good_part_threshold']!r} (recall 99 %)"
    yield f"FAR {metrics['far_fraction']:.4%}   recall {metrics['recall_fraction']:.4%}   rows {metrics['rows']}"
    yield ""
    yield f"{'label':<26} {'rows':>7} {'wrong':>7} {'in band':>8} {'targets':>8} {'worst weakness':>15}"
    for row in metrics["labels"]:
        yield (
            f"{shown_label(row['label'], 24):<26} {row['rows']:>7} {row['wrong']:>7} {row['within_band']:>8} "
            f"{row['targets']:>8} {row['worst_weakness']:>15.6g}"
        )
    yield ""
    if metrics["images"]:
        yield f"drawn in {OVERVIEW}, by number"
        yield from (f"  {sample_line(number, picture)}" for number, picture in enumerate(metrics["images"], start=1))
        yield ""
    yield f"{metrics['gap_samples']} targets (weakest first), {len(metrics['excluded'])} excluded by the spot check"
    for row in gaps.drop_duplicates("sample_id").to_dict("records"):
        yield (
            f"  line {row['row'] + 2}: {shown_label(row['label'], 24)} score {row['siamese_score']:.6g} "
            f"weakness {row['weakness']:+.6g} {quoted(row['sample_id'], 120)}"
        )


def write_images(gaps: pd.DataFrame, folder: Path) -> list[dict[str, Any]]:
    """Draw test | golden | difference for the samples to look at, one row of pictures for each light.

    Returns:
        ``{"file", "sample_id", "label", "siamese_score", "weakness"}`` for each picture.
    """
    chosen = pick_images(gaps)
    out = []
    if chosen:
        folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(chosen, start=1):
        rows = gaps[gaps["sample_id"] == name]
        first = rows.iloc[0]
        file = f"weak_{number:02d}_line_{int(first['row']) + 2:05d}.png"
        buffer = io.BytesIO()
        contact_sheet(list(rows["filepath"]), list(rows["golden_path"])).save(buffer, format="PNG")
        atomic_write_bytes(folder / file, buffer.getvalue())
        out.append(
            {
                "file": f"{folder.name}/{file}",
                "sample_id": name,
                "label": str(first["label"]),
                "siamese_score": float(first["siamese_score"]),
                "weakness": float(first["weakness"]),
            }
        )
    return out


def write_overview(out: Path, pictures: list[dict[str, Any]]) -> None:
    """Draw all pictures as one, row by row: whoever judges opens one file, reads the label there, and names causes by number.

    Under each picture is its :func:`~deft_aoi.analysis.spot_check.sample_line`; letters that the built-in font lacks are escaped.

    Args:
        out: the folder that gets ``weak_overview.png``.
        pictures: what :func:`write_images` returned.
    """
    from PIL import Image, ImageDraw

    drawn = [open_image(out / p["file"]) for p in pictures]
    width, height = max(i.width for i in drawn), max(i.height for i in drawn) + CAPTION_HEIGHT
    columns = min(OVERVIEW_COLUMNS, len(drawn))
    rows = -(-len(drawn) // columns)
    sheet = Image.new("RGB", (columns * (width + GAP) - GAP, rows * (height + GAP) - GAP), "white")
    pen = ImageDraw.Draw(sheet)
    for at, (image, picture) in enumerate(zip(drawn, pictures, strict=True)):
        x, y = (at % columns) * (width + GAP), (at // columns) * (height + GAP)
        sheet.paste(image, (x, y))
        caption = sample_line(at + 1, picture, between="\n").encode("latin-1", "backslashreplace").decode("latin-1")
        pen.text((x + 2, y + image.height + 2), caption, fill="black", font_size=14)
    buffer = io.BytesIO()
    sheet.save(buffer, format="PNG")
    atomic_write_bytes(out / OVERVIEW, buffer.getvalue())


def contact_sheet(tests: list[str], goldens: list[str]) -> Image.Image:
    """One picture: a row for each light, test | golden | difference; small crops are enlarged without smoothing.

    The difference is the absolute grey difference, stretched so that its largest value is white.
    """
    from PIL import Image, ImageChops

    sheet = Image.new("RGB", (3 * CELL + 2 * GAP, len(tests) * (CELL + GAP) - GAP), "white")
    for i, (test_path, golden_path) in enumerate(zip(tests, goldens, strict=True)):
        test, golden = open_image(test_path), open_image(golden_path)
        if golden.size != test.size:
            golden = golden.resize(test.size, Image.Resampling.BILINEAR)
        difference = ImageChops.difference(test, golden).convert("L")
        peak = difference.getextrema()[1]
        stretched = difference.point(lambda v, peak=peak: v * 255 // peak) if peak else difference
        for j, image in enumerate((test, golden, stretched.convert("RGB"))):
            scale = CELL / max(image.size)
            size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
            how = Image.Resampling.NEAREST if scale >= 1 else Image.Resampling.BOX
            sheet.paste(image.resize(size, how), (j * (CELL + GAP), i * (CELL + GAP)))
    return sheet


def pick_images(gaps: pd.DataFrame, limit: int = RCA_IMAGES) -> list[str]:
    """Sample ids to look at: labels take turns, the weakest first, so that no label hides the others."""
    samples = gaps.drop_duplicates("sample_id")
    queues = {label: list(part["sample_id"]) for label, part in samples.groupby("label", sort=False)}
    out: list[str] = []
    while len(out) < limit and any(queues.values()):
        for queue in queues.values():
            if queue and len(out) < limit:
                out.append(queue.pop(0))
    return out
