"""The shards of :mod:`deft_aoi.mining.shards` on a Ray cluster, through Ray Data.

Ray waits for ever and says nothing when a cluster has fewer CPUs than its tasks ask for. Resources are therefore asserted
before anything starts, and every wait has a limit. What a shard wrote stays, so a run that was cut continues, with Ray or
without.
"""

from __future__ import annotations

import logging
import os
import threading
from dataclasses import asdict
from pathlib import Path
from typing import Any

import deft_aoi
from deft_aoi.contract.errors import Blocked, JobFailed
from deft_aoi.contract.text import printable
from deft_aoi.mining.encoders import make_encoder
from deft_aoi.mining.shards import ShardJob, is_done, run_shard

CONNECT_LIMIT_SEC = 120.0
DEFAULT_LIMIT_SEC = 24 * 3600.0


def run_ray(
    job: ShardJob,
    *,
    address: str | None = None,
    cpus_per_shard: float = 1,
    gpus_per_shard: float = 0,
    limit_sec: float = DEFAULT_LIMIT_SEC,
) -> int:
    """Embed every shard that is not done on a Ray cluster.

    Args:
        job: what to embed; its paths must exist on every node.
        address: of a running cluster; by default the one that Ray knows, else a local one.
        cpus_per_shard: CPUs that each shard's task asks for.
        gpus_per_shard: GPUs that each shard's task asks for.
        limit_sec: give up after so long.

    Returns:
        Images embedded.

    Raises:
        Blocked: Ray is not installed, no cluster answers in time, or it is too small.
        JobFailed: a shard failed, or the limit passed; finished shards stay.
    """
    # A wait that was given up leaves a thread inside Ray; it must not start a new cluster when this one is closed.
    os.environ.setdefault("RAY_ENABLE_AUTO_CONNECT", "0")
    try:
        import ray
    except ImportError as error:
        raise Blocked("the executor ray is not installed", found=str(error), hint="pip install 'deft-aoi[ray]'") from error
    identity = make_encoder(job.encoder, job.model_path).identity.as_dict()
    job.out_dir.mkdir(parents=True, exist_ok=True)
    todo = [shard for shard in range(job.shards) if not is_done(job, shard, identity)]
    if not todo:
        return 0
    own = not ray.is_initialized()
    if own:
        _bounded(
            lambda: ray.init(address=address, include_dashboard=False, logging_level=logging.ERROR, log_to_driver=False),
            CONNECT_LIMIT_SEC,
            Blocked("no Ray cluster answered", expected=f"an answer within {CONNECT_LIMIT_SEC:.0f} s", hint="check the address"),
        )
    try:
        resources: Any = ray.cluster_resources  # has no types
        _assert_resources(resources(), cpus_per_shard, gpus_per_shard)
        late = JobFailed(
            "the Ray shards were not finished in time",
            expected=f"{len(todo)} shards within {limit_sec:.0f} s",
            hint="run it again",
        )
        embedded: int = _bounded(lambda: _embed(job, todo, cpus_per_shard, gpus_per_shard), limit_sec, late)
        return embedded
    finally:
        if own:
            ray.shutdown()


def _assert_resources(total: dict[str, float], cpus: float, gpus: float) -> None:
    # Ray Data reads its input with a task of one CPU beside the shard's own.
    needed = {"CPU": max(cpus, 1), "GPU": gpus}
    short = {name: amount for name, amount in needed.items() if total.get(name, 0) < amount}
    if short:
        raise Blocked(
            "the Ray cluster is too small for one shard",
            expected=", ".join(f"{name} {amount:g}" for name, amount in needed.items()),
            found=", ".join(f"{name} {total.get(name, 0):g}" for name in needed),
            hint="lower what a shard asks for, or start more workers; Ray would wait for ever",
        )


def _embed(job: ShardJob, todo: list[int], cpus: float, gpus: float) -> int:
    import ray.data

    ray.data.DataContext.get_current().enable_progress_bars = False
    spec = {name: str(value) if isinstance(value, Path) else value for name, value in asdict(job).items()}
    rows = ray.data.from_items([{"shard": shard, "job": spec} for shard in todo], override_num_blocks=len(todo))
    # A checkout is not installed on the workers: they import the package from where it lies.
    package = Path(deft_aoi.__file__).resolve().parents[1]
    done = rows.map(
        _one_shard, num_cpus=cpus, num_gpus=gpus or None, runtime_env={"env_vars": {"PYTHONPATH": str(package)}}
    ).take_all()
    failed = [row for row in done if row["error"]]
    if failed or len(done) != len(todo):
        first = failed[0] if failed else {"shard": "?", "error": f"{len(done)} of {len(todo)} shards answered"}
        raise JobFailed(f"{len(failed)} Ray shards failed", found=f"shard {first['shard']}: {printable(first['error'], 300)}")
    return sum(int(row["embedded"]) for row in done)


def _one_shard(row: dict[str, Any]) -> dict[str, Any]:
    """Runs on a worker; an error travels back as data, so that one bad shard does not hide the others."""
    spec = row["job"]
    job = ShardJob(Path(spec["source"]), Path(spec["out_dir"]), int(spec["shards"]), spec["encoder"], spec["model_path"])
    try:
        return {"shard": int(row["shard"]), "embedded": run_shard(job, int(row["shard"])), "error": ""}
    except Exception as error:
        return {"shard": int(row["shard"]), "embedded": 0, "error": f"{type(error).__name__}: {error}"}


def _bounded(work: Any, limit_sec: float, late: Exception) -> Any:
    """Run ``work`` and wait at most ``limit_sec`` for it; it is left behind when that passes."""
    out: list[Any] = []
    errors: list[BaseException] = []

    def _run() -> None:
        try:
            out.append(work())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=_run, daemon=True)
    thread.start()
    thread.join(limit_sec)
    if thread.is_alive():
        raise late
    if errors:
        raise errors[0]
    return out[0]
