"""The KPI report: what it refuses, what it says, what it writes."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from deft_aoi.analysis import holdout, kpi, kpi_output, operating_point
from deft_aoi.analysis.reference import Untrained
from deft_aoi.analysis.score_table import attach_scores, read_scores
from deft_aoi.analysis.scored import check_scored
from deft_aoi.analysis.verdict import KPI_ONLY, NOT_MET, UNSUPPORTED, beside
from deft_aoi.contract import schema
from deft_aoi.contract.changenet_csv import read_changenet_csv
from deft_aoi.contract.errors import HardStop
from deft_aoi.contract.kpi_target import parse_kpi_target

TARGET = parse_kpi_target("FAR < 0.1% at recall=100%")


def noisy(scored_rows, n_good: int = 400, n_bad: int = 60, seed: int = 1) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    return scored_rows(rng.normal(0.2, 0.1, n_good).round(3).tolist(), rng.normal(0.6, 0.1, n_bad).round(3).tolist())


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), "", "0,5", "abc", None])
def test_a_score_that_is_no_finite_number_is_refused_with_its_line(scored_rows, value: object) -> None:
    frame = scored_rows([0.1, 0.2], [0.9]).astype({"siamese_score": object})
    frame.loc[1, "siamese_score"] = value
    with pytest.raises(HardStop, match="line 3: the score is not a finite number"):
        kpi.analyze(frame)


@pytest.mark.parametrize(
    ("label", "message"),
    [
        ("", "line 3: a label is empty"),
        ("pass", "line 3: .*not PASS"),
        (" PASS", "line 3: .*not PASS"),
        ("Pass", "line 3"),
        (None, "line 3: a label is empty"),
        ("<b>", "line 3: .*not allowed"),
    ],
)
def test_a_bad_label_is_refused_with_its_line(scored_rows, label: str | None, message: str) -> None:
    frame = scored_rows([0.1, 0.2], [0.9])
    frame.loc[1, "label"] = label
    with pytest.raises(HardStop, match=message):
        kpi.analyze(frame)


def test_a_set_without_defects_or_without_good_parts_is_refused(scored_rows) -> None:
    frame = scored_rows([0.1, 0.2], [0.9, 0.8])
    with pytest.raises(HardStop, match="no defect rows"):
        kpi.analyze(frame[frame.label == "PASS"])
    with pytest.raises(HardStop, match="no PASS rows"):
        kpi.analyze(frame[frame.label != "PASS"])


def test_one_sample_with_two_labels_is_refused_by_name_and_by_content(scored_rows) -> None:
    frame = scored_rows([0.1, 0.2], [0.9])
    frame.loc[2, "object_name"] = "C1"
    with pytest.raises(HardStop, match="lines 3 and 4 are one sample by name"):
        kpi.analyze(frame)
    frame = scored_rows([0.1, 0.2], [0.9])
    with pytest.raises(HardStop, match="lines 2 and 4 are one sample by content"):
        kpi.analyze(frame, content_ids=["x", "y", "x"])
    kpi.analyze(frame, content_ids=["x", "y", "x"], featureless=[True, False, True])


def test_two_defect_labels_on_one_sample_are_a_conflict_too(scored_rows) -> None:
    frame = scored_rows([0.1, 0.2], [0.9, 0.8])
    frame.loc[3, ["label", "object_name"]] = ["short", "C2"]
    with pytest.raises(HardStop, match="lines 4 and 5"):
        kpi.analyze(frame)


def test_copies_with_one_label_are_one_observation(scored_rows) -> None:
    frame = scored_rows([0.1, 0.1, 0.1, 0.3], [0.9, 0.9])
    report = kpi.analyze(frame, target=TARGET, content_ids=["a", "a", "a", "b", "c", "c"])
    assert report["counts"]["distinct_pass"] == 2
    assert report["counts"]["distinct_defect"] == 1
    assert report["target_point"]["far_interval"][1] == pytest.approx(1 - 0.05**0.5)
    assert report["target_point"]["far_fraction"] == 0.0


@pytest.mark.parametrize(
    ("good", "bad", "target", "verdict"),
    [
        ([0.1] * 400, [0.9], "FAR < 0.1% at recall=100%", UNSUPPORTED),
        ([0.1] * 2995, [0.9] * 299, "FAR < 0.1% at recall=100%", KPI_ONLY),
        ([0.1] * 2995, [0.9] * 298, "FAR < 0.1% at recall=100%", UNSUPPORTED),
        ([0.1] * 2994, [0.9] * 299, "FAR < 0.1% at recall=100%", UNSUPPORTED),
        ([0.1] * 399 + [0.95], [0.9], "FAR < 0.1% at recall=100%", NOT_MET),
        ([0.1] * 3 + [0.95], [0.9], "FAR < 25% at recall=100%", NOT_MET),
        ([0.1] * 3 + [0.95], [0.9], "FAR <= 25% at recall=100%", UNSUPPORTED),
        ([0.1] * 99 + [0.5], [0.9] * 99 + [0.2], "FAR < 0.5% at recall>=99%", UNSUPPORTED),
    ],
)
def test_verdict(scored_rows, good: list[float], bad: list[float], target: str, verdict: str) -> None:
    report = kpi.analyze(scored_rows(good, bad), target=parse_kpi_target(target))
    assert report["verdict"] == verdict
    assert report["facts"]["kpi"] == (verdict != NOT_MET)
    assert report["verdict_sentence"].startswith(f"{verdict}: ")
    assert len(report["verdict_sentence"]) < 400


def test_the_sentence_never_rounds_a_rate_to_nothing_or_to_all(scored_rows) -> None:
    report = kpi.analyze(scored_rows([0.1] * 49_999 + [0.99], [0.9] * 3), target=TARGET)
    assert "FAR <= 0.00949 %, recall >= 36.8 %" in report["verdict_sentence"]
    hard = kpi.analyze(scored_rows([0.1], [0.9] * 19_999 + [0.05]), recalls=(0.9999,))
    assert "recall >= 99.9763 %" in hard["verdict_sentence"]


def test_drop_n_is_the_far_without_the_hardest_defects(scored_rows) -> None:
    frame = scored_rows([0.05, 0.15, 0.25, 0.35], [0.1, 0.2, 0.3, 0.9])
    report = kpi.analyze(frame)
    assert [d["far_fraction"] for d in report["drop_n"]] == [0.5, 0.25, 0.0]
    for drop in report["drop_n"]:
        hardest = frame[frame.label != "PASS"].sort_values("siamese_score").head(drop["dropped"])
        again = kpi.analyze(frame.drop(hardest.index))
        assert again["target_point"]["far_fraction"] == drop["far_fraction"]
        assert [s["line"] for s in drop["samples"]] == [i + 2 for i in hardest.index]


def test_the_samples_that_set_the_threshold_are_named(scored_rows) -> None:
    report = kpi.analyze(scored_rows([0.1, 0.4], [0.5, 0.9]))
    roles = {s["role"]: s["line"] for s in report["setting_samples"]}
    assert roles == {"lowest flagged": 4, "highest passed": 3}


def test_suspected_label_errors_and_the_kpi_if_they_were_relabelled(scored_rows) -> None:
    frame = scored_rows([0.1, 0.2, 0.15, 0.95], [0.9, 0.8, 0.85])
    report = kpi.analyze(frame)
    found = report["suspected_label_errors"]
    assert report["target_point"]["far_fraction"] == 0.25
    assert (found["count"], found["listed"][0]["line"], found["far_fraction_if_relabelled"]) == (1, 5, 0.0)
    relabelled = frame.assign(label=["PASS", "PASS", "PASS", "open", "open", "open", "open"])
    assert kpi.analyze(relabelled)["target_point"]["threshold"] == found["threshold_if_relabelled"]


def test_slices_add_up_to_the_whole(scored_rows) -> None:
    frame = noisy(scored_rows).assign(part_type=lambda f: np.where(np.arange(len(f)) % 3 == 0, "R0402", "C0603"))
    report = kpi.analyze(frame, recalls=(0.95,))
    for column in ("part_type", "boardname"):
        listed = report["slices"][column]["listed"]
        assert sum(s["fp"] for s in listed) == report["target_point"]["fp"] > 0
        assert sum(s["fn"] for s in listed) == report["target_point"]["fn"] > 0
    units = report["aoi_units"]
    assert units["boards"] == 7
    assert units["false_calls_per_board"] == pytest.approx(report["target_point"]["fp"] / 7)


def test_boards_of_a_fold_are_judged_at_a_threshold_that_they_did_not_choose(scored_rows) -> None:
    frame = noisy(scored_rows)
    estimate = kpi.analyze(frame)["estimate"]
    assert estimate["kind"] == "split_by_board"
    assert estimate["recall_fraction"] < 1.0  # some fold's lowest defect lies below what the others chose
    by_row = kpi.analyze(frame.drop(columns="boardname"))["estimate"]
    assert by_row["kind"] == "split_by_row"
    assert kpi.analyze(frame)["estimate"] == estimate


@pytest.mark.parametrize("near", [1, 3, 1000])
def test_each_fold_is_judged_at_the_operating_point_of_the_others(scored_rows, monkeypatch, near: int) -> None:
    monkeypatch.setattr(holdout, "NEAR", near)
    rng = np.random.default_rng(8)
    for _case in range(150):
        n_good, n_bad = int(rng.integers(14, 60)), int(rng.integers(1, 60))  # each board has good parts
        good, bad = rng.normal(0.2, 0.2, n_good).round(2), rng.normal(0.5, 0.2, n_bad).round(2)
        scored, recall = check_scored(scored_rows(good.tolist(), bad.tolist())), float(rng.uniform(0.3, 1.0))
        fold = holdout._folds(scored, 5)[0]
        thresholds, fp, tp, n_pass, n_defect = [], 0, 0, 0, 0
        for k in range(5):
            inside, outside = fold == k, fold != k
            if (inside & scored.defect).any() and (outside & scored.defect).any():
                others = operating_point.sweep(scored.scores[outside], scored.defect[outside])
                thresholds.append(operating_point.at_recall(others, recall).threshold)
                flagged = inside & (scored.scores > thresholds[-1])
                fp, tp = fp + (flagged & ~scored.defect).sum(), tp + (flagged & scored.defect).sum()
                n_pass, n_defect = n_pass + (inside & ~scored.defect).sum(), n_defect + (inside & scored.defect).sum()
        found = holdout.split_estimate(scored, scored.sweep(), recall)
        if len(thresholds) < 2:
            assert found is None
        else:
            assert (found["threshold_min"], found["threshold_max"]) == (min(thresholds), max(thresholds))
            assert (found["far_fraction"], found["recall_fraction"]) == (fp / n_pass, tp / n_defect)
            assert found["folds"] == len(thresholds)


def test_hold_out_is_judged_at_the_fixed_threshold(scored_rows) -> None:
    frame = scored_rows([0.1, 0.6], [0.5, 0.9, 0.3])
    report = kpi.apply_threshold(frame, 0.5, target=TARGET)
    schema.validate(report, "holdout")
    point = report["point"]
    assert (point["tp"], point["fp"], point["tn"], point["fn"]) == (1, 1, 1, 2)  # 0.5 is not above 0.5
    assert [m["line"] for m in report["missed"]] == [6, 4]
    assert report["met"] is False


def test_outputs_hold_full_precision_and_fit_their_schema(scored_rows, tmp_path: Path) -> None:
    frame = noisy(scored_rows)
    frame.loc[0, "input_path"] = "=cmd()"
    report = kpi.analyze(frame, target=TARGET)
    paths = kpi_output.write_outputs(report, frame, tmp_path)
    assert {p.name for p in paths} == {p.name for p in tmp_path.iterdir()}
    assert json.loads((tmp_path / "kpi.json").read_text()) == report
    rows = list(csv.DictReader((tmp_path / "threshold_metrics.csv").open()))
    match = [r for r in rows if float(r["threshold"]) == report["target_point"]["threshold"]]
    assert len(match) == 1
    assert int(match[0]["fp"]) == report["target_point"]["fp"]
    missed = list(csv.DictReader((tmp_path / "best_f1_missed_no_pass_samples.csv").open()))
    assert len(missed) == report["best_f1"]["fn"] > 0
    assert {r["label"] for r in missed} == {"open"}
    assert report["verdict_sentence"] in (tmp_path / "summary.txt").read_text()


def test_a_cell_that_would_be_a_formula_is_defused_in_files_for_people(scored_rows, tmp_path: Path) -> None:
    frame = scored_rows([0.1, 0.5], [0.05, 0.9, 0.8])
    frame.loc[2, "boardname"] = "=HYPERLINK(1)"
    kpi_output.analyze_and_write(frame, tmp_path, plots=False)
    missed = list(csv.DictReader((tmp_path / "best_f1_missed_no_pass_samples.csv").open()))
    assert missed[0]["boardname"] == "'=HYPERLINK(1)"


def test_plots_are_the_same_bytes_for_the_same_numbers(scored_rows, tmp_path: Path) -> None:
    frame = noisy(scored_rows)
    for name in ("one", "two"):
        kpi_output.analyze_and_write(frame, tmp_path / name, target=TARGET)
    pictures = sorted(p.name for p in (tmp_path / "one").iterdir() if p.suffix in (".svg", ".png"))
    assert len(pictures) == 6
    for name in pictures:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_threshold_table_is_decimated_and_keeps_every_operating_point(scored_rows, tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    frame = scored_rows(rng.random(30_000).tolist(), (rng.random(500) + 0.3).tolist())
    report = kpi_output.analyze_and_write(frame, tmp_path, plots=False)
    table = pd.read_csv(tmp_path / "threshold_metrics.csv")
    assert 9_000 < len(table) <= 10_010
    kept = {p["threshold"] for p in (*report["operating_points"], report["best_f1"])}
    assert kept <= set(table["threshold"])


def test_read_scores_equals_the_rows_and_keeps_leading_zeros(scored_rows, tmp_path: Path) -> None:
    frame = scored_rows([0.1, 0.2], [0.9])
    frame["boardname"] = ["00041", "00042", "007"]
    frame.to_csv(tmp_path / "s.csv", index=False)
    read = read_scores(tmp_path / "s.csv")
    assert read["boardname"].astype(str).tolist() == ["00041", "00042", "007"]
    assert kpi.analyze(read) == kpi.analyze(frame)


def test_a_byte_order_mark_hides_no_column(scored_rows, tmp_path: Path) -> None:
    frame = scored_rows([0.1, 0.2], [0.9])
    frame = frame[["label", *(c for c in frame.columns if c != "label")]]
    frame.to_csv(tmp_path / "s.csv", index=False, encoding="utf-8-sig")
    assert kpi.analyze(read_scores(tmp_path / "s.csv")) == kpi.analyze(frame)
    rows = read_changenet_csv(tmp_path / "s.csv", what="KPI set")
    assert rows.columns[0] == "label"
    assert rows["label"].tolist() == frame["label"].tolist()


def test_a_large_file_is_read_with_what_the_kpi_needs_and_gives_the_same_numbers(
    scored_rows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from deft_aoi.analysis import score_table

    frame = noisy(scored_rows).assign(description="not needed")
    frame["boardname"] = [f"B{i % 60}" for i in range(len(frame))]
    frame.to_csv(tmp_path / "s.csv", index=False)
    small = kpi.analyze(read_scores(tmp_path / "s.csv"))
    monkeypatch.setattr(score_table, "LARGE_BYTES", 10)
    large = read_scores(tmp_path / "s.csv")
    assert "description" not in large.columns
    assert kpi.analyze(large) == small


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "missing or empty"),
        ("label,label,siamese_score\nPASS,PASS,1\n", "duplicate column"),
        ("label,score\nPASS,1\n", "lacks the column"),
        ("label,siamese_score\nPASS,1,2\n", "not a well-formed CSV"),
    ],
)
def test_a_malformed_file_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "s.csv").write_text(text)
    with pytest.raises(HardStop, match=message):
        read_scores(tmp_path / "s.csv")


def test_a_text_score_in_a_file_is_named_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "s.csv").write_text("label,siamese_score\nPASS,0.1\nopen,oops\n")
    with pytest.raises(HardStop, match="line 3") as stop:
        kpi.analyze(read_scores(tmp_path / "s.csv"))
    assert "oops" in stop.value.found


def test_scores_are_attached_by_position_and_shuffled_rows_are_refused(scored_rows) -> None:
    scored = scored_rows([0.1, 0.2], [0.9])
    rows = scored.drop(columns="siamese_score")
    assert attach_scores(rows, scored)["siamese_score"].tolist() == [0.1, 0.2, 0.9]
    with pytest.raises(HardStop, match="line 2 of the inference is another sample"):
        attach_scores(rows, scored.iloc[::-1].reset_index(drop=True))
    with pytest.raises(HardStop, match="another number of rows"):
        attach_scores(rows, scored.head(2))


def test_taos_own_inference_files_are_analyzed(tao_fixtures: Path, tmp_path: Path) -> None:
    found = sorted(tao_fixtures.glob("**/inference.csv"))
    frames = [f for f in map(read_scores, found) if 0 < (f["label"] == "PASS").sum() < len(f)]
    assert frames
    for frame in frames:
        schema.validate(kpi.analyze(frame, target=TARGET), "kpi")


def test_the_untrained_rule_stands_beside_the_model_and_a_tie_is_called_one(scored_rows) -> None:
    frame = scored_rows([0.1] * 99 + [0.95], [0.9] * 20)
    blind = Untrained(np.r_[np.arange(100.0), np.full(20, 50.0)], registered=True)
    report = kpi.analyze(frame, target=TARGET, untrained=blind)
    schema.validate(report, "kpi")
    row = report["reference"]["points"][0]
    assert (row["recall_target_fraction"], row["fp"], row["model_fp"], row["says"]) == (1.0, 50, 1, "better")
    assert row["p_value"] < 1e-12
    assert "comparing registered pixels gives 50 false alarms" in beside(report)[0]
    assert "50 times fewer" in beside(report)[0]
    row["fp"] = 116
    assert ": 116 times fewer" in beside(report)[0], "no power of ten for a reader"
    same = kpi.analyze(frame, target=TARGET, untrained=Untrained(frame["siamese_score"].to_numpy(), registered=False))
    assert [r["says"] for r in same["reference"]["points"]] == ["no better shown"] * 2
    worse = kpi.analyze(
        frame.assign(siamese_score=blind.scores), target=TARGET, untrained=Untrained(frame["siamese_score"].to_numpy(), False)
    )
    assert worse["reference"]["points"][0]["says"] == "worse"


def test_copies_count_once_beside_the_untrained_rule_too(scored_rows) -> None:
    frame = scored_rows([0.1, 0.1, 0.1, 0.2], [0.9, 0.8])
    blind = Untrained(np.array([9.0, 9.0, 1.0, 9.0, 5.0, 6.0]), registered=False)
    report = kpi.analyze(frame, target=TARGET, content_ids=["a", "a", "a", "b", "c", "d"], untrained=blind)
    assert (report["reference"]["points"][0]["fp"], report["reference"]["points"][0]["far_fraction"]) == (2, 1.0)


def test_the_defects_that_set_the_threshold_are_named_with_the_rate_without_each(scored_rows) -> None:
    report = kpi.analyze(scored_rows([0.1] * 8 + [0.3, 0.5], [0.2, 0.4, 0.9, 0.9]), target=TARGET)
    lines = beside(report)
    assert [d["line"] for d in report["deciding_defects"]["listed"]] == [12, 13, 14]
    assert len(lines) == 3
    assert "line 12; FAR 10 % without it (now 20 %)" in lines[0]
    assert "line 13; FAR 20 % without it" in lines[1]
