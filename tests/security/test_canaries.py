"""Six secrets in the driver's environment: what a job of each platform is described by holds none that it did not ask for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from deft_aoi.platforms import base, local
from deft_aoi.platforms.docker_settings import container_settings
from deft_aoi.platforms.kubernetes_manifest import render as manifests
from deft_aoi.platforms.slurm_script import render as script

from .test_containers_and_supply import _Image, _request

CANARIES = {
    "HF_TOKEN": "hf_Cn4ryHfAbcdefghijklmnopqrst",
    "NGC_API_KEY": "nvapi-Cn4ryNgcApi-abcdefghijklmno",
    "NGC_KEY": "nvapi-Cn4ryNgcKey-abcdefghijklmno",
    "AWS_ACCESS_KEY_ID": "AKIACN4RYABCDEFGHIJK",
    "AWS_SECRET_ACCESS_KEY": "Cn4ryAws/abcdefghijklmnopqrstuvwxyz12345",
    "AWS_SESSION_TOKEN": "Cn4rySession/abcdefghijklmnopqrstuvwxyz12",
}


@pytest.fixture
def secrets(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    for name, value in CANARIES.items():
        monkeypatch.setenv(name, value)
    return CANARIES


def _described(platform: str, folder: Path, asked: tuple[str, ...]) -> str:
    """All that an onlooker can see of a job: what ``docker inspect``, the API server, the script or the record shows."""
    request = _request(folder, secret_names=asked)
    record = json.dumps(request.as_record())
    if platform == "docker":
        pytest.importorskip("docker")
        made = container_settings(request, _Image({}), {}, base.secret_values(request.secret_names))
        return record + json.dumps({k: v for k, v in made.items() if k != "device_requests"})
    if platform == "kubernetes":
        return record + json.dumps(manifests(request, {"claim": "c", "claim_root": str(folder), "secret": "s"}))
    if platform == "slurm":
        return record + script(request, {}, folder)
    return record + json.dumps(local.job_environment(request))


@pytest.mark.parametrize("platform", ["docker", "kubernetes", "slurm", "local"])
@pytest.mark.parametrize("asked", [(), *((name,) for name in CANARIES)], ids=lambda names: "".join(names) or "none")
def test_a_job_shows_no_secret_but_its_own(tmp_path: Path, secrets: dict[str, str], platform: str, asked: tuple) -> None:
    text = _described(platform, tmp_path, asked)
    shown = {name for name, value in secrets.items() if value in text}
    # Docker's container and a local child get the value they ask for; a manifest and a script only ever name it.
    assert shown == (set(asked) if platform in ("docker", "local") else set())
    assert all(name in text for name in asked)
