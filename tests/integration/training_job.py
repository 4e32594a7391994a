"""A real embedded training of a few seconds, as a job request, and a driver process that can be killed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

import services
import yaml

REPO = Path(__file__).resolve().parents[2]
SCRIPTS = REPO / "scripts"
UID = 1234  # nobody in particular: not root, no name in the image


class Place:
    """A workspace that an unprivileged user owns, with a spec, an output folder and a folder for job records."""

    def __init__(self, workspace: Path, *, uid: int = UID, epochs: int = 2) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="deft-place-"))
        self.root.chmod(0o755)
        self.workspace = self.root / "ws"
        shutil.copytree(workspace, self.workspace)
        self.out, self.jobs = self.workspace / "out", self.workspace / "jobs"
        self.out.mkdir()
        self.jobs.mkdir()
        self.spec = self.workspace / "derived.yaml"
        self.spec.write_text(yaml.safe_dump(self._spec(epochs)))
        for folder, dirs, files in os.walk(self.root):
            for name in (".", *dirs, *files):
                os.chown(Path(folder) / name, uid, uid)

    def _spec(self, epochs: int) -> dict:
        spec = yaml.safe_load((self.workspace / "specs" / "baseline_spec.yaml").read_text())
        data = spec["dataset"]["classify"]
        for part in data.values():
            if isinstance(part, dict) and "csv_path" in part:
                part.update(csv_path=str(self.workspace / part["csv_path"]), images_dir=str(self.workspace / part["images_dir"]))
        data.update(batch_size=8, workers=0)
        spec["train"] = {"num_epochs": epochs, "checkpoint_interval": 1, "validation_interval": 1}
        return spec

    def request(self, name: str, argv: tuple[str, ...] | None = None, **more) -> dict:
        """The arguments of a ``JobRequest`` as JSON-able values."""
        train = ("visual_changenet", "train", "-e", str(self.spec), f"results_dir={self.out}", f"train.results_dir={self.out}")
        return {
            "name": name,
            "argv": argv or train,
            "cwd": str(self.out),
            "log_path": str(self.out / "train.log"),
            "env": {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
            "read_only": [str(self.workspace)],
            "writable": [str(self.out)],
            **more,
        }

    def owners(self) -> set[int]:
        return {p.lstat().st_uid for p in (self.out, self.jobs, *self.out.rglob("*"), *self.jobs.rglob("*"))}

    def remove(self) -> None:
        shutil.rmtree(self.root, ignore_errors=True)


def as_request(values: dict):
    """Make the real ``JobRequest``."""
    from deft_aoi.platforms.base import JobRequest

    paths = {k: tuple(Path(p) for p in values.get(k, ())) for k in ("read_only", "writable")}
    tuples = {k: tuple(values[k]) for k in ("argv", "secret_names") if k in values}
    return JobRequest(**{**values, **paths, **tuples})


_DRIVER = """
import json, sys, time
sys.path.insert(0, {helpers!r})
from pathlib import Path
from training_job import as_request
from deft_aoi.platforms import base
order = json.loads(sys.argv[1])
platform = base.get_platform(order["platform"], order["options"])
request, jobs = as_request(order["request"]), Path(order["jobs"])
platform.submit(request, jobs)
print("submitted", flush=True)
status = base.wait(platform, request.name, jobs, timeout_sec=order["timeout"], poll_sec=0.1)
print(json.dumps([status.state.value, status.exit_code, status.detail, status.started_ns]), flush=True)
"""


def python_for(uid: int | None) -> str:
    """An interpreter with our packages that this user may execute: this one may lie in root's home."""
    if not uid:
        return sys.executable
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    folder = services.CACHE / f"python-{version}"
    if not (folder / "bin" / "python").exists():
        subprocess.run([f"/usr/bin/python{version}", "-m", "venv", "--without-pip", str(folder)], check=True)
    own, line = folder / "lib" / f"python{version}" / "site-packages" / "packages.pth", sysconfig.get_path("purelib") + "\n"
    if not own.exists() or own.read_text() != line:  # never cut short: a driver may be starting from it at this moment
        ready = own.with_suffix(f".{os.getpid()}")
        ready.write_text(line)
        ready.replace(own)
    return str(folder / "bin" / "python")


def driver(
    platform: str,
    options: dict,
    request: dict,
    jobs: Path,
    *,
    uid: int | None = UID,
    timeout: float = 240,
    environment: dict | None = None,
) -> subprocess.Popen:
    """Start a driver of its own: it submits, says ``submitted``, waits, and prints the last status."""
    python = python_for(uid)
    order = {"platform": platform, "options": options, "request": request, "jobs": str(jobs), "timeout": timeout}
    code = _DRIVER.format(helpers=str(Path(__file__).parent))
    clean = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(SCRIPTS),
        "PYTHONDONTWRITEBYTECODE": "1",
        "HOME": "/tmp",
        **(environment or {}),
    }
    return subprocess.Popen(
        [python, "-c", code, json.dumps(order)],
        env=clean,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        **({"user": uid, "group": uid, "extra_groups": []} if uid else {}),
    )


def last_status(process: subprocess.Popen) -> list:
    """The status that the driver printed last, once it has ended."""
    output = process.communicate(timeout=300)[0]
    assert process.returncode == 0, output
    return json.loads(output.splitlines()[-1])
