"""A Docker Engine of our own, and an image that holds the embedded engine under TAO's command names.

Nothing is fetched from a registry: the base is Debian's (`debootstrap`) with this interpreter's site-packages, loaded by
`docker import`; the project's code is a second, small layer. Both are kept between sessions and rebuilt when they change.
"""

from __future__ import annotations

import hashlib
import io
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
from pathlib import Path

import services

REPO = Path(__file__).resolve().parents[2]
TAG = "deft-aoi-embedded:0.1.0"
BASE = "deft-aoi-test-base"
# Large packages of a developer's environment that the engine does not import.
_LEFT_OUT = (
    "ray",
    "transformers",
    "kubernetes*",
    "mypy*",
    "*mypyc*.so",
    "sklearn",
    "scikit_learn*",
    "matplotlib",
    "scipy*",
    "anthropic*",
    "pip",
    "networkx*",
    "fontTools",
    "hypothesis*",
    "pytest*",
    "_pytest",
    "ruff*",
    "docker*",
    "__pycache__",
    "*.pyc",
    "tokenizers*",
    "hf_xet*",
    "pandas/tests",
    "torch/include",
    "torch/test",
)
_MIRROR = os.environ.get("DEFT_DEBIAN_MIRROR", "http://deb.debian.org/debian")


