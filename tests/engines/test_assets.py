"""Weights are fetched with the real `huggingface_hub` from a hub on the loopback, or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from deft_aoi.contract.errors import Blocked, HardStop
from deft_aoi.engines import assets
from deft_aoi.mining import encoders

pytest.importorskip("huggingface_hub")
SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
COMMIT = "a" * 40
RADIO = "c_radio_v2_vit_base_patch16_224"
FILES = {
    "nvidia/C-RADIOv2-B": {"model.safetensors": b"radio" * 1000},
    encoders.SIGLIP: {
        "config.json": b'{"vision_config": {"image_size": 224}}',
        "model.safetensors": b"siglip",
        "pytorch_model.bin": b"never",
    },
}


class Hub(BaseHTTPRequestHandler):
    """The hub's two questions: which files has a model, and give me one."""

    asked: list[str] = []

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, *, body: bool) -> None:
        self.asked.append(f"{self.command} {self.path}")
        for repo, files in FILES.items():
            if self.path.startswith(f"/api/models/{repo}/tree/"):
                found = [{"type": "file", "path": f, "size": len(data), "oid": "0" * 40} for f, data in files.items()]
                self._send(json.dumps(found).encode(), body)
                return
            if self.path.startswith(f"/api/models/{repo}"):
                self._send(json.dumps({"id": repo, "sha": COMMIT, "siblings": [{"rfilename": f} for f in files]}).encode(), body)
                return
            for name, data in files.items():
                if self.path in (f"/{repo}/resolve/main/{name}", f"/{repo}/resolve/{COMMIT}/{name}"):
                    self._send(data, body)
                    return
        self.send_error(404)

    def _send(self, data: bytes, body: bool) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("ETag", f'"{hashlib.sha256(data).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        if body:
            self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def hub(tmp_path: Path):
    """Runs code with the hub's address; gives what it printed and how it ended."""
    Hub.asked = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()

    def run(code: str) -> subprocess.CompletedProcess[str]:
        clean = {k: v for k, v in os.environ.items() if not k.startswith("HF_") and not k.lower().endswith("_proxy")}
        env = {
            **clean,
            "PYTHONPATH": str(SCRIPTS),
            "HF_HOME": str(tmp_path / "hf"),
            "HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}",
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
        }
        code = f"from pathlib import Path\nfrom deft_aoi.engines import assets\nfrom deft_aoi.mining import encoders\n{code}"
        return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, env=env, check=False)

    yield run
    server.shutdown()
    server.server_close()


def test_a_backbone_is_fetched_under_its_real_suffix(hub, tmp_path):
    target = tmp_path / "ws/augmentation/backbone/radio.safetensors"
    done = hub(f"print(assets.fetch_backbone({RADIO!r}, Path({str(target)!r})))")
    assert done.returncode == 0, done.stderr[-800:]
    data = FILES["nvidia/C-RADIOv2-B"]["model.safetensors"]
    assert target.read_bytes() == data
    assert not target.is_symlink()
    assert done.stdout.split()[-1] == hashlib.sha256(data).hexdigest()
    assert [p.name for p in target.parent.iterdir()] == [target.name]


def test_the_mining_encoder_is_fetched_into_the_cache_without_pickles(hub, tmp_path):
    done = hub("""
assets.fetch_model(encoders.SIGLIP)
print(encoders.find_siglip(), encoders.seen_root(encoders.find_siglip()))
""")
    assert done.returncode == 0, done.stderr[-800:]
    folder, root = map(Path, done.stdout.split()[-2:])
    assert sorted(p.name for p in folder.iterdir()) == ["config.json", "model.safetensors"]
    # The snapshot is links: a container that is given `root` can follow every one of them.
    assert all(p.resolve().is_relative_to(root.resolve()) for p in folder.iterdir())
    assert not any("pytorch_model.bin" in asked for asked in Hub.asked)


def test_a_hub_that_refuses_is_blocked_with_the_way_out(hub, tmp_path):
    target = tmp_path / "r.safetensors"
    done = hub(f"""
try: assets.fetch_backbone("c_radio_v2_vit_large_patch16_224", Path({str(target)!r}))
except Exception as error: print(type(error).__name__, error.hint)
""")
    assert Hub.asked
    assert done.stdout.startswith("Blocked check the network and HF_TOKEN, or stage the file"), done.stdout + done.stderr[-500:]
    assert not target.exists()


def test_what_no_hub_has_is_refused_before_any_download(tmp_path):
    with pytest.raises(Blocked, match="no source is known"):
        assets.fetch_backbone("fan_tiny_8_p4_hybrid", tmp_path / "fan.pth")
    with pytest.raises(HardStop, match="wrong suffix"):
        assets.fetch_backbone(RADIO, tmp_path / "radio.pth")
