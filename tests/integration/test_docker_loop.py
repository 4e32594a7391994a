"""The whole tiny loop in containers, by a user who is not root, killed once in the middle; and an image that moves."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.integration

# A learning rate at which nothing is learned: the loop must go on to its first iteration.
ARGUMENTS = [
    "--kpi-target",
    "FAR < 1% at recall=100%",
    "--max-iterations",
    "1",
    "--set",
    "train.optim.lr=1e-5",
    "--yes",
    "--platform",
    "docker",
]


@pytest.fixture
def place(deeppcb_tiny):
    from training_job import Place

    made = Place(deeppcb_tiny)
    made.spec.unlink()
    made.out.rmdir()
    made.jobs.rmdir()
    yield made
    made.remove()


def test_the_loop_runs_in_containers_and_survives_a_killed_driver(docker_engine, place):
    import platform_loop as loop
    from training_job import UID

    docker_engine.image()
    log = place.root / "driver.log"
    arguments = ["--workspace", str(place.workspace), *ARGUMENTS, "--platform-option", f"host={docker_engine.url}"]
    run = loop.kill_in_training(loop.start(arguments, {}, log, uid=UID), place.workspace, log)
    assert len(docker_engine.client().containers.list()) == 1
    loop.finish(loop.start(["--results-dir", str(run)], {}, log, uid=UID), log)
    loop.check_finished(run, place.root)
    assert {p.lstat().st_uid for p in run.rglob("*")} == {UID}
    assert docker_engine.client().containers.list(all=True) == []


def test_an_image_that_moves_after_the_approval_stops_the_run(docker_engine, place):
    import platform_loop as loop
    from training_job import UID

    tag = "deft-aoi-moving:2"
    docker_engine.image(tag)
    log = place.root / "driver.log"
    options = ["--platform-option", f"host={docker_engine.url}", "--platform-option", f"image={tag}"]
    driver = loop.start(["--workspace", str(place.workspace), *ARGUMENTS, *options], {}, log, uid=UID)
    run = loop.kill_in_training(driver, place.workspace, log)
    docker_engine.image(tag, note="rebuilt after the approval")
    loop.finish(loop.start(["--results-dir", str(run)], {}, log, uid=UID), log, expected=3)
    assert "not the approved one" in log.read_text()
    done = [(e["iter"], e["stage"]) for e in loop.events(run) if e["status"] == "ok"]
    assert ("baseline", "train") in done  # the container that ran already was the approved one
    assert ("baseline", "inference") not in done
