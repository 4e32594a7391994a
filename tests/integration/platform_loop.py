"""The whole loop on a platform, driven by `run_loop.py` as its own process, and what must hold when it has ended."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

from training_job import python_for

from deft_aoi.engines import success

REPO = Path(__file__).resolve().parents[2]
CANARY = "hf_canary0123456789abcdefXYZ"


def start(arguments: list[str], environment: dict[str, str], log: Path, *, uid: int | None = None) -> subprocess.Popen:
    """Start a driver; its output goes to ``log``."""
    python = python_for(uid)
    state = log.parent / "state"
    state.mkdir(exist_ok=True)
    if uid:
        os.chown(state, uid, uid)
    clean = {
        "PATH": os.environ["PATH"],
        "HOME": str(state),
        "PYTHONPATH": str(REPO / "scripts"),
        "PYTHONDONTWRITEBYTECODE": "1",
        "HF_TOKEN": CANARY,
        "OMP_NUM_THREADS": "1",
        **environment,
    }
    who = {"user": uid, "group": uid, "extra_groups": []} if uid else {}
    with log.open("ab") as out:
        return subprocess.Popen(
            [python, str(REPO / "scripts" / "run_loop.py"), *arguments],
            env=clean,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            cwd=state,
            **who,
        )


def kill_in_training(driver: subprocess.Popen, workspace: Path, log: Path) -> Path:
    """Wait for the baseline's first epoch, kill the driver, and return the run's folder."""
    end = time.monotonic() + 180
    while time.monotonic() < end and driver.poll() is None:
        for status in workspace.glob("results/run_*/baseline/train.tmp-*/**/status.json"):
            if any(line["message"] == "Training loop in progress" for line in success.read_status(status)):
                os.killpg(driver.pid, signal.SIGKILL)
                driver.wait()
                return next(workspace.glob("results/run_*"))
        time.sleep(0.05)
    raise AssertionError(log.read_text()[-2000:])


def finish(driver: subprocess.Popen, log: Path, *, expected: int = 0) -> None:
    """Wait for the driver's end."""
    try:
        code = driver.wait(timeout=900)
    except subprocess.TimeoutExpired:
        os.killpg(driver.pid, signal.SIGKILL)
        raise
    assert code == expected, log.read_text()[-3000:]


def events(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "loop_log.jsonl").read_text().splitlines()]


def check_finished(run: Path, root: Path) -> None:
    """Every stage is there once, every training ran once, and the secret is nowhere below ``root``."""
    done = [(e["iter"], e["stage"]) for e in events(run) if e["status"] == "ok"]
    assert len(done) == len(set(done))
    for stage in ("train", "inference", "evaluate", "rca"):
        assert ("baseline", stage) in done
        assert ("iter1", stage) in done
    assert ("run", "handoff") in done
    for label in ("baseline", "iter1"):
        messages = [line["message"] for line in success.read_status(run / label / "train" / "status.json")]
        assert messages.count("Starting Visual ChangeNet train.") == 1
        assert messages[-1] == "Train finished successfully."
        assert (run / label / "train" / "train.log").stat().st_size > 0
    assert json.loads((run / "best_model.json").read_text())
    assert not [p for p in root.rglob("*") if p.is_file() and not p.is_symlink() and CANARY.encode() in p.read_bytes()]
