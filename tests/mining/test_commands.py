"""The commands of this room at a shell, and the pool embedded through them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from deft_aoi.analysis.identity import ContentIndex
from deft_aoi.contract.errors import UsageError
from deft_aoi.mining import embed_pool, pool
from deft_aoi.mining.encoders import PixelEncoder
from deft_aoi.mining.store import EmbeddingStore

from .conftest import LIGHT

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


def _run(script, *args):
    return subprocess.run([sys.executable, str(SCRIPTS / script), *map(str, args)], capture_output=True, text=True, check=False)


def test_pairs_are_checked_without_approval_and_written_only_with_it(make):
    make.pregen("R1+bridge_00000", 1)
    done = _run(
        "changenet_data_pair_prepare.py",
        "--workspace",
        make.workspace.root,
        "--light",
        LIGHT,
        "--image-ext",
        ".png",
        "--check",
        "--json",
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"pairs": 1, "counts_by_type": {"bridge": 1}, "ignored": 0}
    run = make.workspace.results / "run_1"
    run.mkdir(parents=True)
    out = make.workspace.results / "pairs"
    refused = _run(
        "changenet_data_pair_prepare.py",
        "--workspace",
        make.workspace.root,
        "--light",
        LIGHT,
        "--image-ext",
        ".png",
        "--results-dir",
        run,
        "--output-dir",
        out,
    )
    assert refused.returncode == 5, refused.stderr
    assert not out.exists()


@pytest.mark.parametrize("script", ["prestage_pregen.py", "knn_mine.py", "changenet_data_pair_prepare.py"])
def test_every_command_explains_itself(script):
    done = _run(script, "--help")
    assert done.returncode == 0
    assert "example" in done.stdout


def test_prestage_refuses_a_run_without_approval(make):
    run = make.workspace.results / "run_1"
    run.mkdir(parents=True)
    refused = _run("prestage_pregen.py", "--workspace", make.workspace.root, "--results-dir", run, "--force")
    assert refused.returncode == 5, refused.stderr
    assert list(run.iterdir()) == []


def test_a_pool_is_embedded_once_whatever_the_executor(make, tmp_path):
    for i in range(9):
        make.pool_row(f"R{i}", "PASS" if i % 2 else "open", i)
    make.write_pool()
    out = tmp_path / "out"
    out.mkdir()
    index = ContentIndex(tmp_path / "c")
    built = pool.build(make.workspace, (LIGHT,), ".png", index=index, out_dir=out)
    built = pool.identify(built, make.workspace, index=index, out_dir=out)
    options = {"cache_dir": tmp_path / "store", "encoder": "pixels", "shard_count": 3}
    assert embed_pool.embed_pool(make.workspace, out / "source_pool.csv", (LIGHT,), ".png", **options) == (9, 9)
    assert embed_pool.embed_pool(make.workspace, out / "source_pool.csv", (LIGHT,), ".png", **options) == (0, 9)
    store = EmbeddingStore(tmp_path / "store", PixelEncoder().identity)
    assert store.missing(built.frame["content_id"].tolist()) == []
    with pytest.raises(UsageError):
        embed_pool.embed_pool(make.workspace, out / "source_pool.csv", (LIGHT,), ".png", **{**options, "executor": "magic"})
