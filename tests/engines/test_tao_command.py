"""The argument list of a job: the same everywhere, and never one that TAO's launcher would split."""

from __future__ import annotations

import sys

import pytest

from deft_aoi import engines
from deft_aoi.contract.errors import HardStop


def test_the_same_arguments_reach_every_engine(tmp_path):
    tail = ("train", "-e", "/ws/spec.yaml", "train.seed=7")
    tao = engines.command("tao", "visual_changenet", "train", "/ws/spec.yaml", ["train.seed=7"])
    embedded = engines.command("embedded", "visual_changenet", "train", "/ws/spec.yaml", ["train.seed=7"])
    assert tao == ("visual_changenet", *tail)
    assert embedded == (sys.executable, "-m", "deft_aoi.engines.embedded", "visual_changenet", *tail)
    for engine in engines.ENGINES:
        assert engines.command(engine, "visual_changenet", "train", "/ws/spec.yaml", ["train.seed=7"], container=True) == tao


def test_tao_s_wheels_are_reached_by_their_console_command_or_their_module(tmp_path):
    python = tmp_path / "bin" / "python"
    (tmp_path / "bin").mkdir()
    by_module = engines.command("tao", "embedding", "image_embeddings", "/s.yaml", python=str(python))
    assert by_module[:3] == (str(python), "-m", "nvidia_tao_ds.mining.embedding.entrypoint.embedding")
    (tmp_path / "bin" / "embedding").touch()
    by_command = engines.command("tao", "embedding", "image_embeddings", "/s.yaml", python=str(python))
    assert by_command[0] == str(tmp_path / "bin" / "embedding")


@pytest.mark.parametrize(
    "broken",
    [
        {"spec_path": "spec.yaml"},
        {"spec_path": "/w s/spec.yaml"},
        {"overrides": ["a=b c"]},
        {"overrides": ["a='b'"]},
        {"overrides": ["--config-dir"]},
        {"engine": "other"},
        {"subtask": "quantize"},
        {"tool": "gap_analysis"},
        {"overrides": ["a=b\n"]},
    ],
)
def test_what_the_launcher_would_split_or_ignore_is_refused(broken):
    call = {"engine": "tao", "tool": "visual_changenet", "subtask": "train", "spec_path": "/s.yaml", "overrides": ()}
    with pytest.raises(HardStop):
        engines.command(**{**call, **broken})


def test_jobs_are_offline_and_the_embedded_engine_has_one_thread():
    assert engines.environment("embedded")["OMP_NUM_THREADS"] == "1"
    assert engines.environment("tao")["HF_HUB_OFFLINE"] == "1"
    assert "OMP_NUM_THREADS" not in engines.environment("tao")
