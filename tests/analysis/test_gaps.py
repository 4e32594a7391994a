"""Root-cause analysis: which rows are weak, what is written, what people said about them, what became of them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from deft_aoi.analysis import data_requests, gap_ledger, gaps, gaps_output, spot_check
from deft_aoi.contract import schema
from deft_aoi.contract.errors import HardStop, UsageError


def scored(b, good: list[float], bad: list[float]) -> pd.DataFrame:
    frame = b.frame(len(good) + len(bad), defects=len(bad))
    return frame.assign(siamese_score=[*good, *bad])


def test_weakness_is_signed_and_only_wrong_or_close_rows_are_targets(build) -> None:
    b = build()
    frame = scored(b, [0.10, 0.45, 0.60], [0.95, 0.55, 0.30])
    found = gaps.find_gaps(frame, 0.5, layout=b.layout)
    assert dict(zip(found["row"], found["weakness"].round(9), strict=True)) == {5: 0.2, 2: 0.1, 1: -0.05, 4: -0.05}
    assert found["weakness"].is_monotonic_decreasing
    assert found["filepath"].map(lambda p: Path(p).is_file()).all()
    assert found["golden_path"].map(lambda p: Path(p).is_file()).all()
    assert tuple(found.columns) == gaps.GAP_COLUMNS


def test_top_k_holds_for_each_label_and_a_solved_set_asks_for_nothing(build) -> None:
    b = build()
    frame = scored(b, [0.6, 0.7, 0.8, 0.9], [0.1, 0.2, 0.3, 0.4])
    found = gaps.find_gaps(frame, 0.5, layout=b.layout, top_k_per_label=1)
    assert sorted(found["row"]) == [3, 4, 5]  # the weakest PASS, open and short
    solved = scored(b, [0.0] * 4, [1.0] * 4)
    assert gaps.find_gaps(solved, 0.5, layout=b.layout).empty


def test_one_row_for_each_light(build) -> None:
    b = build(lights=("White", "Red"))
    found = gaps.find_gaps(scored(b, [0.6, 0.1], [0.9, 0.9]), 0.5, layout=b.layout)
    assert found["light"].tolist() == ["White", "Red"]
    assert found["sample_id"].nunique() == 1
    assert [Path(p).name for p in found["filepath"]] == ["C0_White.png", "C0_Red.png"]


@pytest.mark.parametrize(
    ("threshold", "module", "margin", "band"),
    [
        (0.5, "learnable", None, (0.4, 0.6)),
        (0.005, "learnable", None, (1 / 299.5, 0.0074813)),
        (1.5, "euclidean", 2.0, (1.3, 1.7)),
        (0.5, "euclidean", 0.3, (0.47, 0.53)),
    ],
)
def test_margin_band(threshold: float, module: str, margin: float | None, band: tuple[float, float]) -> None:
    assert gaps.margin_band(threshold, module, margin) == pytest.approx(band, rel=1e-4)


@pytest.mark.parametrize("threshold", [-1e-45, 0.0, 1e-9, 0.3, 1.0])
def test_the_band_of_a_probability_encloses_its_threshold(threshold: float) -> None:
    low, high = gaps.margin_band(threshold, "learnable", None)
    assert low <= threshold <= high


@pytest.mark.parametrize(("module", "margin"), [("euclidean", None), ("euclidean", -1.0), ("cosine", 1.0)])
def test_a_margin_that_cannot_be_is_refused(module: str, margin: float | None) -> None:
    with pytest.raises(HardStop, match="margin band"):
        gaps.margin_band(0.5, module, margin)


def test_outputs(build, tmp_path: Path) -> None:
    b = build()
    rng = np.random.default_rng(0)
    frame = scored(b, rng.uniform(0.3, 0.6, 20).tolist(), rng.uniform(0.4, 0.9, 6).tolist())
    threshold = 0.1 + 0.2  # has no short decimal
    found = gaps.find_gaps(frame, threshold, layout=b.layout)
    metrics = gaps_output.write_outputs(found, frame, threshold, tmp_path, band=(0.2, 0.4), top_k_per_label=50)
    assert float((tmp_path / "threshold.txt").read_text()) == threshold
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "kpi_gaps.parquet"), found, check_dtype=False)
    assert json.loads((tmp_path / "metrics.json").read_text()) == metrics
    pictures = sorted((tmp_path / "rca_images").iterdir())
    assert len(pictures) == len(metrics["images"]) == 10
    with Image.open(pictures[0]) as picture:
        assert picture.size == (3 * 192 + 12, 192)
    with Image.open(tmp_path / "weak_overview.png") as overview:
        assert overview.size == (2 * (3 * 192 + 12) + 6, 5 * (192 + 40 + 6) - 6), "ten pictures, five rows of two"
        for row in range(5):
            caption = overview.crop((0, row * 238 + 192, 588, row * 238 + 232)).convert("L")
            assert caption.getextrema() == (0, 255), "two lines of black text under the picture"
    labels = {row["label"]: row for row in metrics["labels"]}
    assert labels["PASS"]["wrong"] == int((frame["siamese_score"][:20] > threshold).sum())
    assert len({i["label"] for i in metrics["images"]}) == len(set(found["label"]))
    assert "targets (weakest first)" in (tmp_path / "weak_samples_breakdown.txt").read_text()


def test_the_difference_picture_shows_the_defect(build) -> None:
    from deft_aoi.analysis.gaps_output import contact_sheet

    b = build()
    frame = scored(b, [0.1], [0.2, 0.9])
    found = gaps.find_gaps(frame, 0.5, layout=b.layout)
    row = found[found["label"] != "PASS"].iloc[0]
    pixels = np.asarray(contact_sheet([row["filepath"]], [row["golden_path"]]).convert("L"))
    difference = pixels[:, 2 * (192 + 6) :]
    assert difference[48:96, 48:96].max() == 255  # rows and columns 8..15 of 32
    assert difference[120:, 120:].max() == 0


def test_scores_that_are_all_the_same_are_an_unreachable_kpi(build, tmp_path: Path) -> None:
    b = build()
    frame = scored(b, [0.5] * 4, [0.5] * 2)
    with pytest.raises(HardStop, match="unreachable"):
        gaps_output.write_outputs(
            gaps.find_gaps(frame, 0.49, layout=b.layout), frame, 0.49, tmp_path, band=(0.2, 0.4), top_k_per_label=5
        )
    assert "Best reachable recall" in (tmp_path / "unreachable_kpi.txt").read_text()


def test_a_sample_called_mislabeled_stops_being_a_target(build, tmp_path: Path) -> None:
    b = build()
    frame = scored(b, [0.6, 0.7], [0.2, 0.3])
    found = gaps.find_gaps(frame, 0.5, layout=b.layout)
    file = tmp_path / "run" / "spot_check.json"
    known = set(found["sample_id"])
    common = {"by": "agent", "iteration": "baseline", "known": known}
    spot_check.record(file, sample_id="a/C0", verdict="systematic", **common)
    spot_check.record(file, sample_id="a/C0", verdict="mislabeled", note="\x1b[31mred\n" + "x" * 900, **common)
    spot_check.record(file, sample_id="a/C2", verdict="edge_case", **common)
    assert spot_check.excluded_ids(file) == ("a/C0",)
    assert spot_check.tally(file) == {"mislabeled": 1, "edge_case": 1, "data_quality": 0, "systematic": 0}
    note = spot_check.load(file)["verdicts"][0]["note"]
    assert "\x1b" not in note
    assert len(note) <= 300
    left = gaps.find_gaps(frame, 0.5, layout=b.layout, excluded=spot_check.excluded_ids(file))
    assert set(left["sample_id"]) == known - {"a/C0"}
    with pytest.raises(UsageError, match="not among the weak"):
        spot_check.record(file, sample_id="a/C99", verdict="edge_case", **common)
    with pytest.raises(UsageError, match="cannot be recorded"):
        spot_check.record(file, sample_id="a/C0", verdict="fine", **common)


def test_the_ledger_says_what_was_mined_and_what_came_of_it(build) -> None:
    b = build()
    before = scored(b, [0.6, 0.55, 0.1], [0.3, 0.45, 0.9])
    found = gaps.find_gaps(before, 0.5, layout=b.layout)
    targets = found.set_index("sample_id")["filepath"]
    pairs = pd.DataFrame(
        {
            "target_filepath": [targets["a/C0"], targets["a/C0"], targets["a/C3"], targets["a/C1"]],
            "source_filepath": ["p1", "p2", "p1", "p3"],
            "similarity": [0.95, 0.91, 0.97, 0.92],
            "provenance": ["real", "sdg", "real", "real"],
            "decision": ["kept", "kept", "kept", "already_in_training"],
        }
    )
    after = before.assign(siamese_score=[0.2, 0.58, 0.1, 0.45, 0.8, 0.9])
    book = gap_ledger.gap_ledger(found, pairs, after, 0.5, iteration=1, band=(0.4, 0.6)).set_index("sample_id")
    assert book.loc["a/C0", ["mined_rows", "mined_real", "mined_sdg", "outcome"]].tolist() == [2, 1, 1, "closed"]
    assert book.loc["a/C1", ["mined_rows", "outcome"]].tolist() == [0, "unchanged_or_worse"]
    assert book.loc["a/C3", ["mined_rows", "outcome"]].tolist() == [1, "improved"]
    assert book.loc["a/C3", "margin_gain"] == pytest.approx(0.15)


def test_open_gaps_are_grouped_by_defect_and_part(build) -> None:
    b = build()
    before = scored(b, [0.6, 0.55], [0.3, 0.2]).assign(part_type=["R", "R", "QFN", "QFN"])
    found = gaps.find_gaps(before, 0.5, layout=b.layout)
    pairs = pd.DataFrame(columns=["target_filepath", "source_filepath", "similarity", "provenance", "decision"])
    book = gap_ledger.gap_ledger(
        found, pairs, before.assign(siamese_score=[0.0, 0.55, 0.3, 0.9]), 0.5, iteration=1, band=(0.4, 0.6)
    )
    out = data_requests.build(found, ["a/C0"], book, before)
    schema.validate(out, "open_gaps")
    groups = {(r["label"], r["part_type"]): (r["no_neighbour"], r["stayed_open"]) for r in out["requests"]}
    assert groups == {("PASS", "R"): (1, 1), ("open", "QFN"): (0, 1)}
    assert out["open_samples"] == 3


def test_where_one_defect_decides_alone_good_parts_are_targets_by_the_threshold_at_99_percent(build) -> None:
    b = build()
    good = [0.01 * i for i in range(20)] + [0.6]
    frame = scored(b, good, [0.9] * 119 + [0.001])
    found = gaps.find_gaps(frame, 0.0009, layout=b.layout)
    chosen = frame.loc[found["row"].unique()]
    assert chosen.loc[chosen["label"] == "PASS", "siamese_score"].tolist() == [0.6]
    assert (chosen["label"] != "PASS").sum() == 1, "the odd defect still asks for its like"
    plain = scored(b, [*good, 0.95], [0.9] * 119 + [0.55])
    assert gaps.good_part_threshold(gaps.check_scored(plain), 0.5) == 0.5, "two false alarms against one at 99 %"
    assert set(gaps.find_gaps(plain, 0.5, layout=b.layout)["row"]) >= {20, 21}
