"""Every side-effecting verb × {no approval, another plan's digest, one input byte changed since} → exit 5, nothing started."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import deft_aoi
from deft_aoi.loop.gate import GATED

SCRIPTS = Path(deft_aoi.__file__).parents[1]
OPENING = {
    "init_deft_state.py": lambda w, digest, run: ["--plan-digest", digest],
    "run_loop.py": lambda w, digest, run: ["--workspace", str(w), "--training-epochs", "1"],
}
DRIVING = {
    "run_loop.py": lambda w, digest, run: ["--results-dir", str(run)],
    "run_stage.py": lambda w, digest, run: ["--results-dir", str(run)],
    "prestage_pregen.py": lambda w, digest, run: ["--workspace", str(w), "--results-dir", str(run)],
    "changenet_data_pair_prepare.py": lambda w, digest, run: [
        "--workspace",
        str(w),
        "--results-dir",
        str(run),
        "--output-dir",
        str(w / "pairs"),
    ],
    "prepare_inference_spec.py": lambda w, digest, run: ["--results-dir", str(run)],
}
READS = "only reads (test_documented_commands.py sees that the workspace stays as it is)"
NEW_FOLDER = "writes into the folder that it is told and touches no run: there is no plan that it could be for"
AFTER_APPROVAL = "adds to a run, whose first event is the approval; starts no job"
UNGATED = {
    "analyze_gaps.py": NEW_FOLDER,
    "analyze_kpi.py": NEW_FOLDER,
    "assemble_training_csv.py": NEW_FOLDER,
    "infer.py": NEW_FOLDER,
    "export_model.py": NEW_FOLDER,
    "register_goldens.py": NEW_FOLDER,
    "knn_mine.py": NEW_FOLDER,
    "route_gaps.py": NEW_FOLDER,
    "make_workspace.py": NEW_FOLDER,
    "make_demo_workspace.py": NEW_FOLDER,
    "import_deeppcb.py": NEW_FOLDER,
    "import_review.py": "a person's judgement: it appends to the pool, which may grow at any time, or to a spot check",
    "check_data.py": READS,
    "compare_runs.py": READS,
    "list_tao_platforms.py": READS,
    "next_stage.py": READS,
    "resolve_versions_key.py": READS,
    "status.py": READS,
    "validate_training_csv.py": READS,
    "verify_run.py": READS,
    "preflight.py": READS,
    "align_token_usage.py": AFTER_APPROVAL,
    "log_stage.py": AFTER_APPROVAL,
    "record_spot_check.py": AFTER_APPROVAL,
    "render_report.py": AFTER_APPROVAL,
    "cancel.py": "ends a job, starts none",
    "approve.py": "a person's: it is the approval",
    "repair_run.py": "a person's",
    "run_agent.py": "starts the scripts above; its model has no tool that approves",
    "replay_transcript.py": "works on copies, with a state folder of their own",
    "setup_env.py": "the skill's own packages",
}
"""Every other script, with why it needs no approval."""


def call(script, state, *arguments):
    env = {**os.environ, "XDG_STATE_HOME": str(state), "XDG_CACHE_HOME": str(state / "cache")}
    return subprocess.run(
        [sys.executable, str(SCRIPTS / script), *arguments], env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    """A small workspace, its plan's digest, and a run that was opened for it; made once, copied for every case."""
    home = tmp_path_factory.mktemp("gate")
    made = call("make_demo_workspace.py", home / "state", "--output", str(home / "w"), "--scale", "small")
    assert made.returncode == 0, made.stderr
    planned = call("preflight.py", home / "state", "--workspace", str(home / "w"), "--training-epochs", "1")
    digest = json.loads((home / "state/deft-aoi/plans/pending.json").read_text())["digest"]
    assert digest in planned.stdout
    return home, digest


@pytest.fixture
def case(opened):
    """The prepared folder, put back as it was after each case (the digest holds the workspace's path)."""
    home, digest = opened
    kept = home.with_name(home.name + "-kept")
    shutil.copytree(home, kept)
    yield home / "w", home / "state", digest
    shutil.rmtree(home)
    kept.rename(home)