class DockerEngine:
    """One `dockerd` with its own data, socket and processes."""

    def __init__(self) -> None:
        services.need_root()
        services.need_commands({"dockerd": "docker.io", "debootstrap": "debootstrap"})
        self.run_dir = Path(tempfile.mkdtemp(prefix="deft-docker-"))
        self.run_dir.chmod(0o755)
        self.data = services.CACHE / "docker"
        self.data.mkdir(parents=True, exist_ok=True)
        self.socket = self.run_dir / "docker.sock"
        self.url = f"unix://{self.socket}"
        self._daemon: subprocess.Popen | None = None
        self._client = None

    def start(self) -> None:
        """Start the daemon with the first storage driver that works here."""
        for driver in ("overlay2", "vfs"):
            if self._try(driver):
                return
        services.unavailable(f"dockerd does not start here: {(self.run_dir / 'log').read_text()[-400:]}")

    def _try(self, driver: str) -> bool:
        with (self.run_dir / "log").open("wb") as log:
            self._daemon = subprocess.Popen(
                [
                    "nice",
                    services.which("dockerd"),
                    "-H",
                    self.url,
                    "--data-root",
                    str(self.data / driver),
                    "--exec-root",
                    str(self.run_dir / "exec"),
                    "--pidfile",
                    str(self.run_dir / "pid"),
                    "--iptables=false",
                    "--ip6tables=false",
                    "--bridge=none",
                    "--storage-driver",
                    driver,
                ],
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env={**os.environ, "PATH": f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"},
            )
        try:
            services.wait_for(lambda: self._daemon.poll() is not None or self._answers(), 60, "dockerd")
        except AssertionError:
            self._daemon.terminate()
        if self._daemon.poll() is None and self._answers():
            self.socket.chmod(0o666)
            return True
        self._daemon.wait(20)
        return False

    def _answers(self) -> bool:
        if not self.socket.exists():
            return False
        try:
            return bool(self.client().ping())
        except Exception:
            self._client = None
            return False

    def client(self):
        if self._client is None:
            import docker

            self._client = docker.DockerClient(base_url=self.url, timeout=600)
        return self._client

    def stop(self) -> None:
        """End every container of ours and the daemon."""
        if self._daemon is None:
            return
        for container in self.client().containers.list(all=True):
            container.remove(force=True)
        self._daemon.terminate()
        self._daemon.wait(60)
        shutil.rmtree(self.run_dir, ignore_errors=True)

    def image(self, tag: str = TAG, *, note: str = "") -> str:
        """Build (or find) the image; returns its id. Another ``note`` makes another image of the same content."""
        import docker.errors

        base = self._base()
        wanted = _digest_of_code(base + note)
        try:
            found = self.client().images.get(tag)
            if found.labels.get("org.deft-aoi.source") == wanted:
                return found.id
        except docker.errors.ImageNotFound:
            pass
        built, _log = self.client().images.build(fileobj=_context(base, wanted), custom_context=True, tag=tag, rm=True)
        return built.id

    def _base(self) -> str:
        """Import Debian with Python and this interpreter's packages; returns the image's reference."""
        import docker.errors

        reference = f"{BASE}:{_digest_of_packages()}"
        try:
            self.client().images.get(reference)
            return reference
        except docker.errors.ImageNotFound:
            pass
        root = _rootfs()
        excludes = [f"--exclude={pattern}" for pattern in _LEFT_OUT]
        site = Path(sysconfig.get_path("purelib"))
        tar = subprocess.Popen(
            [
                "nice",
                "tar",
                "-c",
                *excludes,
                "-C",
                str(root),
                ".",
                "--transform",
                "s,^\\./site-packages,./opt/site-packages,",
                "-C",
                str(site.parent),
                f"./{site.name}",
            ],
            stdout=subprocess.PIPE,
        )
        with tempfile.TemporaryFile(dir=services.CACHE) as spool:
            shutil.copyfileobj(tar.stdout, spool, 1 << 20)
            assert tar.wait() == 0
            spool.seek(0)
            name, tag = reference.split(":")
            self.client().api.import_image(src=spool, repository=name, tag=tag)
        return reference


def _rootfs() -> Path:
    """Debian's base with its own Python, which must be of this interpreter's version."""
    release = platform.freedesktop_os_release()
    root = services.CACHE / f"rootfs-{release.get('VERSION_CODENAME', 'unknown')}"
    if not (root / "usr/bin/python3").exists():
        part = root.with_suffix(".part")
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        done = subprocess.run(
            [
                "nice",
                services.which("debootstrap"),
                "--variant=minbase",
                "--include=python3-minimal,libpython3-stdlib,python3-distutils,libgomp1",
                release["VERSION_CODENAME"],
                str(part),
                _MIRROR,
            ],
            capture_output=True,
            text=True,
            timeout=900,
            check=False,
            env={**os.environ, "PATH": services._path()},
        )
        if done.returncode != 0:
            services.unavailable(f"debootstrap failed: {done.stdout[-300:]}")
        for name in ("var/cache/apt", "var/lib/apt/lists", "usr/share/doc", "usr/share/locale"):
            shutil.rmtree(part / name, ignore_errors=True)
        part.rename(root)
    inside = os.readlink(root / "usr/bin/python3")
    if inside != f"python{sys.version_info.major}.{sys.version_info.minor}":
        services.unavailable(f"the image's Debian has {inside}; run the tests with that version")
    return root


def _digest_of_packages() -> str:
    names = sorted(p.name for p in Path(sysconfig.get_path("purelib")).glob("*.dist-info"))
    return hashlib.sha256(" ".join(names).encode()).hexdigest()[:16]


def _code_files() -> list[Path]:
    found = [p for part in ("scripts", "specs", "schemas", "packaging/docker/bin") for p in (REPO / part).rglob("*")]
    return sorted(p for p in found if p.is_file() and "__pycache__" not in p.parts)


def _digest_of_code(salt: str) -> str:
    digest = hashlib.sha256(salt.encode())
    for path in _code_files():
        digest.update(str(path.relative_to(REPO)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def _context(base: str, source: str) -> io.BytesIO:
    lines = [
        f"FROM {base}",
        "COPY app /opt/deft-aoi",
        "COPY app/packaging/docker/bin /usr/local/bin",
        "ENV PYTHONPATH=/opt/deft-aoi/scripts:/opt/site-packages PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1",
        f"LABEL org.deft-aoi.engine=embedded org.deft-aoi.source={source}",
    ]
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        dockerfile = "\n".join(lines).encode() + b"\n"
        entry = tarfile.TarInfo("Dockerfile")
        entry.size = len(dockerfile)
        tar.addfile(entry, io.BytesIO(dockerfile))
        for path in _code_files():
            info = tar.gettarinfo(path, f"app/{path.relative_to(REPO)}")
            info.uid = info.gid = 0
            info.mode = 0o755 if path.parent.name == "bin" else 0o644
            with path.open("rb") as handle:
                tar.addfile(info, handle)
    stream.seek(0)
    return stream
