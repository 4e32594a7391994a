"""A loopback server that speaks the Messages API from a transcript: the real SDK and the real runner talk to it.

It binds to 127.0.0.1 only. Each request is compared with what the next turn expects; a difference, a request after
the last turn, or a path that is not the Messages API is a drift: it is recorded, and the caller gets an error that
it does not retry.
"""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from deft_aoi.agent.transcript import Transcript, Turn, captured, substitute

GOES_ON = "[program] The session goes on from disk."
PRINTED = "The last command printed:\n"
"""How the runner begins a new conversation, and what it puts before the output of the last commands."""

USAGE = {"input_tokens": 100, "output_tokens": 20, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0}


@dataclass
class Script:
    """Progress of a replay: the next turn, the values captured so far, the drift that ended it."""

    transcript: Transcript
    values: dict[str, str]
    at: int = 0
    drift: str = ""
    results: list[tuple[str, str]] = field(default_factory=list)
    seen: set[str] = field(default_factory=set)
    asked: list[str] = field(default_factory=list)
    prefixes: dict[str, str] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def next_reply(self, request: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """The answer to one request: (HTTP status, message or error body).

        A reply with ``cut`` comes back as a message that carries the mark; the handler breaks the stream.
        """
        with self.lock:
            if self.drift:
                return _refusal(f"transcript drift: {self.drift}")
            if self.at >= len(self.transcript.turns):
                self.drift = f"request {self.at + 1}: the transcript has only {self.at} turns"
                return _refusal(f"transcript drift: {self.drift}")
            calls = self._take_results(request)
            turn = self.transcript.turns[self.at]
            problem = self._compare(turn, request, calls)
            while problem and turn.optional and self.at + 1 < len(self.transcript.turns):
                self.at += 1
                turn = self.transcript.turns[self.at]
                problem = self._compare(turn, request, calls)
            if problem:
                self.drift = f"line {turn.line}: {problem}"
                return _refusal(f"transcript drift: {self.drift}")
            for name, rule in turn.capture.items():
                value = captured(rule, self.results)
                if value is None:
                    self.drift = f"line {turn.line}: nothing to capture for {name} ({json.dumps(rule)})"
                    return _refusal(f"transcript drift: {self.drift}")
                self.values[name] = value
            self.at += 1
            error = turn.reply.get("error")
            if error:
                return int(error["status"]), {"type": "error", "error": {"type": error["type"], "message": error["type"]}}
            message = self._message(turn, str(request.get("model", "")))
            self.asked = [b["name"] for b in message["content"] if b["type"] == "tool_use"]
            return 200, message

    def _take_results(self, request: dict[str, Any]) -> list[dict[str, Any]]:
        """The tool results of the request's last message, with the tools that gave them."""
        names = {}
        for message in request.get("messages", []):
            for block in _blocks(message):
                if block.get("type") == "tool_use":
                    names[block["id"]] = block["name"]
        calls = []
        for block in _blocks((request.get("messages") or [{}])[-1]):
            if block.get("type") != "tool_result":
                continue
            content = block.get("content")
            text = content if isinstance(content, str) else "\n".join(b.get("text", "") for b in content or [])
            tool = names.get(block["tool_use_id"], "?")
            calls.append({"tool": tool, "text": text, "is_error": bool(block.get("is_error"))})
            self.asked = []
            if block["tool_use_id"] not in self.seen:  # a retried request shows the same results again
                self.seen.add(block["tool_use_id"])
                self.results.append((tool, text))
        if self.asked and len(request.get("messages", [])) == 1:
            # A new conversation carries what the last commands printed in its first message, not as tool results.
            text = "\n".join(b.get("text", "") for b in _blocks(request["messages"][0]))
            if GOES_ON in text:
                # Only what was printed: a capture looks for the first place, and the prompt comes before it.
                self.results += [(tool, text.partition(PRINTED)[2]) for tool in self.asked]
                self.asked = []
        return calls

    def _compare(self, turn: Turn, request: dict[str, Any], calls: list[dict[str, Any]]) -> str:
        expect = substitute(turn.expect, self.values)
        messages = request.get("messages", [])
        if expect.get("fresh") and len(messages) != 1:
            return f"expected a new conversation, got one of {len(messages)} messages"
        tools = {tool["name"] for tool in request.get("tools", [])}
        role = "reporter" if "write_findings" in tools else "main"
        if expect.get("role", role) != role:
            return f"expected the {expect['role']}'s conversation, got the {role}'s"
        if "approve" in tools or "repair_run" in tools:
            return "the model was offered a tool that is for people"
        prefix = json.dumps([request.get("system"), request.get("tools")])
        if not request.get("stream") or not request.get("cache_control") or '"cache_control"' not in prefix:
            return "expected a streamed request whose prompt is cached"
        if self.prefixes.setdefault(role, prefix) != prefix:
            return f"the {role}'s instructions or tools changed within the session: nothing of it would be cached"
        if "results" in expect and not (expect.get("fresh") and not calls):
            found = [(c["tool"], _exit_of(c["text"])) for c in calls]
            wanted = [(r["tool"], r.get("exit")) for r in expect["results"]]
            if [t for t, _ in found] != [t for t, _ in wanted]:
                return f"expected results of {[t for t, _ in wanted]}, got {found}"
            for call, rule in zip(calls, expect["results"], strict=True):
                code = _exit_of(call["text"])
                if rule.get("exit") is not None and code is not None and code != rule["exit"]:
                    return f"{rule['tool']}: expected exit {rule['exit']}, got {code}: {call['text'][:300]}"
                problem = _contains(rule, call["text"])
                if problem:
                    return f"{rule['tool']}: {problem}: {call['text'][:400]}"
        if "user" in expect:
            text = "\n".join(b.get("text", "") for b in _blocks((messages or [{}])[-1]) if b.get("type") == "text")
            problem = _contains(expect["user"], text)
            if problem:
                return f"user message: {problem}: {text[:300]}"
        return ""

    def _message(self, turn: Turn, model: str) -> dict[str, Any]:
        content = []
        recorded = self.transcript.header.get("recorded_workspace")
        try:
            blocks = substitute(turn.reply.get("content", []), self.values)
            if recorded:
                blocks = json.loads(
                    json.dumps(blocks).replace(json.dumps(recorded)[1:-1], json.dumps(self.values["workspace"])[1:-1])
                )
            for index, block in enumerate(blocks):
                content.append({**block, "id": f"toolu_{turn.line:04d}_{index}"} if block["type"] == "tool_use" else block)
        except KeyError as error:
            self.drift = f"line {turn.line}: the reply uses {error}, which nothing captured"
        stop = "tool_use" if any(b["type"] == "tool_use" for b in content) else "end_turn"
        return {
            "id": f"msg_{turn.line:04d}",
            "type": "message",
            "role": "assistant",
            "model": model,
            "content": content,
            "stop_reason": turn.reply.get("stop_reason", stop),
            "stop_sequence": None,
            "usage": {**USAGE, **turn.reply.get("usage", {})},
            "_cut": bool(turn.reply.get("cut")),
        }


def _blocks(message: dict[str, Any]) -> list[dict[str, Any]]:
    content = message.get("content", [])
    return [{"type": "text", "text": content}] if isinstance(content, str) else list(content)


def _exit_of(text: str) -> int | None:
    """The exit code that a script's result begins with; None for the results of other tools."""
    first = text.split("\n", 1)[0].split()
    return int(first[1]) if len(first) >= 2 and first[0] == "exit" and first[1].isdigit() else None


def _contains(rule: dict[str, Any], text: str) -> str:
    for wanted in rule.get("contains", []):
        if wanted not in text:
            return f"does not contain {wanted!r}"
    for unwanted in rule.get("lacks", []):
        if unwanted in text:
            return f"contains {unwanted!r}"
    return ""


def _refusal(message: str) -> tuple[int, dict[str, Any]]:
    return 400, {"type": "error", "error": {"type": "invalid_request_error", "message": message}}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: ReplayServer

    def log_message(self, *_: Any) -> None:
        """Says nothing on stderr."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        if self.path.partition("?")[0] != "/v1/messages":
            self.server.script.drift = self.server.script.drift or f"a request for {self.path[:80]}"
            return self._json(*_refusal("only /v1/messages is served"))
        request = json.loads(body)
        status, answer = self.server.script.next_reply(request)
        if status != 200:
            return self._json(status, answer)
        cut = answer.pop("_cut")
        if not request.get("stream"):
            return self._json(200, answer)
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("connection", "close")
        self.end_headers()
        self.close_connection = True
        events = list(_events(answer))
        for name, data in events[: max(1, len(events) // 2)] if cut else events:
            self.wfile.write(f"event: {name}\ndata: {json.dumps(data)}\n\n".encode())
            self.wfile.flush()

    def _json(self, status: int, body: dict[str, Any]) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def _events(message: dict[str, Any]) -> Any:
    """The stream of a message: text and tool input come in two pieces each, as they would over a real wire."""
    yield (
        "message_start",
        {
            "type": "message_start",
            "message": {**message, "content": [], "stop_reason": None, "usage": {**message["usage"], "output_tokens": 1}},
        },
    )
    yield "ping", {"type": "ping"}
    for index, block in enumerate(message["content"]):
        start: dict[str, Any]
        if block["type"] == "text":
            start, whole, kind, key = {"type": "text", "text": ""}, block["text"], "text_delta", "text"
        else:
            start, whole = {**block, "input": {}}, json.dumps(block.get("input", {}))
            kind, key = "input_json_delta", "partial_json"
        yield "content_block_start", {"type": "content_block_start", "index": index, "content_block": start}
        half = len(whole) // 2
        for piece in (whole[:half], whole[half:]):
            yield "content_block_delta", {"type": "content_block_delta", "index": index, "delta": {"type": kind, key: piece}}
        yield "content_block_stop", {"type": "content_block_stop", "index": index}
    yield (
        "message_delta",
        {
            "type": "message_delta",
            "usage": message["usage"],
            "delta": {"stop_reason": message["stop_reason"], "stop_sequence": None},
        },
    )
    yield "message_stop", {"type": "message_stop"}


class ReplayServer(ThreadingHTTPServer):
    """Serves one transcript on a free loopback port; a context manager."""

    daemon_threads = True

    def __init__(self, script: Script) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.script = script

    def handle_error(self, *_: object) -> None:
        """A caller that hangs up while a cut stream is played is part of the play."""

    @property
    def url(self) -> str:
        """The base URL for the SDK."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def __enter__(self) -> ReplayServer:
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()
