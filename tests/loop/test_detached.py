"""A driver in the background ends as one in front would: its exit code and error are on disk, whoever asks and whenever."""

from __future__ import annotations

import json
import os
import re
import signal
from pathlib import Path

import pytest

from deft_aoi.contract import errors, plans
from deft_aoi.contract.errors import DeftError, HardStop, JobFailed, RunLocked
from deft_aoi.contract.paths import RunPaths
from deft_aoi.loop import cli_driver, driver
from deft_aoi.loop.open_run import open_run
from deft_aoi.loop.run_text import describe_next
from deft_aoi.record import driver_exit, lock, log, status
from deft_aoi.record.driver_exit import DriverOptions
from tests.conftest import wait_until

from .conftest import NEVER, deft, only_run

AGENT = DriverOptions(until_agent=True)
KINDS = [kind for kind in (*DeftError.__subclasses__(), errors.JobLost) if kind is not RunLocked]
TINY = ("--kpi-target", NEVER, "--training-epochs", 1, "--max-iterations", 1)


@pytest.fixture
def opened(workspace: Path) -> Path:
    """An approved run in which nothing has been driven yet."""
    digest = re.search("[0-9a-f]{64}", deft("preflight", "--workspace", workspace, *TINY).out)[0]
    plans.write_approval(digest, "terminal", "go")
    open_run(plans.read_pending(digest))
    return only_run(workspace)


