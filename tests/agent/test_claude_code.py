"""The real Claude Code CLI against a loopback server, with an isolated home.

The CLI ships in the ``claude-agent-sdk`` wheel (``_bundled/claude``): installed here, or named by ``DEFT_CLAUDE_CODE``.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

import deft_aoi
from deft_aoi.agent import usage
from deft_aoi.agent.replay_server import USAGE, _events
from deft_aoi.contract import plans

ROOT = Path(deft_aoi.__file__).parents[2]
SDK = importlib.util.find_spec("claude_agent_sdk")
CLI = os.environ.get("DEFT_CLAUDE_CODE") or (str(Path(SDK.origin).parent / "_bundled" / "claude") if SDK else "")
DIGEST = "0123456789ab" + "c" * 46 + "f00d42"
NAME = "tao-run-deft-aoi"

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not os.path.isfile(CLI), reason="no Claude Code CLI: install claude-agent-sdk or set DEFT_CLAUDE_CODE"),
]


class Model(ThreadingHTTPServer):
    """Plays the given turns to the conversation that has tools; everything else gets "ok"."""

    daemon_threads = True

    def __init__(self, turns):
        super().__init__(("127.0.0.1", 0), Handler)
        self.turns, self.requests = list(turns), []


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self.reply("application/json", b"{}")

    do_GET = do_HEAD

    def do_POST(self):
        request = json.loads(self.rfile.read(int(self.headers.get("content-length", 0))) or b"{}")
        if not self.path.startswith("/v1/messages") or "count_tokens" in self.path:
            return self.reply("application/json", b'{"input_tokens": 1}')
        self.server.requests.append(request)
        content = self.server.turns.pop(0) if request.get("tools") and self.server.turns else [{"type": "text", "text": "ok"}]
        number = len(self.server.requests)
        content = [{**b, "id": f"toolu_{number}_{i}"} if b["type"] == "tool_use" else b for i, b in enumerate(content)]
        message = {
            "id": f"msg_{number}",
            "type": "message",
            "role": "assistant",
            "model": request["model"],
            "content": content,
            "stop_reason": "tool_use" if content[-1]["type"] == "tool_use" else "end_turn",
            "stop_sequence": None,
            "usage": USAGE,
        }
        if not request.get("stream"):
            return self.reply("application/json", json.dumps(message).encode())
        self.reply("text/event-stream", "".join(f"event: {n}\ndata: {json.dumps(d)}\n\n" for n, d in _events(message)).encode())

    def reply(self, kind, body):
        self.send_response(200)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    out = tmp_path_factory.mktemp("bundle")
    subprocess.run([sys.executable, str(ROOT / "packaging" / "bundle.py"), "--output", str(out)], check=True, capture_output=True)
    return out / NAME


@pytest.fixture
def claude(tmp_path, bundle, monkeypatch):
    """Runs one prompt headless; returns (events on stdout, requests that the model got)."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    (tmp_path / "home").mkdir()

    def run(prompt, turns, *flags, cwd="project"):
        (tmp_path / cwd).mkdir(parents=True, exist_ok=True)
        model = Model(turns)
        threading.Thread(target=model.serve_forever, daemon=True).start()
        env = {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "HOME": str(tmp_path / "home"),
            "XDG_STATE_HOME": str(tmp_path / "state"),
            "ANTHROPIC_BASE_URL": f"http://127.0.0.1:{model.server_address[1]}",
            "ANTHROPIC_API_KEY": "replay",
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        }
        command = [CLI, "-p", prompt, "--plugin-dir", str(bundle), "--model", "replay-model", "--verbose", *flags]
        command += ["--allowedTools", "Bash,Skill,Write", "--output-format", "stream-json"]
        done = subprocess.run(
            command, env=env, cwd=tmp_path / cwd, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=180
        )
        model.shutdown()
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()], model.requests

    return run


def use(tool, **given):
    return [{"type": "tool_use", "name": tool, "input": given}]


def say(text):
    return [{"type": "text", "text": text}]


