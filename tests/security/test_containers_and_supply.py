"""What a container gets, whatever is asked for; what is installed, and by which hash."""
# ruff: noqa: E501 - tables of attacks and commands are read line by line

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deft_aoi.contract.errors import DeftError
from deft_aoi.contract.files import read_json
from deft_aoi.mining.tables import read_embedded
from deft_aoi.platforms.base import JobRequest
from deft_aoi.platforms.docker_settings import container_settings
from deft_aoi.platforms.kubernetes_manifest import render

REPO = Path(__file__).resolve().parents[2]
DENIED = (
    "privileged",
    "ipc_mode",
    "pid_mode",
    "userns_mode",
    "uts_mode",
    "cap_add",
    "devices",
    "device_cgroup_rules",
    "volumes",
    "volumes_from",
    "cgroup_parent",
    "links",
    "ports",
    "publish_all_ports",
    "group_add",
    "sysctls",
    "extra_hosts",
)


class _Image:
    """What the engine says about an image, for the one label that is read."""

    def __init__(self, labels: dict[str, str]) -> None:
        self.attrs = {"Config": {"Labels": labels}}


def _request(folder: Path, **more) -> JobRequest:
    values = {
        "name": "deft-r1-iter1-train",
        "argv": ("visual_changenet", "train", "-e", f"{folder}/spec.yaml"),
        "cwd": str(folder / "out"),
        "log_path": str(folder / "out" / "train.log"),
        "image": "nvcr.io/x@sha256:" + "0" * 64,
        "read_only": (folder,),
        "writable": (folder / "out",),
        "gpus": 0,
    }
    (folder / "out").mkdir(exist_ok=True)
    return JobRequest(**{**values, **more})


REQUESTS = st.fixed_dictionaries(
    {
        "gpus": st.just(0) | st.lists(st.sampled_from(["0", "1", "GPU-1"]), min_size=1, unique=True).map(tuple),
        "shm_gib": st.integers(1, 64),
        "network": st.booleans(),
        "env": st.dictionaries(
            st.sampled_from(["OMP_NUM_THREADS", "A"]), st.text(st.characters(codec="ascii", exclude_characters="\0"), max_size=20)
        ),
        "argv": st.lists(
            st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=20), min_size=1, max_size=5
        ).map(tuple),
    }
)


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(asked=REQUESTS, labelled=st.booleans(), secret=st.booleans())
def test_no_request_gives_a_container_more_than_it_may_have(tmp_path: Path, asked: dict, labelled: bool, secret: bool) -> None:
    pytest.importorskip("docker")
    request = _request(tmp_path, **asked)
    secrets = {"HF_TOKEN": "hf_Cn4ry"} if secret else {}
    made = container_settings(request, _Image({"org.deft-aoi.engine": "1"} if labelled else {}), {}, secrets)
    assert not set(DENIED) & made.keys()
    assert made["command"] == list(request.argv)
    assert made["entrypoint"] == ""
    assert made["cap_drop"] == ["ALL"]
    assert made["security_opt"] == ["no-new-privileges"]
    assert made["network_mode"] == ("bridge" if request.network else "none")
    assert made["pids_limit"] > 0
    assert not made["auto_remove"]
    for mount in made["mounts"]:
        assert mount["Source"] == mount["Target"]
        assert Path(mount["Source"]).is_relative_to(tmp_path)
        assert mount["ReadOnly"] == (mount["Source"] != str(tmp_path / "out"))
    visible = json.dumps([made["command"], made["labels"], made["name"], made["working_dir"]])
    assert "hf_Cn4ry" not in visible
    (manifest,) = render(request, {"claim": "c", "claim_root": str(tmp_path), "secret": "s"})
    text = json.dumps(manifest)
    for word in ('"privileged": true', "hostNetwork", "hostPID", "hostIPC", "hostPath", "docker.sock", '"add"'):
        assert word not in text
    assert manifest["spec"]["template"]["spec"]["automountServiceAccountToken"] is False


def test_a_training_container_is_exactly_this(tmp_path: Path) -> None:
    pytest.importorskip("docker")
    made = container_settings(_request(tmp_path, gpus=("0",)), _Image({}), {"user": "1000:1000"}, {})
    assert sorted(made) == [
        "auto_remove",
        "cap_drop",
        "command",
        "device_requests",
        "entrypoint",
        "environment",
        "labels",
        "log_config",
        "mounts",
        "name",
        "network_mode",
        "pids_limit",
        "read_only",
        "security_opt",
        "shm_size",
        "stdin_open",
        "tmpfs",
        "tty",
        "ulimits",
        "user",
        "working_dir",
    ]
    assert made["user"] == "1000:1000"
    assert made["environment"] == {"HOME": "/tmp", "USER": "deft", "LOGNAME": "deft"}
    assert made["command"] == ["visual_changenet", "train", "-e", f"{tmp_path}/spec.yaml"]
    assert made["device_requests"][0]["DeviceIDs"] == ["0"]


@pytest.mark.parametrize("lock", ["requirements.lock", "requirements-dev.lock"])
def test_every_dependency_is_pinned_with_hashes_and_pytorch_is_a_step_of_its_own(lock: str) -> None:
    text = (REPO / lock).read_text(encoding="utf-8")
    entries = [e for e in re.split(r"\n(?=[A-Za-z0-9])", "\n" + text) if re.match(r"[A-Za-z0-9]", e)]
    assert len(entries) > 15
    for entry in entries:
        assert re.match(r"[A-Za-z0-9._-]+(\[[a-z,]+\])?==\S+", entry), entry[:60]
        assert "--hash=sha256:" in entry, entry[:60]
    assert not re.search(r"^torch==", text, re.M)
    makefile = (REPO / "Makefile").read_text(encoding="utf-8")
    assert f"--require-hashes -r {lock}" in makefile


SEED_ROWS = {
    "filepath": ["a.png", "b.png"],
    "label": ["PASS", "bridge"],
    "embedding": [np.ones(4, dtype=np.float32), np.zeros(4, dtype=np.float32)],
}


@settings(max_examples=120, deadline=2000, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(data=st.data())
def test_changed_parquet_gives_a_typed_error_or_a_table(tmp_path: Path, data: st.DataObject) -> None:
    path = tmp_path / "t.parquet"
    pq.write_table(
        pa.table(
            {
                "filepath": SEED_ROWS["filepath"],
                "label": SEED_ROWS["label"],
                "embedding": pa.array([list(map(float, e)) for e in SEED_ROWS["embedding"]], pa.list_(pa.float32())),
            }
        ),
        path,
    )
    body = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(body) - 1))
        body[at] = data.draw(st.integers(0, 255))
    path.write_bytes(bytes(body[: data.draw(st.integers(len(body) // 2, len(body)))] if data.draw(st.booleans()) else body))
    said = None
    try:
        read_embedded(path, "pool")
    except DeftError as error:
        said = error
    assert said is None or (said.exit_code in (3, 4) and all(len(line) < 500 for line in said.render().split("\n")))


@settings(max_examples=120, deadline=2000, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=st.binary(max_size=200) | st.integers(1, 100_000).map(lambda n: b"[" * n))
def test_any_bytes_as_json_give_a_typed_error_or_a_value(tmp_path: Path, body: bytes) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(body)
    said = None
    try:
        read_json(path, what="plan")
    except DeftError as error:
        said = error
    assert said is None or said.exit_code == 3
