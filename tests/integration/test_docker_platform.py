"""The Docker platform on a real Docker Engine, with a real training in each container."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest

from deft_aoi.contract.errors import Blocked, HardStop
from deft_aoi.engines import container_images, success
from deft_aoi.platforms import base, docker_images
from deft_aoi.platforms.base import JobState
from deft_aoi.platforms.job_files import log_tail

pytestmark = pytest.mark.integration

CANARY = "hf_canary0123456789abcdefXYZ"
SECRET_NAMES = ("HF_TOKEN", "NGC_API_KEY", "NGC_KEY", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")


@pytest.fixture
def place(deeppcb_tiny):
    from training_job import Place

    made = Place(deeppcb_tiny)
    yield made
    made.remove()


@pytest.fixture
def docker(docker_engine):
    """The platform as a non-root user's container settings, on our engine; containers of the test are removed."""
    yield base.get_platform("docker", {"host": docker_engine.url, "user": "1234:1234"})
    for container in docker_engine.client().containers.list(all=True):
        container.remove(force=True)


def submit(docker, place, name, image_id, argv=None, **more):
    from training_job import as_request

    reference = more.pop("image", "deft-aoi-embedded:0.1.0")
    request = as_request(place.request(name, argv, image=reference, image_digest=image_id, **more))
    docker.submit(request, place.jobs)
    return request


def test_a_non_root_driver_is_killed_mid_training_and_the_next_one_finds_the_container(docker_engine, place):
    from training_job import UID, driver, last_status

    image_id = docker_engine.image()
    request = place.request("deft-k1-baseline-train", image="deft-aoi-embedded:0.1.0", image_digest=image_id)
    options = {"host": docker_engine.url}
    first = driver("docker", options, request, place.jobs)
    assert first.stdout.readline() == "submitted\n", first.stdout.read()
    while not (place.out / "train.log").exists() and first.poll() is None:
        time.sleep(0.05)
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    container = docker_engine.client().containers.get(request["name"])
    assert container.status == "running"
    created = container.id

    second = driver("docker", options, request, place.jobs)
    third = driver("docker", options, request, place.jobs)  # and one more at the same time
    (state, exit_code, _detail, started), other = last_status(second), last_status(third)
    assert (state, exit_code) == ("COMPLETE", 0)
    assert other[:2] == ["COMPLETE", 0]
    evidence = success.check("train", place.out, exit_code=exit_code, log_path=place.out / "train.log", launched_ns=started)
    assert len(evidence.outputs) == 2
    messages = [line["message"] for line in success.read_status(place.out / "status.json")]
    assert messages.count("Starting Visual ChangeNet train.") == 1
    assert place.owners() == {UID}
    assert (place.out / "train.log").stat().st_size > 0
    assert not [c for c in docker_engine.client().containers.list(all=True) if c.id == created]


def test_a_second_driver_leaves_the_log_alone_until_the_job_is_settled(docker, docker_engine, place):
    request = submit(docker, place, "deft-k1-two-drivers", docker_engine.image(), ("sh", "-c", "sleep 3; echo all of it"))
    name, second = request.name, base.get_platform("docker", {"host": docker_engine.url})
    assert docker.status(name, place.jobs).state is JobState.RUNNING
    docker._followers[name].join()  # the log is whole; the container has ended and is not yet removed
    assert second.status(name, place.jobs).state is JobState.RUNNING
    assert base.wait(docker, name, place.jobs, timeout_sec=30).state is JobState.COMPLETE
    assert second.status(name, place.jobs).state is JobState.COMPLETE
    assert Path(request.log_path).read_text() == "all of it\n"


