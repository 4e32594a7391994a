"""``prestage_pregen.py`` on an approved run: staged anew with --force, embedded with SigLIP from a folder."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

from deft_aoi.mining.encoders import make_encoder
from tests.mining.test_encoders import save_tiny_siglip

from .conftest import FAST, deft, only_run

needs_siglip = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("torch", "transformers")),
    reason="torch or transformers is not installed",
)


@pytest.fixture
def run(workspace: Path) -> Path:
    """An approved run whose first stage is next."""
    return _open_run(workspace)


def _open_run(workspace: Path, *options: str) -> Path:
    digest = deft("preflight", "--workspace", workspace, *FAST, *options, "--json").json["digest"]
    assert deft("approve", digest[:12], "--confirm", digest[-6:]).code == 0
    opened = deft("init_deft_state", "--plan-digest", digest[:12])
    assert opened.code == 0, opened.err
    folder = only_run(workspace)
    assert deft("run_stage", "--results-dir", folder).code == 0  # assets
    return folder


def _prestage(workspace: Path, run: Path, *extra: object):
    return deft("prestage_pregen", "--workspace", workspace, "--results-dir", run, "--json", *extra)


def test_force_stages_again_what_is_not_on_record_and_refuses_what_is(workspace: Path, run: Path) -> None:
    left = run / "synth_pool"
    left.mkdir()
    (left / "half.png").write_bytes(b"of an earlier attempt")
    attempt = run / "synth_pool.tmp-7"
    attempt.mkdir()
    done = _prestage(workspace, run, "--force")
    assert done.code == 0, done.err
    assert not (left / "half.png").exists()
    assert not attempt.exists()
    assert (left / "manifest.json").is_file()
    assert (left / "source_pool.parquet").is_file()
    again = _prestage(workspace, run)
    assert again.code == 0, again.err
    assert again.json["files_checked"] > 0
    assert _prestage(workspace, run, "--force").code == 2
    staged = next((left / "images" / "synth_ng").iterdir())
    staged.write_bytes(b"changed")
    assert _prestage(workspace, run).code == 3


def test_an_encoder_that_needs_no_training_is_named_in_the_manifest(workspace: Path) -> None:
    run = _open_run(workspace, "--encoder", "pixels")
    done = _prestage(workspace, run)
    assert done.code == 0, done.err
    encoder = json.loads((run / "synth_pool" / "manifest.json").read_text())["encoder"]
    assert encoder == make_encoder("pixels").identity.as_dict()


def test_every_damaged_pool_image_is_named_before_anything_is_trained(workspace: Path, run: Path) -> None:
    for path in sorted((workspace / "augmentation" / "mining_pool" / "images").rglob("*_SolderLight.*"))[:2]:
        path.write_bytes(b"no image")
    stopped = _prestage(workspace, run)
    assert stopped.code == 3
    assert "mining pool: 2 images cannot be used" in stopped.err
    assert stopped.err.count("column input_path") == 2
    assert not (run / "synth_pool").exists()


@needs_siglip
def test_the_pool_is_embedded_with_siglip_once(workspace: Path, run: Path, tmp_path: Path) -> None:
    model = save_tiny_siglip(tmp_path / "siglip")
    first = _prestage(workspace, run, "--embed-with-siglip", "--model-path", model, "--shards", 2)
    assert first.code == 0, first.err
    assert first.json["embedded"] > 0
    assert list((workspace / ".deft" / "embeddings").glob("*/part-*.parquet"))
    second = _prestage(workspace, run, "--embed-with-siglip", "--model-path", model)
    assert second.code == 0, second.err
    assert second.json["embedded"] == 0
    absent = _prestage(workspace, run, "--embed-with-siglip", "--model-path", tmp_path / "nowhere")
    assert absent.code == 4
