"""What a container gets, and nothing else: the arguments of ``containers.create``."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deft_aoi.contract.errors import Blocked, HardStop
from deft_aoi.contract.text import quoted
from deft_aoi.platforms import gpus
from deft_aoi.platforms.base import JobRequest

LABEL = "org.deft-aoi.job"
ENGINE_LABEL = "org.deft-aoi.engine"
"""An image with this label is known to write nowhere but to /tmp and the job's folder."""

_PIDS_LIMIT = 4096
_STACK_BYTES = 64 << 20  # NVIDIA's containers ask for this and for unlimited locked memory


def container_settings(request: JobRequest, image: Any, options: Mapping[str, str], secrets: Mapping[str, str]) -> dict[str, Any]:
    """The arguments of ``containers.create``: what the container gets, and nothing else."""
    from docker.types import LogConfig

    uid, gid = _user(options)
    labels = (image.attrs.get("Config") or {}).get("Labels") or {}
    is_read_only = options.get("read_only_root", "yes" if ENGINE_LABEL in labels else "no").lower() in ("yes", "true", "1")
    home = {"HOME": "/tmp", "USER": "deft", "LOGNAME": "deft"}  # nosec B108 - the container's own /tmp
    return {
        "command": list(request.argv),
        "entrypoint": "",
        "name": request.name,
        "labels": {LABEL: request.name},
        "user": f"{uid}:{gid}",
        "environment": home | dict(request.env) | dict(secrets),
        "working_dir": str(request.cwd),
        "mounts": _mounts(request),
        "shm_size": request.shm_gib << 30,
        "device_requests": _device_requests(request),
        "network_mode": "bridge" if request.network else "none",
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges"],
        "pids_limit": _PIDS_LIMIT,
        "read_only": is_read_only,
        "tmpfs": {"/tmp": "rw,nosuid,nodev,mode=1777"} if is_read_only else {},  # nosec B108 - the container's own /tmp
        "ulimits": _gpu_limits() if request.gpu_count else [],
        "log_config": LogConfig(type=LogConfig.types.JSON),
        "auto_remove": False,
        "stdin_open": False,
        "tty": False,
    }


def _gpu_limits() -> list[Any]:
    from docker.types import Ulimit

    return [Ulimit(name="memlock", soft=-1, hard=-1), Ulimit(name="stack", soft=_STACK_BYTES, hard=_STACK_BYTES)]


def _user(options: Mapping[str, str]) -> tuple[int, int]:
    if "user" not in options:
        return os.getuid(), os.getgid()
    uid, _, gid = options["user"].partition(":")
    if not (uid.isdigit() and gid.isdigit()):
        raise HardStop("the docker option user is malformed", expected="UID:GID", found=quoted(options["user"]))
    return int(uid), int(gid)


def _mounts(request: JobRequest) -> list[Any]:
    """Binds at the same path inside and outside; the shorter ones first, so that a folder within another ends up on top."""
    from docker.types import Mount

    wanted = {str(p): True for p in request.read_only} | {str(p): False for p in request.writable}
    for path in wanted:
        if not Path(path).exists():
            raise HardStop("a folder of the job does not exist", found=quoted(path, 200))
    return [Mount(target=p, source=p, type="bind", read_only=ro) for p, ro in sorted(wanted.items(), key=lambda i: len(i[0]))]


def _device_requests(request: JobRequest) -> list[Any]:
    from docker.types import DeviceRequest

    ids = request.gpus
    if isinstance(ids, int):
        if ids == 0:
            return []
        ids = tuple(g.index for g in gpus.inventory()[:ids])
        if len(ids) < request.gpu_count:
            raise Blocked("not enough GPUs", expected=str(request.gpu_count), found=str(len(ids)))
    return [DeviceRequest(device_ids=list(ids), capabilities=[["gpu"]])]