def open_run(workspace, state, digest):
    folder = state / "deft-aoi/plans"
    (folder / f"{digest}.approval.json").write_text(
        json.dumps({"digest": digest, "how": "terminal", "words": "go", "ts": "2026-01-01T00:00:00Z"})
    )
    done = call("init_deft_state.py", state, "--plan-digest", digest)
    assert done.returncode == 0, done.stderr
    return next((workspace / "results").iterdir())


def no_approval(workspace, state, digest, run):
    (run / "run/plan.json").unlink()


def another_plan(workspace, state, digest, run):
    plan = json.loads((run / "run/plan.json").read_text())
    plan["config"]["max_iterations"] += 1
    (run / "run/plan.json").write_text(json.dumps(plan))


def one_byte_changed(workspace, state, digest, run):
    spec = workspace / "specs/baseline_spec.yaml"
    spec.write_bytes(spec.read_bytes() + b"\n")


def started(run):
    """What would show that something was started: jobs, stages, events. A refused driver leaves only how it ended."""
    ignored = ("run.lock", "log.lock", "driver.start", "driver.exit")
    return [str(p.relative_to(run)) for p in sorted(run.rglob("*")) if p.is_file() and p.name not in ignored]


def test_every_script_is_in_the_table_or_says_why_not():
    assert set(GATED) == set(OPENING) | set(DRIVING)
    assert {p.name for p in SCRIPTS.glob("*.py")} == set(GATED) | set(UNGATED)
    assert not set(GATED) & set(UNGATED)


@pytest.mark.parametrize("verb", sorted(v for v, why in UNGATED.items() if why == AFTER_APPROVAL))
def test_what_adds_to_a_run_refuses_a_folder_without_an_approval(verb, tmp_path):
    """There is no run without its first event, and these open none."""
    folder = tmp_path / "w/results/run_20260101_120000"
    folder.mkdir(parents=True)
    (tmp_path / "t.jsonl").write_text("{}\n")
    log, given = str(folder / "loop_log.jsonl"), {"--results-dir": str(folder)}
    arguments = {
        "align_token_usage.py": {"--log-path": log, "--transcript": str(tmp_path / "t.jsonl")},
        "log_stage.py": {
            "--log-path": log,
            "--iter-label": "run",
            "--stage": "assets",
            "--status": "ok",
            "--summary": "x",
        },
        "record_spot_check.py": given | {"--iteration": "baseline", "--picture": "1=edge_case"},
        "render_report.py": given,
    }[verb]
    done = call(verb, tmp_path / "state", *(word for pair in arguments.items() for word in pair))
    assert done.returncode in (2, 3, 4, 5), done.stderr
    assert [p for p in folder.rglob("*") if p.is_file() and p.stat().st_size] == []


@pytest.mark.parametrize("verb", OPENING)
@pytest.mark.parametrize("approved", [None, "d" * 64, "changed"])
def test_no_run_opens(case, verb, approved):
    workspace, state, digest = case
    if approved:
        name = digest if approved == "changed" else approved
        record = {"digest": name, "how": "terminal", "words": "go"}
        (state / f"deft-aoi/plans/{name}.approval.json").write_text(json.dumps(record))
    if approved == "changed":
        one_byte_changed(workspace, state, digest, None)
    done = call(verb, state, *OPENING[verb](workspace, digest, None))
    assert done.returncode == 5, done.stderr
    assert not (workspace / "results").exists() or not any((workspace / "results").iterdir())


@pytest.mark.parametrize("verb", DRIVING)
@pytest.mark.parametrize("wrong", [no_approval, another_plan, one_byte_changed])
def test_no_stage_runs(case, verb, wrong):
    if not (SCRIPTS / verb).is_file():
        pytest.skip(f"{verb} is not there yet")
    if wrong is one_byte_changed and verb == "prepare_inference_spec.py":
        pytest.skip("hands over what is trained already: later inputs do not enter it")
    workspace, state, digest = case
    run = open_run(workspace, state, digest)
    wrong(workspace, state, digest, run)
    before, log = started(run), (run / "loop_log.jsonl").read_bytes()
    done = call(verb, state, *DRIVING[verb](workspace, digest, run))
    assert done.returncode == 5, done.stderr + done.stdout
    assert started(run) == before
    assert (run / "loop_log.jsonl").read_bytes() == log
    assert not (workspace / "pairs").exists()
