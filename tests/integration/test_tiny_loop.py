"""The loop on real board crops, small enough for seconds: DeepPCB's tiny workspace, one iteration, verified from its files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.integration

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


def _run(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPTS / f"{script}.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, env=os.environ.copy(), stdin=subprocess.DEVNULL)


def test_loop_on_real_boards_from_baseline_to_hand_over(deeppcb_tiny: Path) -> None:
    done = _run(
        "run_loop",
        "--workspace",
        str(deeppcb_tiny),
        "--kpi-target",
        "FAR < 0.0001% at recall=100%",
        "--set",
        "dataset.classify.batch_size=8",
        "--training-epochs",
        "2",
        "--max-iterations",
        "1",
        "--yes",
    )
    assert done.returncode == 0, done.stdout + done.stderr
    run = next((deeppcb_tiny / "results").glob("run_*"))
    best = json.loads((run / "best_model.json").read_text())
    assert best["engine"] == "embedded"
    assert 0 <= best["far_fraction"] <= 1
    assert best["recall_fraction"] == 1
    assert (run / "DEFT_Loop_Report.html").stat().st_size > 10_000
    verified = _run("verify_run", "--results-dir", str(run))
    assert verified.returncode == 0, verified.stdout
