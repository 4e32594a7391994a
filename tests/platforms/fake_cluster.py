"""A Kubernetes API server of one process on the loopback: the few paths that a Job needs, over real HTTP.

It keeps Jobs, Services, Pods, logs and claims in memory and answers as the API does: 409 for a name that exists, 404 for
one that does not, a ``Status`` object with every refusal. Nothing runs; a test says what the cluster did (`run`, `end`, …).
"""

from __future__ import annotations

import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

KINDS = {"jobs": "Job", "services": "Service", "pods": "Pod", "persistentvolumeclaims": "PersistentVolumeClaim"}
_PATH = re.compile(r"/(?:api/v1|apis/batch/v1)/namespaces/(?P<space>[^/]+)/(?P<kind>[a-z]+)(?:/(?P<name>[^/]+)(?P<log>/log)?)?")


class FakeCluster:
    """The server and what it holds.

    Attributes:
        objects: by kind and name.
        logs: text by pod.
        requests: ``METHOD path`` of every call, in order.
        refuse: answer the next creations with this status.
    """

    def __init__(self, folder: Path) -> None:
        self.objects: dict[str, dict[str, dict[str, Any]]] = {kind: {} for kind in KINDS}
        self.logs: dict[str, str] = {}
        self.requests: list[str] = []
        self.refuse: int | None = None
        cluster = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                cluster._answer(self, "GET")

            def do_POST(self) -> None:
                cluster._answer(self, "POST")

            def do_DELETE(self) -> None:
                cluster._answer(self, "DELETE")

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.kubeconfig = folder / "kubeconfig"
        url = f"http://127.0.0.1:{self._server.server_port}"
        self.kubeconfig.write_text(
            json.dumps(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "current-context": "c",
                    "clusters": [{"name": "k", "cluster": {"server": url}}],
                    "users": [{"name": "u", "user": {}}],
                    "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
                }
            )
        )

    def stop(self) -> None:
        """Close the port: from now on the cluster does not answer."""
        self._server.shutdown()
        self._server.server_close()

    def pod(
        self, job: str, *, phase: str = "Pending", waiting: str = "", exit_code: int | None = None, index: int = 0, **said: Any
    ) -> str:
        """What the cluster says of a Job's pod; ``said``: further keys of its status (reason, message, conditions)."""
        name = f"{job}-{index}-abcde"
        state: dict[str, Any] = {"running": {}} if phase == "Running" else {}
        if waiting:
            state = {"waiting": {"reason": waiting}}
        if exit_code is not None:
            state = {"terminated": {"exitCode": exit_code}}
        labels = self.objects["jobs"][job]["spec"]["template"]["metadata"]["labels"]
        status = {"name": "job", "image": "x", "imageID": "x", "ready": False, "restartCount": 0, "state": state}
        self.objects["pods"][name] = {
            "metadata": {"name": name, "labels": labels},
            "status": {"phase": phase, "containerStatuses": [status], **said},
        }
        return name

    def end(
        self, job: str, kind: str = "Complete", reason: str = "", exit_code: int = 0, said: dict[str, Any] | None = None
    ) -> None:
        """The Job's pod has ended, and so has the Job."""
        self.pod(job, phase="Succeeded" if not exit_code else "Failed", exit_code=exit_code, **(said or {}))
        self.objects["jobs"][job]["status"] = {"conditions": [{"type": kind, "status": "True", "reason": reason}]}

    def creations(self, kind: str = "jobs") -> list[str]:
        """Calls that created something of this kind."""
        return [r for r in self.requests if r.startswith("POST") and r.endswith(f"/{kind}")]

    def _answer(self, http: BaseHTTPRequestHandler, method: str) -> None:
        size = int(http.headers.get("Content-Length") or 0)
        body = json.loads(http.rfile.read(size)) if size else {}
        parts = urlsplit(http.path)
        self.requests.append(f"{method} {parts.path}")
        code, answer = self._handle(method, parts.path, parse_qs(parts.query), body)
        plain = isinstance(answer, str | bytes)
        data = answer if isinstance(answer, bytes) else (answer if plain else json.dumps(answer)).encode()
        http.send_response(code)
        http.send_header("Content-Type", "text/plain" if plain else "application/json")
        http.send_header("Content-Length", str(len(data)))
        http.end_headers()
        http.wfile.write(data)

    def _handle(self, method: str, path: str, query: dict[str, list[str]], body: dict[str, Any]) -> tuple[int, Any]:
        if path == "/version/":
            unsaid = dict.fromkeys(("gitCommit", "gitTreeState", "buildDate", "goVersion", "compiler", "platform"), "")
            return 200, {"major": "1", "minor": "31", "gitVersion": "v1.31.0", **unsaid}
        found = _PATH.fullmatch(path)
        if not found or found["kind"] not in KINDS:
            return _refusal(404, f"no such path {path}")
        shelf, name = self.objects[found["kind"]], found["name"]
        if method == "POST":
            return self._create(shelf, body)
        if name is None:
            key, _, value = query.get("labelSelector", ["="])[0].partition("=")
            return 200, {"items": [o for o in shelf.values() if o["metadata"].get("labels", {}).get(key) == value]}
        if name not in shelf:
            return _refusal(404, f"{name} not found")
        if found["log"]:
            return (200, self.logs[name]) if name in self.logs else _refusal(400, "container is waiting to start")
        if method == "DELETE":
            for pod in [p for p in self.objects["pods"] if p.startswith(f"{name}-")]:
                del self.objects["pods"][pod]
            gone = shelf.pop(name)  # as the API does: a Service is answered with itself, a Job with a Status
            return 200, gone if found["kind"] == "services" else {"kind": "Status", "status": "Success"}
        return 200, shelf[name]

    def _create(self, shelf: dict[str, dict[str, Any]], body: dict[str, Any]) -> tuple[int, Any]:
        name = body["metadata"]["name"]
        if self.refuse is not None:
            return _refusal(self.refuse, "exceeded quota: gpu, requested: 1, used: 8, limited: 8")
        if name in shelf:
            return _refusal(409, f"{name} already exists")
        shelf[name] = {**body, "status": {}}
        return 201, shelf[name]


def _refusal(code: int, message: str) -> tuple[int, dict[str, Any]]:
    return code, {"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": message, "code": code}
