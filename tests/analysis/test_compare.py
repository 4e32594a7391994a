"""Two models on the same rows, and metrics of the user's own."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from deft_aoi.analysis import compare, kpi, metric, metric_values
from deft_aoi.contract import schema
from deft_aoi.contract.errors import Blocked, HardStop, JobFailed
from deft_aoi.contract.kpi_target import parse_kpi_target


def test_a_lower_far_that_hides_new_escapes_is_not_promoted(scored_rows) -> None:
    before = scored_rows([0.6, 0.7, 0.1, 0.2], [0.9, 0.8, 0.7])
    after = before.assign(siamese_score=[0.1, 0.1, 0.1, 0.1, 0.9, 0.4, 0.7])
    found = compare.compare(before, after, 0.5, 0.5)
    schema.validate(found, "comparison")
    assert found["far_after_fraction"] < found["far_before_fraction"]
    assert (found["new_escapes"], found["newly_caught"], found["cleared_false_alarms"]) == (1, 0, 2)
    assert [e["line"] for e in found["new_escapes_listed"]] == [7]
    assert not found["promote"]
    assert found["reason"] == "refused: 1 defect(s) newly missed, 0 newly caught (allowed 0)"
    assert compare.compare(before, after, 0.5, 0.5, max_new_escapes=1)["promote"]


def test_copies_of_one_part_count_once_on_both_sides(scored_rows) -> None:
    before = scored_rows([0.6, 0.6, 0.1, 0.2], [0.9, 0.9, 0.7])
    after = before.assign(siamese_score=[0.1, 0.6, 0.1, 0.7, 0.4, 0.9, 0.7])
    rows = compare.compare(before, after, 0.5, 0.5)
    parts = compare.compare(before, after, 0.5, 0.5, content_ids=["flat", "flat", "b", "c", "d", "d", "e"])
    assert (rows["parts"], parts["parts"], parts["rows"]) == (7, 5, 7)
    assert (rows["cleared_false_alarms"], parts["cleared_false_alarms"]) == (1, 0), "one copy of it is still an alarm"
    assert parts["new_false_alarms"] == parts["new_escapes"] == 1, "missed as soon as one copy is"
    assert [(e["line"], e["score_before"]) for e in parts["new_escapes_listed"]] == [(6, 0.9)]
    assert parts["far_before_fraction"] == pytest.approx(1 / 3)


def test_an_exchange_of_defects_is_promoted_and_named_unless_the_line_forbids_it(scored_rows) -> None:
    before = scored_rows([0.6, 0.7, 0.1, 0.2], [0.9, 0.8, 0.3])
    after = before.assign(siamese_score=[0.1, 0.1, 0.1, 0.1, 0.9, 0.4, 0.8])
    found = compare.compare(before, after, 0.5, 0.5)
    assert found["recall_after_fraction"] == found["recall_before_fraction"]  # the rate alone shows nothing
    assert [e["line"] for e in found["new_escapes_listed"]] == [7]
    assert found["promote"]
    assert found["reason"] == "promoted: fewer false alarms; 1 defect(s) newly missed, 1 newly caught"
    strict = compare.compare(before, after, 0.5, 0.5, max_new_escapes=0)
    assert not strict["promote"]
    assert "allowed 0" in strict["reason"]


def test_the_first_model_that_meets_the_target_is_promoted_with_its_escapes_listed(scored_rows) -> None:
    target = parse_kpi_target("FAR < 10% at recall>=66%")
    before = scored_rows([0.6, 0.7, 0.1, 0.2], [0.9, 0.8, 0.3])
    after = before.assign(siamese_score=[0.1, 0.1, 0.1, 0.1, 0.9, 0.4, 0.8])
    found = compare.compare(before, after, 0.5, 0.5, target=target)
    assert found["promote"]
    assert found["new_escapes"] == 1


def test_no_better_is_kept_and_better_is_promoted(scored_rows) -> None:
    before = scored_rows([0.6, 0.1], [0.9, 0.8])
    assert not compare.compare(before, before, 0.5, 0.5)["promote"]
    better = before.assign(siamese_score=[0.2, 0.1, 0.9, 0.8])
    assert compare.compare(before, better, 0.5, 0.5)["promote"]


def test_other_rows_are_refused(scored_rows) -> None:
    before = scored_rows([0.6, 0.1], [0.9, 0.8])
    with pytest.raises(HardStop, match="different numbers of rows"):
        compare.compare(before, scored_rows([0.6], [0.9, 0.8]), 0.5, 0.5)
    with pytest.raises(HardStop, match="line 2: the two sets are not the same rows"):
        compare.compare(before, before.assign(object_name=["X", "C1", "C2", "C3"]), 0.5, 0.5)


def _candidate(folder: Path) -> metric_values.Candidate:
    return metric_values.Candidate(folder / "x.csv", folder / "kpi.json", folder, {"label": "baseline"})


PLAN = {
    "primary": {"name": "far_fraction", "operator": "<", "target": 0.3, "unit": "fraction"},
    "constraints": [{"name": "recall_fraction", "operator": ">=", "target": 0.99}],
}


def test_a_constraint_decides_even_when_the_primary_is_met(scored_rows, tmp_path: Path) -> None:
    plan = metric.parse_metric_plan(PLAN)
    report = kpi.analyze(scored_rows([0.1, 0.2, 0.6], [0.9, 0.8, 0.15]), recalls=(0.6,))
    found = metric_values.evaluate(plan, report, _candidate(tmp_path))
    assert found.values["far_fraction"] == 0.0
    assert not found.met
    assert not found.feasible
    assert found.failed == ("recall_fraction >= 0.99",)


def test_a_criterion_without_a_value_is_a_hard_stop_never_dropped(scored_rows, tmp_path: Path) -> None:
    plan = metric.parse_metric_plan(
        {**PLAN, "constraints": [{"name": "recall_fraction:tombstone", "operator": ">", "target": 0}]}
    )
    report = kpi.analyze(scored_rows([0.1], [0.9]))
    with pytest.raises(HardStop, match="recall_fraction:tombstone"):
        metric_values.evaluate(plan, report, _candidate(tmp_path))


def test_feasible_wins_over_a_better_primary() -> None:
    plan = metric.parse_metric_plan(PLAN)
    values = [(0.01, 0.90), (0.20, 1.0), (0.10, 1.0), (0.10, 1.0)]
    found = [metric.evaluate_criteria(plan, {"far_fraction": f, "recall_fraction": r}) for f, r in values]
    assert metric.select(found) == 2


def test_a_maximised_metric_is_maximised() -> None:
    plan = metric.parse_metric_plan({"primary": {"name": "auroc", "operator": ">=", "target": 0.99}})
    found = [metric.evaluate_criteria(plan, {"auroc": v}) for v in (0.90, 0.97, 0.95)]
    assert metric.select(found) == 1


def test_a_command_evaluates_with_its_own_numbers(scored_rows, tmp_path: Path) -> None:
    code = "import json,sys; print(json.dumps({'cost': len(open(sys.argv[1]).read())}))"
    plan = metric.parse_metric_plan(
        {
            "primary": {"name": "cost", "operator": "<=", "target": 5},
            "evaluator": {"kind": "argv", "argv": [sys.executable, "-c", code, "{inference_csv}"]},
        }
    )
    (tmp_path / "x.csv").write_text("abcdef; rm -rf")
    report = kpi.analyze(scored_rows([0.1], [0.9]))
    found = metric_values.evaluate(plan, report, _candidate(tmp_path))
    assert found.values == {"cost": 14.0}
    assert found.primary_distance == 9.0


@pytest.mark.parametrize("code", ["raise SystemExit(3)", "print('nan')", "print([1])", "import time; time.sleep(9)"])
def test_a_command_that_fails_is_a_failed_job(scored_rows, tmp_path: Path, code: str) -> None:
    plan = metric.parse_metric_plan(
        {
            "primary": {"name": "cost", "operator": "<=", "target": 5},
            "evaluator": {"kind": "argv", "argv": [sys.executable, "-c", code], "time_limit_sec": 2},
        }
    )
    with pytest.raises(JobFailed):
        metric_values.evaluate(plan, kpi.analyze(scored_rows([0.1], [0.9])), _candidate(tmp_path))


def test_a_result_file_evaluates(scored_rows, tmp_path: Path) -> None:
    plan = metric.parse_metric_plan({**PLAN, "evaluator": {"kind": "result_file", "path": "m.json"}})
    report = kpi.analyze(scored_rows([0.1], [0.9]))
    with pytest.raises(Blocked, match="not there yet"):
        metric_values.evaluate(plan, report, _candidate(tmp_path))
    (tmp_path / "m.json").write_text(json.dumps({"far_fraction": 0.1, "recall_fraction": 1.0, "text": "ignored"}))
    assert metric_values.evaluate(plan, report, _candidate(tmp_path)).met


@pytest.mark.parametrize("path", ["/etc/passwd", "../x.json", "a/../../b"])
def test_a_plan_with_a_result_file_elsewhere_is_refused(path: str) -> None:
    with pytest.raises(HardStop):
        metric.parse_metric_plan({**PLAN, "evaluator": {"kind": "result_file", "path": path}})


def test_a_plan_that_says_one_thing_twice_is_refused() -> None:
    with pytest.raises(HardStop, match="twice"):
        metric.parse_metric_plan({**PLAN, "constraints": [PLAN["primary"]]})


def test_where_both_models_flag_half_of_the_good_parts_the_rate_at_99_percent_decides(scored_rows) -> None:
    good = [0.1 * i for i in range(10)]
    before = scored_rows(good, [0.85] * 119 + [0.05])
    after = scored_rows(good, [0.95] * 119 + [0.05])
    found = compare.compare(before, after, 0.02, 0.02)
    assert found["far_before_fraction"] == found["far_after_fraction"] == 0.9
    assert found["promote"]
    assert "at recall 99 %" in found["reason"]
    assert not compare.compare(after, before, 0.02, 0.02)["promote"]
    worse_at_full = compare.compare(before, scored_rows(good, [0.95] * 119 + [0.01]), 0.02, 0.005)
    assert worse_at_full["promote"], "97 % against 90 % is one defect's doing"


def test_a_model_that_flags_fewer_than_half_is_always_ahead_of_one_that_flags_more() -> None:
    known = {"cross_validated_far_fraction": 0.6, "far_at_99_fraction": 0.0}
    ranks = [metric.iteration_rank({**known, "far_fraction": far}) for far in (0.49, 0.5, 0.97)]
    assert ranks == sorted(ranks)
    assert metric.iteration_rank({"far_fraction": 0.97}) < metric.iteration_rank({**known, "far_fraction": 0.97}), "older runs"