def test_the_container_gets_what_it_needs_and_nothing_else(docker, docker_engine, place):
    probe = (
        "import json, os, socket\n"
        "def writable(path):\n"
        "    try: open(path, 'w').close(); return True\n"
        "    except OSError: return False\n"
        "status = dict(l.split(':\\t', 1) for l in open('/proc/self/status').read().splitlines() if ':\\t' in l)\n"
        f"out = {{'uid': os.getuid(), 'home': os.environ['HOME'], 'user': os.environ['USER'], 'cwd': os.getcwd(),\n"
        f"  'inputs': writable('{place.workspace}/kpi/x'), 'own': writable('{place.out}/x'), 'root': writable('/x'),\n"
        f"  'tmp': writable('/tmp/x'), 'caps': status['CapEff'].strip(), 'nnp': status['NoNewPrivs'].strip(),\n"
        f"  'shm': os.statvfs('/dev/shm').f_blocks * os.statvfs('/dev/shm').f_frsize,\n"
        "  'nets': sorted(n for _, n in socket.if_nameindex())}\n"
        "json.dump(out, open('seen.json', 'w'))\n"
    )
    request = submit(docker, place, "deft-k1-probe", docker_engine.image(), ("python3", "-c", probe))
    status = base.wait(docker, request.name, place.jobs, timeout_sec=60)
    assert status.state is JobState.COMPLETE, log_tail(request.log_path)
    seen = json.loads((place.out / "seen.json").read_text())
    assert seen == {
        "uid": 1234,
        "home": "/tmp",
        "user": "deft",
        "cwd": str(place.out),
        "inputs": False,
        "own": True,
        "root": False,
        "tmp": True,
        "caps": "0000000000000000",
        "nnp": "1",
        "shm": 8 << 30,
        "nets": ["lo"],
    }


def test_a_canary_in_the_environment_appears_nowhere(docker, docker_engine, place, monkeypatch):
    canaries = {name: f"{CANARY}{name}" for name in SECRET_NAMES}
    for name, value in canaries.items():
        monkeypatch.setenv(name, value)
    code = f"import os, sys; print(sorted(os.environ)); sys.exit(bool(set({SECRET_NAMES}) & set(os.environ)))"
    request = submit(docker, place, "deft-k1-canary", docker_engine.image(), ("python3", "-c", code))
    described = json.dumps(docker_engine.client().api.inspect_container(request.name))
    status = base.wait(docker, request.name, place.jobs, timeout_sec=60)
    assert status.state is JobState.COMPLETE
    assert CANARY not in described
    assert not _holding(place.root, CANARY)


