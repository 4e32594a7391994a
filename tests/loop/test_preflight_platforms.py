"""The pre-flight and where jobs run: credentials, engines, images, clusters, and TAO's Python."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from deft_aoi.contract.errors import UsageError
from deft_aoi.contract.paths import Workspace
from deft_aoi.loop.preflight import run_checks

from .looks import RADIO, TWO_GPUS, edit, gpus, look, only, tao, tao_spec

pytestmark = pytest.mark.usefixtures("bare_machine")


def test_credentials_are_asked_for_only_where_something_must_be_fetched(workspace, tmp_path):
    tao_spec(workspace)
    gpus(tmp_path, TWO_GPUS)
    assert only(tao(workspace, tmp_path)[0], 3, "no credential").level == "ok"
    edit(workspace, model__backbone={"type": RADIO, "pretrained_backbone_path": "augmentation/backbone/r.safetensors"})
    found = only(tao(workspace, tmp_path)[0], 3, "not set")
    assert found.level == "warn"
    assert "HF_TOKEN" in found.text
    assert "NGC" not in found.text
    (workspace / ".env").write_text("HF_TOKEN=hf_x\n")
    assert only(tao(workspace, tmp_path)[0], 3, "no credential").level == "ok"
    found = only(look(workspace, engine="tao", platform="docker", encoder="pixels")[0], 3, "not set")
    assert "NGC_API_KEY or NGC_KEY" in found.text
    assert "HF_TOKEN" not in found.text
    findings, _code = look(workspace, engine="tao", platform="docker", encoder="pixels", air_gapped=True)
    assert only(findings, 3, "no credential").level == "ok"


def test_an_engine_that_does_not_answer_is_missing(workspace):
    findings, code = look(workspace, platform="docker")
    found = [f for f in findings if f.check == 4]
    assert [f.level for f in found] == ["missing"]
    assert code == 4
    assert found[0].fix


@pytest.mark.parametrize(
    ("engine", "info", "level"),
    [
        ("tao", {}, "missing"),
        ("embedded", {}, "warn"),
        ("tao", {"CDISpecDirs": ["/etc/cdi"]}, "missing"),
        ("tao", {"Runtimes": {"nvidia": {}}}, "ok"),
        ("tao", {"DiscoveredDevices": [{"ID": "nvidia.com/gpu=0"}]}, "ok"),
    ],
)
def test_the_container_toolkit_is_checked_for_docker(workspace, tmp_path, monkeypatch, engine, info, level):
    from deft_aoi.platforms import docker_engine

    monkeypatch.setattr(docker_engine, "connect", lambda _options: SimpleNamespace(info=lambda: {"ServerVersion": "27", **info}))
    gpus(tmp_path, TWO_GPUS)
    tao_spec(workspace)
    findings, _code = look(workspace, engine=engine, platform="docker", encoder="pixels")
    found = [f for f in findings if f.check == 4][-1]
    assert found.level == level
    if level != "ok":
        assert "install the NVIDIA Container Toolkit" in found.fix


def test_a_remote_platform_says_how_it_sees_the_workspace(workspace):
    findings, code = look(
        workspace,
        platform="kubernetes",
        engine="embedded",
        platform_options={"kubeconfig": str(workspace / "none"), "claim": "c", "claim_root": "/elsewhere"},
    )
    assert code == 4
    missing = [f for f in findings if f.check == 4 and f.level == "missing"]
    assert len(missing) == 2, missing  # the cluster, and the workspace beside the claim
    assert "move it onto the claim" in missing[-1].fix


def test_a_cluster_without_pyxis_cannot_run_tao_s_image(workspace, tmp_path):
    tao_spec(workspace)
    for name, answer in (("sinfo", "slurm 24.05"), ("srun", "Usage: srun [OPTIONS...]")):
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\necho '{answer}'\n")
        (tmp_path / "bin" / name).chmod(0o755)
    findings, code = look(workspace, engine="tao", platform="slurm", encoder="pixels")
    found = only(findings, 4, "Pyxis is not installed")
    assert (found.level, code) == ("missing", 4)
    assert "tao_python" in found.fix


@pytest.mark.parametrize(
    ("folder", "given", "text"),
    [
        ("a#b", {}, "TAO's launcher cannot take"),
        ("a%b", {"platform": "slurm"}, "#SBATCH line cannot carry"),
        ("ws2", {"platform": "slurm", "platform_options": {"partition": "a b"}}, "option partition is malformed"),
        (
            "ws2",
            {"platform": "kubernetes", "platform_options": {"claim": "c", "claim_root": "/else", "image": "r.io/x:1"}},
            "outside the volume claim",
        ),
        ("ws2", {"platform": "kubernetes", "platform_options": {"image": "r.io/x:1"}}, "needs the volume claim"),
    ],
)
def test_what_a_platform_could_not_be_told_is_said_before_the_gate(workspace, folder, given, text):
    moved = workspace.rename(workspace.with_name(folder))
    found = only(look(moved, **given)[0], 7, text)
    assert found.level in ("stop", "missing")
    assert found.fix


def test_a_linked_workspace_is_its_real_folder(workspace, tmp_path):
    (tmp_path / "link").symlink_to(workspace)
    plan, _findings, _error = run_checks(Workspace.at(tmp_path / "link"), {"training_epochs": 2, "max_iterations": 1})
    assert plan is not None
    assert plan["workspace"] == str(workspace.resolve())


@pytest.mark.parametrize("name", ["brev", "lepton"])
def test_brev_and_lepton_are_named_as_not_supported(workspace, name):
    with pytest.raises(UsageError) as caught:
        look(workspace, platform=name)
    assert "not supported" in caught.value.hint


def test_an_image_is_to_be_pulled_or_built_or_loaded(workspace, tmp_path):
    found = only(look(workspace, platform="docker")[0], 6, "no registry has it")
    assert found.level == "missing"
    assert "docker build -t deft-aoi-embedded" in found.fix
    tao_spec(workspace)
    gpus(tmp_path, TWO_GPUS)
    given = {"engine": "tao", "platform": "docker", "encoder": "pixels"}
    assert {f.level for f in look(workspace, **given)[0] if f.check == 6} == {"warn"}
    found = only(look(workspace, **given, air_gapped=True)[0], 6, "air-gapped")
    assert found.level == "missing"
    assert "docker load" in found.fix
    found = only(look(workspace, **given, platform_options={"image": "nvcr.io/nvidia/tao"})[0], 6, "image reference is malformed")
    assert found.level == "stop"


def test_a_python_without_tao_is_missing_and_another_release_is_said(workspace, tmp_path):
    import sys

    tao_spec(workspace)
    gpus(tmp_path, TWO_GPUS)
    found = only(tao(workspace, tmp_path, platform_options={"tao_python": sys.executable})[0], 6, "has no TAO")
    assert found.level == "missing"
    assert "pip install nvidia-tao-pytorch" in found.fix
    found = only(tao(workspace, tmp_path, platform_options={})[0], 6, "visual_changenet is not here")
    assert "--tao-python" in found.fix
    assert only(tao(workspace, tmp_path)[0], 6, "TAO").level == "ok"
    python = tmp_path / "tao/bin/python"
    python.unlink()
    python.write_text("#!/bin/sh\necho 7.3.0\nexit 0\n")
    python.chmod(0o755)
    found = only(tao(workspace, tmp_path)[0], 6, "the wheels are 7.3.0")
    assert (found.level, found.fix) == ("warn", "--tao-version 7.3.0")
