"""Embedding on a real Ray cluster; ``test_encoders.py`` runs this file in an interpreter of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from deft_aoi.contract.errors import Blocked, JobFailed
from deft_aoi.mining import shards

from .test_encoders import _table


@pytest.fixture(scope="module")
def ray_cluster():
    """A local cluster of a head without CPUs and two workers."""
    import ray
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    for _ in range(2):
        cluster.add_node(num_cpus=1)
    ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
    yield ray
    ray.shutdown()
    cluster.shutdown()


def test_ray_embeds_what_is_missing_on_two_workers(tmp_path, ray_cluster):
    from deft_aoi.mining.shards_ray import run_ray

    source = _table(tmp_path, 24)
    job = shards.ShardJob(source, tmp_path / "shards", 4, "pixels")
    first = shards.run_shard(job, 0)
    assert run_ray(job, limit_sec=120) == 24 - first
    assert run_ray(job, limit_sec=120) == 0
    assert shards.collect(job, tmp_path / "joined.parquet") == 24


def test_ray_names_a_cluster_that_is_too_small_and_a_shard_that_fails(tmp_path, ray_cluster):
    from deft_aoi.mining.shards_ray import run_ray

    source = _table(tmp_path, 6)
    job = shards.ShardJob(source, tmp_path / "shards", 2, "pixels")
    with pytest.raises(Blocked, match="too small"):
        run_ray(job, cpus_per_shard=64)
    (tmp_path / "images" / "3.png").write_bytes(b"no image")
    with pytest.raises(JobFailed, match="failed"):
        run_ray(job, limit_sec=120)


def test_a_wait_for_ray_ends(tmp_path, ray_cluster):
    """In a process of its own: what is left waiting inside Ray ends with it."""
    source = _table(tmp_path, 4)
    code = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from deft_aoi.contract.errors import JobFailed\n"
        "from deft_aoi.mining import shards, shards_ray\n"
        # No resources are asserted here, so Ray would wait for a GPU that never comes.
        "shards_ray._assert_resources = lambda *_: None\n"
        "job = shards.ShardJob(Path(sys.argv[1]), Path(sys.argv[2]), 2, 'pixels')\n"
        "try:\n"
        "    shards_ray.run_ray(job, gpus_per_shard=1, limit_sec=5)\n"
        "except JobFailed as error:\n"
        "    print('stopped:', error.message)\n"
    )
    scripts = Path(__file__).resolve().parents[2] / "scripts"
    command = [sys.executable, "-c", code, str(source), str(tmp_path / "shards")]
    done = subprocess.run(command, cwd=scripts, capture_output=True, text=True, check=False, timeout=180)
    assert "stopped: the Ray shards were not finished in time" in done.stdout, done.stderr[-2000:]
