"""The whole tiny loop as batch jobs, its driver killed once in the first training."""

from __future__ import annotations

import os

import pytest

pytestmark = pytest.mark.integration


@pytest.fixture
def place(deeppcb_tiny):
    from training_job import Place

    made = Place(deeppcb_tiny, uid=os.getuid())
    yield made
    made.remove()


def test_the_loop_runs_as_batch_jobs_and_survives_a_killed_driver(slurm_cluster, place):
    import platform_loop as loop

    log = place.root / "driver.log"
    # A learning rate at which nothing is learned: the loop must go on to its first iteration.
    arguments = [
        "--workspace",
        str(place.workspace),
        "--kpi-target",
        "FAR < 1% at recall=100%",
        "--max-iterations",
        "1",
        "--set",
        "train.optim.lr=1e-5",
        "--yes",
        "--platform",
        "slurm",
    ]
    run = loop.kill_in_training(loop.start(arguments, slurm_cluster.environment, log), place.workspace, log)
    assert len(slurm_cluster.run("squeue", "-h").splitlines()) == 1
    loop.finish(loop.start(["--results-dir", str(run)], slurm_cluster.environment, log), log)
    loop.check_finished(run, place.root)
    assert slurm_cluster.run("squeue", "-h") == ""