def waited(run: Path, options: DriverOptions = AGENT) -> cli_driver.CommandResult:
    return cli_driver.run_driver(str(run), script="run_loop.py", options=options, wait=0)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_error_of_a_driver_is_returned_to_whoever_waits(
    kind: type[DeftError], opened: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(*_: object) -> None:
        raise kind("the fault", expected="this", found="that", hint="do so")

    monkeypatch.setattr(driver, "run_step", fails)
    with pytest.raises(kind):
        driver.drive(opened, say=print, progress=print, options=AGENT)
    capsys.readouterr()
    with pytest.raises(kind) as again:
        waited(opened)
    assert (again.value.exit_code, again.value.message, again.value.found) == (kind.exit_code, "the fault", "that")
    assert "--until-agent" in capsys.readouterr().out or kind is HardStop
    text, data, _ = describe_next(str(opened))
    assert f"exit {kind.exit_code}: the fault" in text
    assert "try: do so" in text
    assert data["last_driver"]["exit_code"] == kind.exit_code
    assert f"exit {kind.exit_code}: the fault" in status.run_status(opened)[0]


def test_a_bug_and_an_interrupt_are_on_disk_as_well(opened: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for fault, code in ((ZeroDivisionError("x"), 1), (KeyboardInterrupt(), 130)):
        monkeypatch.setattr(driver, "run_step", lambda *_, fault=fault: (_ for _ in ()).throw(fault))
        with pytest.raises(type(fault)):
            driver.drive(opened, say=print, progress=print)
        with pytest.raises(DeftError) as again:
            waited(opened)
        assert again.value.exit_code == code


def test_credentials_in_an_error_do_not_reach_the_disk(opened: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NGC_API_KEY", "swordfish-123")
    fault = JobFailed("the registry refused swordfish-123")
    monkeypatch.setattr(driver, "run_step", lambda *_: (_ for _ in ()).throw(fault))
    with pytest.raises(JobFailed):
        driver.drive(opened, say=print, progress=print)
    assert "swordfish" not in (opened / "run" / "driver.exit").read_text()


def test_while_a_driver_goes_on_the_wait_returns_10_and_a_second_driver_6(opened: Path) -> None:
    with lock.DriverLock(opened):
        result = waited(opened, AGENT)
        assert result.exit_code == 10
        assert "--until-agent" in result.text
        with pytest.raises(RunLocked, match="a driver is running") as second:
            cli_driver.run_driver(str(opened), script=_script(), options=AGENT, detach=True)
        assert "--wait" in second.value.hint
        assert "--until-agent" in second.value.hint


def test_a_closed_gate_is_the_code_of_detach_and_of_wait(opened: Path) -> None:
    table = opened.parents[1] / "kpi" / "testing_set.csv"
    table.write_text("".join(table.read_text().splitlines(True)[:-1]))
    for flags in (("--detach",), ("--wait", 1)):
        said = deft("run_loop", "--results-dir", opened, "--until-agent", *flags)
        assert said.code == 5, said.out + said.err
        assert "try:" in said.err
        assert all("--until-agent" in line for line in said.out.splitlines() if "run_loop" in line)


def test_a_killed_driver_is_told_from_one_that_ended(opened: Path) -> None:
    assert deft("run_loop", "--results-dir", opened, "--until-agent", "--detach").code == 0
    os.kill(driver_exit.last_driver(opened).pid, signal.SIGKILL)
    said = deft("run_loop", "--results-dir", opened, "--wait", 20)
    assert said.code == 7, said.out + said.err
    assert "without an exit code" in said.err
    assert "--until-agent" in said.err
    for script in ("next_stage", "status"):
        assert "killed" in deft(script, "--results-dir", opened).out
    assert deft("cancel", "--results-dir", opened).code == 0


def test_a_run_in_the_background_leads_to_the_review_and_then_to_its_end(workspace: Path) -> None:
    start = deft("run_loop", "--workspace", workspace, *TINY, "--yes", "--until-agent", "--fail-on-not-met", "--detach")
    assert start.code == 0, start.out + start.err
    run = only_run(workspace)
    said = deft("run_loop", "--results-dir", run, "--wait", 280)
    assert said.code == 0, said.out + said.err
    forgotten = deft("next_stage", "--results-dir", run)
    for text in (said.out, forgotten.out):
        assert "review needed" in text
        assert "weak_overview.png" in text
        assert "record_spot_check.py" in text
        assert re.search(r"^  1: .*score", text, re.MULTILINE)
        then = [line for line in text.splitlines() if line.startswith("then:")]
        assert then
        assert all("--until-agent --fail-on-not-met --detach" in line for line in then)
    judged = deft("record_spot_check", "--results-dir", run, "--iteration", "baseline", "--picture", "1=edge_case")
    assert judged.code == 0, judged.err
    assert not re.search(r"^  1: .*score", deft("next_stage", "--results-dir", run).out, re.MULTILINE)
    end = deft("run_loop", "--results-dir", run, "--until-agent", "--fail-on-not-met", "--detach", "--wait", 280)
    assert end.code == 8, end.out + end.err
    assert "weak_overview" not in end.out
    assert "reporter" in end.out
    assert deft("run_loop", "--results-dir", run, "--wait", 1).code == 8
    assert "reporter" in deft("next_stage", "--results-dir", run).out
    second = deft("run_loop", "--workspace", workspace, *TINY, "--until-agent")
    assert second.code == 5, second.out + second.err
    assert only_run(workspace) == run


def test_an_approval_is_consumed_by_the_run_that_it_opened(opened: Path) -> None:
    digest = json.loads((opened / "run" / "plan.json").read_text())["digest"]
    assert plans.read_approval(digest) is None
    plan = plans.read_pending(digest)
    with pytest.raises(RunLocked, match="unfinished run of this plan") as refused:
        open_run(plan)
    assert f"--results-dir {opened}" in refused.value.hint
    plans.write_approval(digest, "terminal", "go")
    with pytest.raises(RunLocked):
        open_run(plan)


def test_an_opening_that_was_killed_opens_the_same_run(workspace: Path) -> None:
    digest = re.search("[0-9a-f]{64}", deft("preflight", "--workspace", workspace, *TINY).out)[0]
    plans.write_approval(digest, "terminal", "go")
    named = workspace / "results" / "run_20260101_000000"
    plans.consume_approval(plans.read_approval(digest), str(named), opened=False)
    assert open_run(plans.read_pending(digest)).root == named
    assert plans.read_approval(digest) is None


def test_a_run_that_a_hard_stop_ended_does_not_lock_out_the_next_night(opened: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stops(*_: object) -> None:
        raise HardStop("a gate fired")

    monkeypatch.setattr(driver.stages, "stage_functions", lambda: dict.fromkeys(("assets", "report", "handoff"), stops))
    with pytest.raises(HardStop):
        driver.drive(opened, say=print, progress=print)
    digest = json.loads((opened / "run" / "plan.json").read_text())["digest"]
    plans.write_approval(digest, "yes-flag", "--yes")
    assert open_run(plans.read_pending(digest)).root != opened


def test_one_driver_a_workspace(opened: Path) -> None:
    with lock.DriverLock(opened):
        said = deft("run_loop", "--workspace", opened.parents[1], "--kpi-target", "FAR < 9% at recall=100%", "--yes")
    assert said.code == 6, said.out + said.err
    assert "--wait" in said.err
    assert only_run(opened.parents[1]) == opened


def _script() -> str:
    return str(Path(cli_driver.__file__).resolve().parents[2] / "run_loop.py")


def test_an_unreadable_end_counts_as_none(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    assert driver_exit.last_driver(tmp_path) is None
    (tmp_path / "run" / "driver.start").write_text("[")
    (tmp_path / "run" / "driver.exit").write_text('{"exit_code": "0"}')
    last = driver_exit.last_driver(tmp_path)
    assert last is not None
    assert last.exit_code is None
    assert driver_exit.killed(RunPaths(tmp_path).root, last)


def test_a_canceled_run_is_no_failure_goes_on_and_is_ended_with_its_best_model(opened: Path) -> None:
    assert deft("run_loop", "--results-dir", opened, "--until-agent", "--detach").code == 0
    wait_until("the job is launched", lambda: list((opened / "run" / "jobs").glob("*.run.json")))
    said = deft("cancel", "--results-dir", opened)
    assert said.code == 0, said.out + said.err
    assert "--until-agent" in said.out
    waiting = deft("run_loop", "--results-dir", opened, "--wait", 1)
    assert waiting.code == 9, waiting.out + waiting.err
    assert "canceled" in waiting.err
    assert "by the user" in waiting.err
    last = log.read(opened)[-1]
    assert (last["data"]["kind"], last["data"]["exit_code"]) == ("canceled", 9)
    assert "TAO" not in last["summary"] + waiting.err
    assert "exit 9: " in deft("next_stage", "--results-dir", opened).out

    while "evaluate" not in log.load_state(opened)["iterations"].get("baseline", {}).get("stages", {}):
        driver.drive(opened, say=print, progress=print, limit=1)
    end = deft("cancel", "--results-dir", opened, "--end")
    assert end.code == 0, end.out + end.err
    for line in (
        r"why: +ended by the user",
        r"verdict: NOT MET: .* this supports ",
        r"wrong: +\d+ defects?, \d+ false",
        r"to do: ",
    ):
        assert re.search(f"^{line}", end.out, re.MULTILINE), end.out
        assert re.search(f"^{line}", deft("next_stage", "--results-dir", opened).out, re.MULTILINE)
    state = log.load_state(opened)
    assert state["status"] == "user_stop"
    assert state["run"]["stages"].keys() >= {"loop_stop", "handoff", "report"}
    best = json.loads((opened / "best_model.json").read_text())
    assert (best["iteration"], best["status"]) == ("baseline", "best so far: stopped by the user")
    assert deft("cancel", "--results-dir", opened, "--end").code == 0
    assert log.load_state(opened)["seq"] == state["seq"]


@pytest.mark.parametrize("name", ["JobFailed", "Unheard"])
def test_a_kept_error_is_restored_with_its_four_parts_whatever_its_class_takes(name):
    from deft_aoi.loop.cli_driver import restored

    kept = {"error": name, "message": "train failed", "expected": "a", "found": "b", "try": "c", "label": "job failed"}
    error = restored(7, kept)
    assert (error.exit_code, error.message, error.expected, error.found, error.hint) == (7, "train failed", "a", "b", "c")
