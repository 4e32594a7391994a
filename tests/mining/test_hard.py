"""Hard rows: the best model's worst real rows, and the guard that keeps wrong labels out of them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from deft_aoi.contract.errors import HardStop
from deft_aoi.mining import hard
from deft_aoi.mining.distinct import Exclusions


def made(n: int = 40, wrong: tuple[int, ...] = ()) -> tuple[pd.DataFrame, np.ndarray, tuple]:
    """``n`` pool rows, the second half defects, scored in order; ``wrong`` rows have the other side's label."""
    defect = np.arange(n) >= n // 2
    label = np.where(defect, "open", "PASS").astype(object)
    for row in wrong:
        label[row] = "PASS" if defect[row] else "open"
    ids = [f"{i:064x}" for i in range(n)]
    frame = pd.DataFrame(
        {
            "input_path": "images",
            "golden_path": "golden",
            "object_name": [f"C{i}" for i in range(n)],
            "sample_id": [f"s{i}" for i in range(n)],
            "label": label,
            "content_id": ids,
            "provenance": "real",
            "featureless": False,
        }
    )
    random = np.random.default_rng(3)
    vectors = random.normal(size=(n, 6)) + np.where(defect, 6.0, 0.0)[:, None]
    return frame, np.linspace(0.01, 0.99, n), (ids, list(label), vectors.astype(np.float32))


def test_half_are_the_lowest_scoring_defects_and_half_the_highest_scoring_good_parts() -> None:
    frame, scores, contents = made()
    found = hard.select_hard(frame, scores, count=6, contents=contents, exclusions=Exclusions())
    assert found.kept["sample_id"].tolist() == ["s20", "s21", "s22", "s19", "s18", "s17"]
    assert not any(found.rejected.values())


def test_a_wrong_label_is_left_out_until_somebody_says_that_it_is_right() -> None:
    frame, scores, contents = made(wrong=(0, 39))
    found = hard.select_hard(frame, scores, count=6, contents=contents, exclusions=Exclusions())
    assert found.left_out["sample_id"].tolist() == ["s0", "s39"]
    assert found.rejected["label_in_doubt"] == 2
    assert len(found.kept) == 6
    judged = {"s0": "edge_case", "s39": "mislabeled"}
    again = hard.select_hard(frame, scores, count=6, contents=contents, exclusions=Exclusions(), verdicts=judged)
    assert "s0" in set(again.kept["sample_id"])
    assert again.rejected["called_bad"] == 1
    assert again.left_out.empty


def test_what_leaks_is_in_training_or_was_mined_by_the_other_proposer_is_passed_and_counted() -> None:
    frame, scores, contents = made()
    frame.loc[21, "provenance"] = "sdg"
    frame.loc[22, "content_id"] = frame.loc[23, "content_id"]
    at = frame["content_id"]
    found = hard.select_hard(
        frame,
        np.where(frame["provenance"] == "real", scores, np.nan),
        count=6,
        contents=contents,
        exclusions=Exclusions(training_ids={at[20]}, leaks={"kpi": {at[19]}}),
        taken=frozenset({at[18]}),
    )
    assert found.kept["sample_id"].tolist() == ["s22", "s24", "s25", "s17", "s16", "s15"]
    counted = {name: n for name, n in found.rejected.items() if n}
    assert counted == {"mined_by_knn": 1, "already_in_training": 1, "leaks": 1, "duplicate_content": 1}
    assert len(found.looked_at) == len(found.kept) + sum(found.rejected.values())


def test_a_pool_without_enough_rows_gives_what_it_has_and_a_missing_score_is_a_stop() -> None:
    frame, scores, contents = made(8)
    found = hard.select_hard(frame, scores, count=60, contents=contents, exclusions=Exclusions())
    assert len(found.kept) + sum(found.rejected.values()) == 8
    scores[3] = np.nan
    with pytest.raises(HardStop, match="no score"):
        hard.select_hard(frame, scores, count=60, contents=contents, exclusions=Exclusions())
