"""Runs that fail: what a library, a job or a registry quotes in its error is masked wherever it is shown or kept."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from deft_aoi.platforms.redact import known_secrets

from ..loop.conftest import SCRIPTS, Said, deft
from .test_hostile_run import ARGS, CANARIES, FILE_CANARIES, SECRETS


@pytest.fixture
def canaries(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in CANARIES.items():
        monkeypatch.setenv(name, value)


def _must_be_clean(said: Said, *roots: Path) -> int:
    """No canary in what was said or kept; how many files were looked at."""
    assert not [s for s in SECRETS if s.decode() in said.out + said.err]
    files = [p for root in roots for p in root.rglob("*") if p.is_file() and p.name != ".env"]
    for path in files:
        content = path.read_bytes()
        assert not [s for s in SECRETS if s in content], path
    return len(files)


@pytest.mark.parametrize("kind", ["bug", "blocked"])
def test_an_error_that_quotes_every_secret_is_masked(tmp_path: Path, canaries: None, monkeypatch, kind: str) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    raised = "ValueError(text)" if kind == "bug" else "Blocked(text, found=text, hint=text)"
    code = (
        "import argparse, os, sys\nfrom deft_aoi import cli\nfrom deft_aoi.contract.errors import Blocked\n"
        "def run(args):\n    text = ' '.join(os.environ[n] for n in ('HF_TOKEN', 'NGC_API_KEY', 'AWS_SECRET_ACCESS_KEY'))\n"
        f"    raise {raised}\nsys.exit(cli.run_main(argparse.ArgumentParser, run, ['--json']))"
    )
    env = os.environ | {"PYTHONPATH": str(SCRIPTS)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, timeout=60)
    assert done.returncode == (1 if kind == "bug" else 4)
    assert done.stderr.count("[redacted]") >= 3
    looked = _must_be_clean(Said(done.returncode, done.stdout, done.stderr), tmp_path)
    assert looked == (1 if kind == "bug" else 0)  # the traceback


def test_variables_that_hold_credentials_are_known_by_name() -> None:
    kept = {
        "HF_TOKEN": "1",
        "NGC_API_KEY": "2",
        "NGC_KEY": "3",
        "AWS_SECRET_ACCESS_KEY": "4",
        "AWS_ACCESS_KEY_ID": "5",
        "AWS_SESSION_TOKEN": "6",
        "DB_PASSWORD": "7",
    }
    assert known_secrets(kept | {"PATH": "a", "KEYBOARD": "b", "TOKENIZERS_PARALLELISM": "c", "HOME": "d"}) == list("1234567")


class _Registry(BaseHTTPRequestHandler):
    """An engine that has no image and says back all that it was sent."""

    def log_message(self, *_: object) -> None:
        """Nothing on stderr."""

    def _answer(self) -> None:
        import base64

        self.rfile.read(int(self.headers.get("content-length") or 0))
        sent = self.headers.get("X-Registry-Auth")
        if "_ping" in self.path or "/version" in self.path:
            return self._json(200, {"ApiVersion": "1.44", "Version": "27"})
        if sent:
            self.server.asked.append(sent)
            return self._json(500, {"message": f"denied: {base64.urlsafe_b64decode(sent).decode()}"})
        return self._json(404, {"message": "no such image"})

    do_GET = do_POST = do_HEAD = _answer

    def _json(self, status: int, body: dict) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        for name, value in (("content-type", "application/json"), ("content-length", str(len(data))), ("Api-Version", "1.44")):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)


def test_a_registry_that_says_the_password_back_is_masked(canaries: None) -> None:
    pytest.importorskip("docker")
    with ThreadingHTTPServer(("127.0.0.1", 0), _Registry) as server:
        server.asked = []
        threading.Thread(target=server.serve_forever, daemon=True).start()
        code = (
            "import argparse, sys\nfrom deft_aoi import cli\nfrom deft_aoi.platforms.docker_images import ensure_present\n"
            "images = {'visual_changenet': {'reference': 'nvcr.io/nvidia/x:1', 'id': None}}\n"
            f"def run(args):\n    ensure_present(images, {{'host': 'tcp://127.0.0.1:{server.server_port}'}})\n"
            "sys.exit(cli.run_main(argparse.ArgumentParser, run, []))"
        )
        env = os.environ | {"PYTHONPATH": str(SCRIPTS)}
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, timeout=60)
        server.shutdown()
    assert len(server.asked) == 1, done.stderr
    assert done.returncode == 4
    assert "denied" in done.stderr
    _must_be_clean(Said(done.returncode, done.stdout, done.stderr))


def _kill_the_job(workspace: Path, stop: threading.Event) -> None:
    """SIGKILL to every training of this workspace until told to stop."""
    while not stop.is_set():
        for entry in Path("/proc").iterdir():
            try:
                argv = (entry / "cmdline").read_bytes() if entry.name.isdigit() else b""
            except OSError:
                continue
            if b"deft_aoi.engines.embedded\0" in argv and b"\0train\0" in argv and str(workspace).encode() in argv:
                os.kill(int(entry.name), 9)
        stop.wait(0.05)


def test_a_run_whose_training_dies_and_whose_data_changes_leaks_nothing(
    workspace: Path, tmp_path: Path, canaries: None, monkeypatch
) -> None:
    for name in ("STATE", "CACHE", "DATA"):
        monkeypatch.setenv(f"XDG_{name}_HOME", str(tmp_path / "home"))
    (workspace / ".env").write_text("".join(f"{k}={v}\n" for k, v in FILE_CANARIES.items()))
    stop = threading.Event()
    killer = threading.Thread(target=_kill_the_job, args=(workspace, stop))
    killer.start()
    try:
        failed = deft("run_loop", "--workspace", workspace, *ARGS, "--yes")
    finally:
        stop.set()
        killer.join()
    assert failed.code == 7, failed.out + failed.err
    assert _must_be_clean(failed, workspace, tmp_path / "home") > 100
    (run,) = (workspace / "results").glob("run_*")
    table = workspace / "kpi" / "testing_set.csv"
    table.write_text(table.read_text() + "x,y\n")
    for script in ("run_loop", "next_stage", "status", "verify_run"):
        said = deft(script, "--results-dir", run)
        assert _must_be_clean(said, workspace, tmp_path / "home") > 100
    assert deft("run_loop", "--results-dir", run).code in (3, 5)
    shutil.rmtree(workspace)
