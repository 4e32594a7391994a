"""One truth: a run of each of the six verdicts, and every surface that says it, with the exit code.

The runs are one finished run whose last iteration is judged again with scores of our own: real record, real pictures, real
hand-over, no training.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from deft_aoi.analysis import verdict as v
from deft_aoi.contract.errors import KpiNotMet
from deft_aoi.contract.kpi_target import parse_kpi_target
from deft_aoi.contract.paths import RunPaths
from deft_aoi.contract.text import is_pass
from deft_aoi.loop import gate
from deft_aoi.loop.config import RunConfig
from deft_aoi.loop.context import RunContext
from deft_aoi.loop.driver import _record, exit_code
from deft_aoi.loop.infer_command import text as infer_text
from deft_aoi.loop.next_step import Step
from deft_aoi.loop.run_text import describe_next, final_lines
from deft_aoi.loop.stages import evaluate, handoff
from deft_aoi.record.driver_exit import DriverOptions
from deft_aoi.record.log import load_state, read
from deft_aoi.record.status import run_status
from deft_aoi.report.render import render_html
from deft_aoi.report.verdict import HEADLINES

from .conftest import NEVER

LABEL = "iter1"
EASY = "FAR < 60% at recall>=50%"


def scores(frame, alarms: float, missed: float = 0.0) -> np.ndarray:
    """Scores with a share of good parts above every defect, and a share of defects below every good part."""
    good = frame["label"].map(is_pass).to_numpy(bool)
    out = np.where(good, 0.1, 0.8) + np.arange(len(frame)) / 1e5
    for rows, share, score in ((np.flatnonzero(good), alarms, 0.9), (np.flatnonzero(~good), missed, 0.05)):
        out[rows[: round(share * len(rows))]] = score
    return out


@pytest.mark.parametrize(
    ("expected", "target", "alarms", "holdout"),
    [
        (v.NOT_MET, NEVER, 0.1, 0.0),
        (v.CONTRADICTED, EASY, 0.0, 1.0),
        (v.UNSUPPORTED, NEVER, 0.0, 0.0),
        (v.UNCONFIRMED, EASY, 0.0, 0.64),
        (v.KPI_ONLY, EASY, 0.0, None),
        (v.MET, EASY, 0.0, 0.0),
    ],
)
def test_every_surface_says_the_one_verdict(
    finished_copy: Path, monkeypatch: pytest.MonkeyPatch, expected: str, target: str, alarms: float, holdout: float | None
) -> None:
    run = RunPaths(finished_copy)
    log = run.log.read_text(encoding="utf-8").splitlines(keepends=True)
    scored = [json.loads(line) for line in log].index(
        next(e for e in read(run.root) if (e["iter"], e["stage"], e["status"]) == (LABEL, "inference", "ok"))
    )
    run.log.write_text("".join(log[: scored + 1]), encoding="utf-8")
    (run.root / "deft_state.json").unlink()
    if holdout is None:
        run.workspace.holdout_csv.unlink()
    monkeypatch.setattr(RunConfig, "target", parse_kpi_target(target))
    plan, config = gate.load_plan(run)
    said: list[str] = []
    ctx = RunContext(run, run.workspace, plan, config, said.append, said.append)

    def rescored(_ctx, _label, _stage, job, _attempt, _spec, _checkpoint, out: Path, rows) -> None:
        share = alarms if job == "unregistered" else holdout
        out.mkdir(parents=True, exist_ok=True)
        rows.frame.assign(siamese_score=scores(rows.frame, share)).to_csv(out / "inference.csv", index=False)

    monkeypatch.setattr(handoff, "score", rescored)
    frame = ctx.splits["kpi"].frame
    for csv in (run.root / LABEL / "inference").glob("*/inference.csv"):
        frame.assign(siamese_score=scores(frame, alarms)).to_csv(csv, index=False)

    _record(ctx, Step(LABEL, "evaluate", ""), 1, evaluate.evaluate(ctx, LABEL, 1), 1.0)
    for stage, data in (("rca", {}), ("loop_stop", {"reason": "max_iterations"})):
        place = LABEL if stage == "rca" else "run"
        _record(ctx, Step(place, stage, ""), 1, handoff.StageResult(stage, {}, data), 1.0)
    (run.root / f"{LABEL}_summary.md").unlink(missing_ok=True)
    handoff.render(ctx)
    _record(ctx, Step("run", "handoff", ""), 1, handoff.hand_over(ctx, "run", 1), 1.0)
    handoff.render(ctx)

    state, handed = load_state(run.root), json.loads(run.best_model.read_text(encoding="utf-8"))
    assert state["run"]["best_iteration"] == LABEL == handed["iteration"]
    sentence = handed["verdict_sentence"]
    assert sentence.startswith(f"{expected}: ")
    assert state["run"]["verdict_sentence"] == sentence
    model = {k: handed[k] for k in ("iteration", "run", "status", "verdict")}
    infer = infer_text(
        {"model": model, "measured": None, "review": None, "decisions_csv": {"path": "d.csv"}}
        | dict.fromkeys(("flagged", "rows", "threshold", "passed", "unsure"), 1)
    )
    summary = (run.root / f"{LABEL}_summary.md").read_text(encoding="utf-8")
    html = render_html(run.root)
    surfaces = {
        "console": next(line for line in final_lines(run.root, state) if line.startswith("verdict: ")),
        "log": next(e["summary"] for e in reversed(read(run.root)) if e["stage"] == "handoff"),
        "state": f"{state['run']['verdict']}: ",
        "best_model.json": f"{handed['verdict']}: ",
        "summary": next(line for line in summary.splitlines() if line.startswith("**")).replace("**", ""),
        "next_stage": next(line for line in describe_next(str(run.root)).text.splitlines() if LABEL in line) + ": ",
        "run_status": next(line for line in run_status(run.root)[0].splitlines() if f"{LABEL}: " in line) + ": ",
        "infer": infer.replace(" (final", ": (final"),
    }
    for name, text in surfaces.items():
        found = [one for one in v.VERDICTS if f"{one}: " in text]
        assert max(found, key=len) == expected, (name, text)
    assert sentence in surfaces["console"]
    assert re.sub(r"\s+", " ", HEADLINES[expected].format(name="Iteration 1")) in re.sub(r"\s+", " ", html)
    assert f"<title>{expected.replace('&', '&amp;')}: " in html
    assert all(other.format(name="Iteration 1") not in html for key, other in HEADLINES.items() if key != expected)
    wanted = KpiNotMet.exit_code if expected in (v.NOT_MET, v.CONTRADICTED) else 0
    assert exit_code(state, DriverOptions(fail_on_not_met=True)) == wanted
    assert exit_code(state, DriverOptions()) == 0
    lines = state["iterations"][LABEL]["beside_the_verdict"]
    assert [line.split(":")[0] for line in lines] == ["without training", *["sets the threshold"] * 3]
    assert set(lines) <= set(final_lines(run.root, state)), "the last lines say what no model does and which defects decide"
    assert html.count("Test picture of a") == 3, "the defects that set the threshold, with their pictures"
