"""What the page says in each situation of a verdict, and that its sentences agree with one another."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pytest

from deft_aoi.analysis import kpi
from deft_aoi.analysis import verdict as verdicts
from deft_aoi.contract.kpi_target import parse_kpi_target
from deft_aoi.contract.paths import RunPaths
from deft_aoi.report import advice
from deft_aoi.report.run_view import Iteration, RunView
from deft_aoi.report.verdict import judge

Scores = tuple[Sequence[float], Sequence[float]]
CLEAR = [i / 1e4 for i in range(400)], [0.9 + i / 1e4 for i in range(400)]
SMALL = [i / 1e4 for i in range(40)], [0.9 + i / 1e4 for i in range(40)]
ODD = CLEAR[0], [0.02, *CLEAR[1][1:]]
"""One defect that scores like good parts: false alarms at full recall, none without it."""
ESCAPES = CLEAR[0], [1e-5, 2e-5, *CLEAR[1][2:]]
"""Two defects below every good part: missed at 99 % recall without a false alarm."""
REVERSED = CLEAR[1], CLEAR[0]
FULL, MOST = "FAR < 1% at recall=100%", "FAR < 1% at recall>=99%"


def frame(scores: Scores) -> pd.DataFrame:
    """Good parts and defects of 40 boards with these scores."""
    good, bad = scores
    return pd.DataFrame(
        {
            "input_path": "boards",
            "golden_path": "golden",
            "label": ["PASS"] * len(good) + ["short"] * len(bad),
            "object_name": [f"C{i}" for i in range(len(good) + len(bad))],
            "boardname": [f"B{i % 40}" for i in range(len(good) + len(bad))],
            "siamese_score": [*good, *bad],
        }
    )


@pytest.mark.parametrize(
    ("target", "scores", "holdout", "metric_met", "verdict", "limit"),
    [
        (FULL, CLEAR, CLEAR, None, verdicts.MET, "Nothing found"),
        (FULL, CLEAR, None, None, verdicts.KPI_ONLY, "No hold-out"),
        (FULL, CLEAR, ([*SMALL[0][1:], 0.5], SMALL[1]), None, verdicts.UNCONFIRMED, "The hold-out"),
        (
            FULL,
            CLEAR,
            (CLEAR[0], [0.01] * 9 + [0.9 + i / 1e4 for i in range(9, 400)]),
            None,
            verdicts.CONTRADICTED,
            "Defects not",
        ),
        (FULL, CLEAR, ([0.5] * 60 + CLEAR[0][60:], CLEAR[1]), None, verdicts.CONTRADICTED, "Good parts not"),
        (FULL, SMALL, None, None, verdicts.UNSUPPORTED, "The test set"),
        (FULL, ODD, None, None, verdicts.NOT_MET, "One defect"),
        (FULL, REVERSED, None, None, verdicts.NOT_MET, "Overlap"),
        (MOST, ESCAPES, None, None, verdicts.UNSUPPORTED, "The test set"),
        ("FAR < 60% at recall=100%", ODD, CLEAR, None, verdicts.MET, "One defect"),
        (FULL, CLEAR, CLEAR, False, verdicts.NOT_MET, "The primary metric"),
    ],
)
def test_sentences_of_a_page_agree(
    tmp_path: Path, target: str, scores: Scores, holdout: Scores | None, metric_met: bool | None, verdict: str, limit: str
) -> None:
    wanted, scored = parse_kpi_target(target), frame(scores)
    report = kpi.analyze(scored, target=wanted)
    point = report["target_point"]
    there = None
    if holdout is not None:
        there = kpi.apply_threshold(frame(holdout), point["threshold"], target=wanted, kpi_point=point)
    scored.to_csv(tmp_path / "inference.csv", index=False)
    state = {"far_fraction": point["far_fraction"], "inference_csv": "inference.csv", "primary_metric": "own metric"}
    best = Iteration("baseline", state, report, None, {}, None if metric_met is None else {"met": metric_met})
    view = RunView(RunPaths(tmp_path), [], {"status": "max_iterations", "iterations": {"baseline": state}}, iterations=[best])
    page = judge(view, there)
    cards = {card.question: card for card in page.cards}
    steps, limits = " ".join(page.steps), cards["What limits it?"]

    assert page.badge == verdict, page.text
    assert limits.answer.startswith(limit), limits
    assert ("on its side" in limits.detail) <= (point["fp"] == point["fn"] == 0)
    assert (limits.answer == "Nothing found") <= (verdict == verdicts.MET)
    assert ("Pilot it" in steps or "Deploy it" in steps) == (cards["Deploy it?"].answer != "No")
    assert ("Deploy it" in steps) == (verdict == verdicts.MET)
    assert ("kpi/holdout_set.csv" in steps) == (verdict in (verdicts.KPI_ONLY, verdicts.UNCONFIRMED, verdicts.UNSUPPORTED))
    missing = advice.lacking(report)
    assert (f"Add at least {missing} to the KPI set" in steps) if missing else "Add at least" not in steps
    if not report["suspected_label_errors"]["count"]:
        says = advice.labels(view, best)
        assert ("is its label right?" in steps) == ("is its label right?" in says)
        assert ("does not separate" in says) == (scores is REVERSED)