def test_a_secret_that_a_job_asks_for_reaches_it_and_no_file(docker, docker_engine, place, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", CANARY)
    code = "import os; t = os.environ['HF_TOKEN']; print('got', len(t), t); print('again ' + t)"
    request = submit(docker, place, "deft-k1-secret", docker_engine.image(), ("python3", "-c", code), secret_names=("HF_TOKEN",))
    assert base.wait(docker, request.name, place.jobs, timeout_sec=60).state is JobState.COMPLETE
    text = log_tail(request.log_path)
    assert f"got {len(CANARY)} [redacted]" in text
    assert not _holding(place.root, CANARY)


def _holding(root: Path, text: str) -> list[Path]:
    return [p for p in root.rglob("*") if p.is_file() and text.encode() in p.read_bytes()]


def test_an_image_that_changed_since_approval_is_a_hard_stop_and_starts_nothing(docker, docker_engine, place):
    approved = docker_engine.image("deft-aoi-moving:1")
    changed = docker_engine.image("deft-aoi-moving:1", note="rebuilt since")
    assert approved != changed
    with pytest.raises(HardStop, match="not the approved one"):
        submit(docker, place, "deft-k1-moved", approved, image="deft-aoi-moving:1")
    assert docker_engine.client().containers.list(all=True) == []
    assert list(place.jobs.glob("*.json")) == []
    submit(docker, place, "deft-k1-moved", changed, ("true",), image="deft-aoi-moving:1")
    assert base.wait(docker, "deft-k1-moved", place.jobs, timeout_sec=60).state is JobState.COMPLETE


def test_pre_flight_sees_the_image_and_pins_its_id(docker_engine):
    image_id = docker_engine.image()
    engine = {"host": docker_engine.url}
    found = docker_images.look_up(container_images.resolve_for("docker", "embedded", engine), engine)
    assert {tool: entry["id"] for tool, entry in found.items()} == {"visual_changenet": image_id, "embedding": image_id}
    assert docker_images.ensure_present(found, engine) == ([], {"deft-aoi-embedded:0.1.0": image_id})
    absent = docker_images.look_up(container_images.resolve_for("docker", "embedded", {"image": "no-such-image:1"}), engine)
    assert absent["embedding"]["id"] is None
    with pytest.raises(Blocked, match="not here"):
        docker_images.ensure_present(absent, engine)


def test_cancel_stops_the_container_and_keeps_its_log(docker, docker_engine, place):
    code = "import time; print('up', flush=True); time.sleep(100)"
    request = submit(docker, place, "deft-k1-cancel", docker_engine.image(), ("python3", "-c", code))
    end = time.monotonic() + 30
    while docker.status(request.name, place.jobs) and "up" not in log_tail(request.log_path):
        assert time.monotonic() < end
        time.sleep(0.1)
    docker.cancel(request.name, place.jobs)
    assert docker.status(request.name, place.jobs).state is JobState.CANCELED
    assert docker_engine.client().containers.list(all=True) == []


def test_the_exit_code_and_the_time_limit_are_reported(docker, docker_engine, place):
    image = docker_engine.image()
    submit(docker, place, "deft-k1-seven", image, ("python3", "-c", "raise SystemExit(7)"))
    submit(docker, place, "deft-k1-long", image, ("sleep", "100"), time_limit_sec=1)
    seven = base.wait(docker, "deft-k1-seven", place.jobs, timeout_sec=60)
    long = base.wait(docker, "deft-k1-long", place.jobs, timeout_sec=60)
    assert (seven.state, seven.exit_code) == (JobState.ERROR, 7)
    assert (long.state, long.detail) == (JobState.ERROR, "time limit")


def test_a_container_that_was_created_and_never_started_is_started_on_resume(docker, docker_engine, place):
    from training_job import as_request

    request = as_request(
        place.request(
            "deft-k1-created",
            ("python3", "-c", "open('ran', 'a').write('x')"),
            image="deft-aoi-embedded:0.1.0",
            image_digest=docker_engine.image(),
        )
    )
    image = docker._pinned_image(request)
    base.write_record(request, place.jobs, "docker", image_id=image.id)
    docker._create(request, image, {})  # killed between create and start
    assert docker.status(request.name, place.jobs).state is JobState.PENDING
    docker.submit(request, place.jobs)
    assert base.wait(docker, request.name, place.jobs, timeout_sec=60).state is JobState.COMPLETE
    docker.submit(request, place.jobs)
    assert (place.out / "ran").read_text() == "x"


def test_a_foreign_container_of_the_same_name_is_never_touched(docker, docker_engine, place):
    image = docker_engine.image()
    docker_engine.client().containers.create(image, ["sleep", "1"], name="deft-k1-foreign", network_mode="none")
    with pytest.raises(HardStop, match="another program made"):
        submit(docker, place, "deft-k1-foreign", image, ("true",))
    assert docker_engine.client().containers.get("deft-k1-foreign").status == "created"


def test_a_gpu_where_there_is_none_is_blocked_with_a_remedy(docker, docker_engine, place):
    with pytest.raises(Blocked) as caught:
        submit(docker, place, "deft-k1-gpu", docker_engine.image(), ("true",), gpus=("0",))
    assert "NVIDIA" in caught.value.hint


def test_an_engine_that_is_gone_is_unknown_and_not_an_error(place, tmp_path):
    gone = base.get_platform("docker", {"host": f"unix://{tmp_path}/none.sock"})
    from training_job import as_request

    request = as_request(place.request("deft-k1-gone", image="x:1"))
    base.write_record(request, place.jobs, "docker")
    assert gone.status(request.name, place.jobs).state is JobState.UNKNOWN
    assert [f.level for f in base.probe("docker", {"host": f"unix://{tmp_path}/none.sock"})] == ["missing"]


def test_the_probe_describes_a_running_engine(docker_engine):
    found = base.probe("docker", {"host": docker_engine.url})
    assert found[0].level == "ok"
    assert "Docker Engine" in found[0].text
