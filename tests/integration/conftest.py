"""Real services for the integration tests: a Docker Engine and a SLURM cluster, started here, one a session."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session")
def docker_engine():
    """A running Docker Engine of our own: ``.url``, ``.client()``, ``.image(tag)``."""
    from docker_engine import DockerEngine

    engine = DockerEngine()
    engine.start()
    yield engine
    engine.stop()


@pytest.fixture(scope="session")
def slurm_cluster():
    """A running one-node SLURM cluster with two fake GPUs: ``.environment`` to reach it."""
    from slurm_cluster import SlurmCluster

    cluster = SlurmCluster()
    cluster.start()
    yield cluster
    cluster.stop()
