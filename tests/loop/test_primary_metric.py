"""A primary metric of the user's own: it is approved, selects, stops, is handed over, verified and shown."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from .conftest import FAST, NEVER, deft, only_run

EVALUATOR = """\
import csv, json, os, sys
rows = list(csv.DictReader(open(sys.argv[1])))
good = [float(r["siamese_score"]) for r in rows if r["label"] == "PASS"]
secrets = sum(name in os.environ for name in ("HF_TOKEN", "NGC_API_KEY"))
print(json.dumps({"rows": len(rows), "mean_good": sum(good) / len(good), "secrets": secrets}))
"""


def _write(path: Path, body: Any) -> Path:
    path.write_text(json.dumps(body))
    return path


def _run(workspace: Path, plan: Path, *extra: str) -> Any:
    return deft("run_loop", "--workspace", workspace, *FAST, "--metric-plan", plan, "--yes", *extra)


def _events(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "loop_log.jsonl").read_text().splitlines()]


def _evaluated(run: Path) -> dict[str, dict[str, Any]]:
    return {e["iter"]: e["data"]["state"] for e in _events(run) if e["stage"] == "evaluate" and e["status"] == "ok"}


def test_builtin_metric_that_is_met_stops_the_loop_after_the_baseline(workspace: Path, tmp_path: Path) -> None:
    plan = _write(
        tmp_path / "metric.json",
        {
            "primary": {"name": "auroc", "operator": ">=", "target": 0.0},
            "constraints": [{"name": "recall_fraction", "operator": ">=", "target": 0.9, "unit": "fraction"}],
        },
    )
    said = _run(workspace, plan)
    assert said.code == 0, said.out + said.err
    assert "auroc >= 0.0 (user): selects and stops" in said.out
    assert "recall_fraction >= 0.9 fraction (user)" in said.out
    assert "its FAR bound was not asked for" in said.out
    assert "primary metric: auroc" in said.out
    run = only_run(workspace)
    assert list(_evaluated(run)) == ["baseline"]
    assert _evaluated(run)["baseline"]["verdict"] == "MET (not yet supported by the sample size)"
    best = json.loads((run / "best_model.json").read_text())
    assert best["metric"]["met"]
    assert best["verdict"] == "MET (not yet supported by the sample size)"
    assert (best["status"], best["verdict"][:3]) == ("final", "MET")
    assert [c["name"] for c in best["metric"]["criteria"]] == ["auroc", "recall_fraction"]
    assert best["metric"]["criteria"][0]["value"] == best["auroc"]
    html = (run / "DEFT_Loop_Report.html").read_text()
    assert "Primary metric" in html
    assert "recall_fraction" in html
    verified = deft("verify_run", "--results-dir", run)
    assert verified.code == 0, verified.out
    assert "primary metrics" in verified.out


def test_a_kpi_target_beside_a_met_metric_still_holds_the_loop_back(workspace: Path, tmp_path: Path) -> None:
    plan = _write(tmp_path / "metric.json", {"primary": {"name": "auroc", "operator": ">=", "target": 0.0}})
    strict = "FAR < 0.0001% at recall=100%"
    said = deft("preflight", "--workspace", workspace, *FAST, "--metric-plan", plan, "--kpi-target", strict)
    assert said.code == 0, said.err
    assert "far_fraction < 1e-06" in said.out


def test_command_metric_selects_and_a_broken_constraint_is_never_dropped(
    workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_not_for_the_command")
    script = workspace / "metric.py"
    script.write_text(EVALUATOR)
    import sys

    plan = _write(
        tmp_path / "metric.json",
        {
            "primary": {"name": "mean_good", "operator": "<=", "target": 1.0, "unit": "score"},
            "constraints": [
                {"name": "rows", "operator": ">", "target": 1e9},
                {"name": "secrets", "operator": "==", "target": 0},
                {"name": "auroc", "operator": ">=", "target": 0, "evaluator": "builtin"},
            ],
            "evaluator": {"kind": "argv", "argv": [sys.executable, "{workspace}/metric.py", "{inference_csv}"]},
        },
    )
    said = _run(workspace, plan)
    assert said.code == 0, said.out + said.err
    assert "| {workspace}/metric.py" in said.out, "the command is shown element by element"
    run = only_run(workspace)
    found = _evaluated(run)
    assert list(found) == ["baseline", "iter1"], "the primary is met, but a broken constraint goes on"
    for label, state in found.items():
        records = {c: json.loads((run / label / "inference" / c / "metric.json").read_text()) for c in ("best_val", "latest")}
        assert state["verdict"] == "NOT MET"
        broken = [row["name"] for row in records[state["chosen"]]["criteria"] if not row["holds"]]
        assert broken == ["rows"]
        lowest = min(r["primary_distance"] for r in records.values())
        assert records[state["chosen"]]["primary_distance"] == lowest, "the lower metric is chosen, whatever its FAR"
    best = json.loads((run / "best_model.json").read_text())
    handed = {i: s for i, s in found.items() if s["promoted"]}
    assert best["iteration"] == min(handed, key=lambda i: handed[i]["metric_distance"])
    assert "NOT MET" in (run / "DEFT_Loop_Report.html").read_text()
    assert deft("verify_run", "--results-dir", run).code == 0
    record = run / "baseline" / "inference" / found["baseline"]["chosen"] / "metric.json"
    body = json.loads(record.read_text())
    body["criteria"][1]["target"] = 1
    record.write_text(json.dumps(body))
    assert deft("verify_run", "--results-dir", run).code == 3


def test_a_command_that_fails_is_exit_7_and_goes_on_when_it_is_mended(workspace: Path, tmp_path: Path) -> None:
    import sys

    flag = tmp_path / "broken"
    flag.touch()
    code = f"import os; assert not os.path.exists({str(flag)!r}), 'the fixture is not calibrated'; print('{{\"cost\": 1}}')"
    plan = _write(
        tmp_path / "metric.json",
        {
            "primary": {"name": "cost", "operator": "<", "target": 5},
            "evaluator": {"kind": "argv", "argv": [sys.executable, "-c", code]},
        },
    )
    said = _run(workspace, plan)
    assert said.code == 7, said.out + said.err
    assert "the fixture is not calibrated" in said.err
    run = only_run(workspace)
    assert not _evaluated(run)
    flag.unlink()
    again = deft("run_loop", "--results-dir", run)
    assert again.code == 0, again.out + again.err
    assert _evaluated(run)["baseline"]["metric_value"] == 1
    assert sum(e["stage"] == "train" and e["status"] == "started" for e in _events(run)) == 1


def test_a_result_file_is_waited_for_and_each_checkpoint_is_judged_by_its_own(workspace: Path, tmp_path: Path) -> None:
    """Somebody measures each candidate elsewhere: the loop stops (exit 4), names what to measure, and goes on."""
    plan = _write(
        tmp_path / "metric.json",
        {
            "primary": {"name": "bench_minutes", "operator": "<=", "target": 4.0, "unit": "min"},
            "constraints": [{"name": "auroc", "operator": ">=", "target": 0.0, "evaluator": "builtin"}],
            "evaluator": {"kind": "result_file", "path": "bench.json"},
        },
    )
    said = _run(workspace, plan)
    run, results = only_run(workspace), {"best_val": 9.0, "latest": 3.0}
    assert "run/metric/<iteration>/<checkpoint>/bench.json" in said.out
    for choice, minutes in results.items():
        assert said.code == 4, said.out + said.err
        file = run / "run" / "metric" / "baseline" / choice / "bench.json"
        assert str(file) in said.err
        assert f"baseline/inference/{choice}/inference.csv" in said.err
        assert not _evaluated(run), "nothing is decided while a value is missing"
        _write(file, {"bench_minutes": minutes, "auroc": -1})
        said = deft("run_loop", "--results-dir", run)
    assert said.code == 0, said.out + said.err
    state = _evaluated(run)["baseline"]
    assert (state["chosen"], state["metric_value"], state["verdict"]) == (
        "latest",
        3.0,
        "MET (not yet supported by the sample size)",
    )
    assert sum(e["stage"] == "train" and e["status"] == "started" for e in _events(run)) == 1
    best = json.loads((run / "best_model.json").read_text())
    assert best["metric"]["criteria"][0]["value"] == 3.0
    assert best["metric"]["criteria"][1]["value"] == best["auroc"], "a built-in value is not taken from the file"
    assert deft("verify_run", "--results-dir", run).code == 0


def test_what_cannot_work_is_said_before_the_go(workspace: Path, tmp_path: Path) -> None:
    def plan(body: Any, *extra: str) -> Any:
        file = _write(tmp_path / "metric.json", body)
        return deft("preflight", "--workspace", workspace, *FAST, "--metric-plan", file, *extra)

    primary = {"name": "auroc", "operator": ">=", "target": 0.5}
    typo = plan({"primary": primary, "constraints": [{"name": "recal_fraction", "operator": ">", "target": 0.9}]})
    assert typo.code == 3
    assert "recal_fraction" in typo.out + typo.err
    command = {"kind": "argv", "argv": ["no-such-program-here"]}
    assert plan({"primary": primary, "evaluator": command}).code == 4
    assert plan({"primary": primary, "operators": 1}).code == 3
    said = deft("preflight", "--workspace", workspace, "--metric-plan", tmp_path / "absent.json")
    assert said.code == 4


def test_a_changed_evaluator_or_plan_closes_the_gate(workspace: Path, tmp_path: Path) -> None:
    import sys

    script = workspace / "metric.py"
    script.write_text(EVALUATOR)
    body = {
        "primary": {"name": "mean_good", "operator": "<=", "target": 0.5},
        "evaluator": {"kind": "argv", "argv": [sys.executable, "{workspace}/metric.py", "{inference_csv}"]},
    }
    digests = []
    for target in (0.5, 0.25):
        body["primary"]["target"] = target
        file = _write(tmp_path / "metric.json", body)
        said = deft("preflight", "--workspace", workspace, *FAST, "--kpi-target", NEVER, "--metric-plan", file, "--json")
        assert said.code == 0, said.out
        digests.append(said.json["digest"])
    assert digests[0] != digests[1]
    assert deft("approve", digests[1][:12], "--confirm", digests[1][-6:]).code == 0
    script.write_text(EVALUATOR + "# another\n")
    said = deft("init_deft_state", "--plan-digest", digests[1][:12])
    assert said.code == 5
    assert "metric" in said.err
