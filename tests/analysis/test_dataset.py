"""Assembly only grows, keeps where each row came from, and refuses what would spoil training."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from deft_aoi.analysis import dataset
from deft_aoi.analysis.dataset_rules import findings
from deft_aoi.contract.errors import HardStop


def mined_part(b, frame: pd.DataFrame, kind: str = "real"):
    return b.part(frame.assign(provenance=kind, target_ids="t1;t2", similarity="0.93"), "mined rows")


def test_three_iterations_only_grow_and_each_row_keeps_its_origin(build) -> None:
    b = build()
    previous, provenance = b.part(b.frame(6), "base"), None
    for n, kind in ((1, "real"), (2, "sdg"), (3, "real")):
        mined = mined_part(b, b.frame(4, start=100 * n, folder=f"pool{n}"), kind)
        frame, record = dataset.assemble(previous, mined, iteration=n, previous_provenance=provenance)
        assert frame.head(len(previous.frame))["object_name"].tolist() == previous.frame["object_name"].tolist()
        dataset.validate(frame, layout=b.layout, index=b.index, previous=previous, provenance=record)
        previous, provenance = b.part(frame, f"iter{n}"), record
    assert provenance["source"].tolist() == ["base_train"] * 6 + ["previous_iter_train"] * 8 + ["mining_pool"] * 4
    assert provenance["iteration"].tolist() == ["0"] * 6 + ["1"] * 4 + ["2"] * 4 + ["3"] * 4
    assert set(provenance["target_ids"][6:]) == {"t1;t2"}
    counts = dataset.class_counts(provenance)
    assert [i["sdg"] for i in counts["iterations"]] == [0, 0, 4, 0]
    assert counts["sdg_fraction"] == pytest.approx(4 / 18)
    assert not {"provenance", "target_ids", "similarity"} & set(previous.frame.columns)


def test_a_mined_row_that_training_has_under_another_name_is_refused(build) -> None:
    b = build()
    base = b.part(b.frame(6), "base")
    twin = pd.DataFrame([b.row("other", 2, folder="pool"), b.row("new", 77, folder="pool")])
    with pytest.raises(HardStop, match=r"line 8 .* has the pixels of line 4"):
        dataset.assemble(base, mined_part(b, twin), iteration=1)


def test_one_content_with_two_labels_names_both_rows(build) -> None:
    b = build()
    base = b.part(b.frame(6), "base")
    row = b.row("other", 2, folder="pool") | {"label": "open"}
    with pytest.raises(HardStop, match=r"line 4 \(\"a/C2\"\) and line 8 \(\"pool/other\"\) have the same pixels and two labels"):
        dataset.assemble(base, mined_part(b, pd.DataFrame([row])), iteration=1)


def test_the_same_row_twice_is_refused_even_when_it_is_flat(build) -> None:
    b = build()
    frame = b.frame(6)
    b.save(Image.new("RGB", (8, 8)), "a", "C0")
    b.save(Image.new("RGB", (8, 8)), "golden/a", "C0")
    twice = pd.concat([frame, frame.head(1)], ignore_index=True)
    with pytest.raises(HardStop, match=r"line 8 .* is line 2 again"):
        dataset.validate(twice, layout=b.layout, index=b.index)


def test_rows_of_the_users_own_pool_are_real_and_an_unknown_provenance_is_refused(build) -> None:
    b = build()
    base = b.part(b.frame(6), "base")
    own = b.frame(4, start=50, folder="pool")
    with pytest.raises(HardStop, match="lack their provenance"):
        dataset.assemble(base, b.part(own.assign(provenance="synthetic"), "mined rows"), iteration=1)
    _frame, origin = dataset.assemble(base, b.part(own, "mined rows"), iteration=1)
    assert origin["provenance"].tolist() == ["real"] * 10


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.assign(label="PASS"), "only PASS rows"),
        (lambda f: f[f.label != "PASS"], "no PASS rows"),
        (lambda f: f.assign(label=["Open", *f.label[1:]]), "not in its canonical spelling"),
        (lambda f: f.assign(label=["pass", *f.label[1:]]), "not in its canonical spelling"),
        (lambda f: f.drop(columns="golden_path"), "lacks golden_path"),
        (lambda f: f.head(0), "lacks rows"),
    ],
)
def test_what_tao_could_not_train_on_is_refused(build, change, message: str) -> None:
    b = build()
    with pytest.raises(HardStop, match=message):
        dataset.validate(change(b.frame(6)).reset_index(drop=True), layout=b.layout, index=b.index)


def test_every_light_of_every_row_must_exist(build) -> None:
    b = build(lights=("White", "Red"))
    frame = b.frame(6)
    (b.root / "a/C3_Red.png").unlink()
    with pytest.raises(HardStop, match="line 5, column input_path: the image is missing"):
        dataset.validate(frame, layout=b.layout, index=b.index)


@pytest.mark.parametrize("name", ["validation set", "KPI set", "hold-out set"])
def test_leakage_into_any_set_names_both_rows(build, name: str) -> None:
    b = build()
    frame = b.frame(6)
    other = b.part(pd.DataFrame([b.row("renamed", 4, "open", folder="kpi/deep"), b.row("x", 900)]), name)
    with pytest.raises(HardStop, match=f"line 6 of the training set has the pixels of line 2 of the {name}"):
        dataset.validate(frame, layout=b.layout, index=b.index, against=[other])


def test_a_set_that_lost_a_row_or_changed_a_label_is_refused(build) -> None:
    b = build()
    frame = b.frame(6)
    previous = b.part(frame, "previous")
    for changed in (frame.drop(index=1).reset_index(drop=True), frame.assign(label=["open", *frame.label[1:]])):
        with pytest.raises(HardStop, match="of the previous set is gone or has another label"):
            dataset.validate(changed, layout=b.layout, index=b.index, previous=previous)
    dataset.validate(frame.iloc[::-1].reset_index(drop=True), layout=b.layout, index=b.index, previous=previous)


def test_provenance_of_other_rows_is_refused(build) -> None:
    b = build()
    base = b.part(b.frame(6), "base")
    frame, record = dataset.assemble(base, mined_part(b, b.frame(4, start=50, folder="pool")), iteration=1)
    for wrong in (record.head(5), record.iloc[::-1], record.assign(source="elsewhere"), record.assign(provenance="maybe")):
        with pytest.raises(HardStop, match="provenance"):
            dataset.validate(frame, layout=b.layout, index=b.index, provenance=wrong.reset_index(drop=True))


def test_copies_within_the_users_base_set_are_counted_not_refused(build) -> None:
    b = build()
    frame = pd.concat([b.frame(6), pd.DataFrame([b.row("copy", 1, folder="b")])], ignore_index=True)
    assert dataset.validate(frame, layout=b.layout, index=b.index)["copies"] == 1


def test_the_proposed_clean_copy_holds(build) -> None:
    b = build()
    frame = b.frame(8)
    other = b.part(pd.DataFrame([b.row("renamed", 5, folder="kpi")]), "KPI set")
    conflict = b.row("again", 1, folder="b") | {"label": "short"}
    bad = pd.concat([frame, frame.head(1), pd.DataFrame([conflict])], ignore_index=True)
    clean, why = dataset.propose_clean(bad, findings(b.part(bad, "training set"), against=[other]))
    assert [w.split(":")[0] for w in why] == ["line 3", "line 7", "line 10", "line 11"]
    assert len(clean) == 6
    assert dataset.validate(clean, layout=b.layout, index=b.index, against=[other])["rows"] == 6


def test_rows_are_made_relative_to_the_workspace(build, tmp_path: Path) -> None:
    b = build()
    frame = b.frame(3).assign(label=["PASS", "PASS", " Open "])
    out = dataset.relative_rows(frame, b.root / "kpi" / "images", b.root)
    assert out["input_path"].tolist() == ["kpi/images/a"] * 3
    assert out["golden_path"].tolist() == ["kpi/images/golden/a"] * 3
    assert out["label"].tolist() == ["PASS", "PASS", "open"]
    assert frame["input_path"].tolist() == ["a"] * 3
    with pytest.raises(HardStop, match="outside the workspace"):
        dataset.relative_rows(frame, tmp_path, b.root)
