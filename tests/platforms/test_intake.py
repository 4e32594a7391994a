"""What pre-flight and the intake ask of this room: GPUs, credentials, images, the catalogue."""

from __future__ import annotations

import json

import pytest

from deft_aoi.contract.errors import Blocked, HardStop, UsageError
from deft_aoi.engines import container_images
from deft_aoi.platforms import catalog, credentials, gpus

SMI = "0, GPU-aaaa, NVIDIA H200, 143771\n1, GPU-bbbb, NVIDIA L4, 23034\nsome note\n2, GPU-cccc, NVIDIA RTX A6000, 49140\n"


@pytest.mark.parametrize(
    ("setting", "expected"),
    [(None, ["0", "1", "2"]), ("", []), ("2,0", ["2", "0"]), ("GPU-bb", ["1"]), ("0,9,1", ["0"]), ("-1", [])],
)
def test_visible_gpus_follow_the_setting_as_cuda_does(setting, expected):
    assert [g.index for g in gpus.visible(gpus.parse(SMI), setting)] == expected


def test_a_batch_that_does_not_fit_is_named_per_gpu():
    assert gpus.batch_problems(gpus.parse(SMI), 8, "tao") == []
    (small,) = gpus.batch_problems(gpus.parse(SMI), 16, "tao")
    assert "GPU 1" in small
    assert len(gpus.batch_problems(gpus.parse(SMI), 32, "tao")) == 2
    assert gpus.batch_problems(gpus.parse(SMI), 512, "embedded") == []


def test_an_empty_line_of_the_file_never_overrides_a_good_value(tmp_path):
    path = tmp_path / ".env"
    path.write_text("# c\nexport NGC_API_KEY=\"\"\nHF_TOKEN='hf_x'\nHF_TOKEN_EXTRA=1\nNGC_KEY=$OTHER\nPATH=/evil\n")
    environment = {"NGC_API_KEY": "good"}
    assert credentials.load(path, environment) == ["HF_TOKEN"]
    assert environment == {"NGC_API_KEY": "good", "HF_TOKEN": "hf_x"}


def test_only_what_this_run_needs_is_asked_for(tmp_path, monkeypatch):
    for name in credentials.KNOWN:
        monkeypatch.delenv(name, raising=False)
    assert credentials.needed("local", "embedded", "baseline") == []
    assert credentials.needed("docker", "tao", "baseline") == [("NGC_API_KEY", "NGC_KEY"), ("HF_TOKEN",)]
    assert credentials.needed("docker", "tao", "siglip", air_gapped=True) == []
    assert credentials.needed("local", "embedded", "siglip") == [("HF_TOKEN",)]
    (tmp_path / ".env").write_text("NGC_KEY=x\n")
    assert credentials.present(tmp_path / ".env") == {"NGC_KEY"}
    assert credentials.present(tmp_path / "none") == set()


def test_a_key_of_the_versions_file_is_found_in_the_bank_first(tmp_path, monkeypatch):
    monkeypatch.delenv("TAO_SKILL_BANK_PATH", raising=False)
    assert container_images.resolve_key("images.tao_toolkit.pyt").endswith(":7.1.0-pyt")
    (tmp_path / "versions.yaml").write_text("images: {tao_toolkit: {pyt: {reference: 'x/y:1'}}}\n")
    assert container_images.resolve_key("images.tao_toolkit.pyt", str(tmp_path)) == "x/y:1"
    monkeypatch.setenv("TAO_SKILL_BANK_PATH", str(tmp_path))
    assert container_images.resolve_key("images.tao_toolkit.pyt") == "x/y:1"
    with pytest.raises(HardStop):
        container_images.resolve_key("images.tao_toolkit.data_services")
    with pytest.raises(UsageError):
        container_images.resolve_key("images..pyt")
    with pytest.raises(Blocked):
        container_images.resolve_key("images", str(tmp_path / "none"))


@pytest.mark.parametrize("reference", ["nvcr.io/a/b", "x", "a b:1", "x:1;rm", "-x:1", ""])
def test_an_image_without_tag_or_digest_is_refused(reference):
    with pytest.raises(HardStop):
        container_images.check_reference(reference)


def test_jobs_without_an_image_need_none():
    assert container_images.resolve_for("local", "tao") == {}
    assert container_images.resolve_for("slurm", "embedded") == {}
    assert container_images.resolve_for("slurm", "tao", {"tao_python": "/x/python"}) == {}
    on_cluster = container_images.resolve_for("kubernetes", "tao", {"image": "r.io/x:1@sha256:" + "1" * 64})
    assert on_cluster["visual_changenet"]["digest"] == "sha256:" + "1" * 64
    assert on_cluster["embedding"]["reference"].endswith("-data-services")


def test_the_catalogue_lists_every_platform_and_names_what_is_not_supported():
    found = catalog.describe(None, {})
    assert list(found["platforms"]) == ["local", "docker", "slurm", "kubernetes"]
    assert found["platforms"]["local"]["is_ready"]
    text = catalog.as_text(found)
    assert "brev, lepton" in text
    assert all(len(line) < 400 for line in text.splitlines())
    json.dumps(found)
    for name in ("brev", "Lepton", "moon"):
        with pytest.raises(UsageError):
            catalog.describe(name, {})


def test_one_platform_is_described_in_full():
    text = catalog.as_text(catalog.describe("docker", {"host": "unix:///nonexistent.sock"}))
    assert "NGC_API_KEY or NGC_KEY" in text
    assert "[missing]" in text
