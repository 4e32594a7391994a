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
        "--workspace", str(w), "--results-dir", str(run), "--output-dir", str(w / "pairs"),
    ],
    "prepare_inference_spec.py": lambda w, digest, run: ["--results-dir", str(run)],
}  # fmt: skip
OUTSIDE_RUNS: set[str] = set()
"""Writes into a new folder outside every run and starts nothing: there is no plan that it could be for."""


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
    (folder / f"{digest}.approval.json").write_text(json.dumps({"digest": digest, "how": "terminal", "words": "go"}))
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
    """What would show that something was started: jobs, stages, events."""
    return [str(p.relative_to(run)) for p in sorted(run.rglob("*")) if p.is_file() and p.name not in ("run.lock", "log.lock")]


def test_every_gated_verb_is_in_the_table():
    assert set(GATED) == set(OPENING) | set(DRIVING) | OUTSIDE_RUNS


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