def results(events):
    blocks = [b for e in events if e["type"] == "user" for b in e["message"]["content"] if isinstance(b, dict)]
    return [b for b in blocks if b.get("type") == "tool_result"]


def test_plugin_loads_with_skill_and_reporter_and_the_skill_opens(claude):
    events, requests = claude("hello", [use("Skill", skill=f"{NAME}:{NAME}"), say("read")])
    start = next(e for e in events if e.get("subtype") == "init")
    assert f"{NAME}:{NAME}" in start["skills"]
    assert f"{NAME}:reporter" in start["agents"]
    assert not results(events)[0].get("is_error"), "headless refuses an allowed-tools line that is not separated by spaces"
    assert "Pre-Flight Summary" in json.dumps(requests[-1]["messages"])


def test_the_plugin_directory_s_own_validator_has_no_warning(bundle, tmp_path):
    command = [CLI, "plugin", "validate", "--strict", "--profile", "directory", str(bundle)]
    env = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_hooks_deny_and_leave_alone(claude, bundle):
    plans.write_pending({"digest": DIGEST, "workspace": "/w"})
    events, _ = claude(
        "hello",
        [
            use("Bash", command=f"python3 {bundle}/scripts/approve.py {DIGEST[:12]}", description="x"),
            use("Bash", command=f"python3 {bundle}/scripts/run_loop.py --workspace /w --yes", description="x"),
            use("Bash", command="echo x >> results/run_1/loop_log.jsonl", description="x"),
            use("Bash", command="echo left-alone", description="x"),
            say("done"),
        ],
    )
    denied = results(events)
    assert [bool(r.get("is_error")) for r in denied] == [True, True, True, False]
    assert "are for the user" in json.dumps(denied[1])
    assert "left-alone" in json.dumps(denied[3])
    assert plans.read_approval(DIGEST) is None


@pytest.mark.parametrize("folder", ["my_line.3 é\U0001f600/x", f"{'long_' * 30}/{'deep' * 20}", "cafe\u0301"])
def test_the_sessions_transcript_is_where_the_token_usage_looks_for_it(claude, tmp_path, monkeypatch, folder):
    claude("hello", [use("Bash", command="true", description="x"), say("done")], cwd=folder)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("CLAUDE_CONFIG_DIR", raising=False)
    collected = usage.collect(usage.transcript_files([], None, tmp_path / folder))
    assert len(collected.messages) == 2
    assert not collected.partial_lines


def test_a_relative_write_after_cd_is_denied(claude, tmp_path):
    run = tmp_path / "project/results/run_20260101_120000"
    (run / "run").mkdir(parents=True)
    (run / "loop_log.jsonl").write_text("{}\n")
    into = [
        use("Bash", command=f"cd {run}/run && echo x > log.lock", description="x"),
        use("Bash", command="cd results/run_20260101_120000", description="x"),
        use("Bash", command="echo x > run/log.lock", description="x"),
        use("Write", file_path=str(run / "run/log.lock"), content="x"),
        use("Bash", command="cat loop_log.jsonl", description="x"),
    ]
    events, _ = claude("hello", [*into, say("done")])
    assert [bool(r.get("is_error")) for r in results(events)] == [True, False, True, True, False]
    assert not (run / "run/log.lock").exists()


@pytest.mark.parametrize(
    ("words", "approved"), [("go", True), ("はい、進めてください", True), ("go, but with 5 iterations", False)]
)
def test_the_users_own_words_after_the_summary_are_the_approval(claude, words, approved):
    plans.write_pending({"digest": DIGEST, "workspace": "/w"})
    claude("go", [say("What would you like?")])
    assert plans.read_approval(DIGEST) is None, "nothing had been shown"
    claude("show the plan", [say(f"Pre-Flight Summary … Plan digest {DIGEST} … Reply go to start.")], "--continue")
    _, requests = claude(words, [say("starting")], "--continue")
    record = plans.read_approval(DIGEST)
    assert (record is not None) == approved
    assert ("is approved by the user" if approved else "NOT approved") in json.dumps(requests[-1]["messages"])
    if record:
        assert (record["how"], record["words"]) == ("user_prompt_hook", words)
