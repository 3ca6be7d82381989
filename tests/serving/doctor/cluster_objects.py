"""A server that answers as the Kubernetes API does, with objects in the shapes that a cluster's are."""

from __future__ import annotations

import json
import threading
import time
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import yaml

Json = dict[str, Any]
NAMESPACE = "llm"
# Pods have fewer labels than what makes them: a Deployment's selector never changes.
SELECTED = {"app.kubernetes.io/name": "signet", "app.kubernetes.io/instance": "chat"}
OURS = {**SELECTED, "app.kubernetes.io/part-of": "signet"}


class ApiServer:
    """`objects`: by path, with a list for a collection; `forbidden`: ends of paths that answer 403."""

    def __init__(self, namespace: str = NAMESPACE) -> None:
        self.namespace = namespace
        self.objects: dict[str, Any] = {}
        self.forbidden: tuple[str, ...] = ()
        self.clock_s = 0.0
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                parts = urlsplit(self.path)
                status, body = outer.answer(parts.path, parse_qs(parts.query))
                data = body.encode() if isinstance(body, str) else json.dumps(body).encode()
                self.send_response(status)
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def date_time_string(self, timestamp: float | None = None) -> str:
                return super().date_time_string(time.time() + outer.clock_s)

            def log_message(self, *_: object) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def answer(self, path: str, query: dict[str, list[str]]) -> tuple[int, Any]:
        if path.endswith(self.forbidden) if self.forbidden else False:
            return 403, {"kind": "Status", "message": "secret detail"}
        if path not in self.objects:
            return 404, {"kind": "Status"}
        found = self.objects[path]
        if not isinstance(found, list):
            return 200, found
        wanted = dict(term.split("=") for term in "".join(query.get("labelSelector", [])).split(",") if term)
        about = "".join(query.get("fieldSelector", [])).partition(",")[0].partition("=")[2]
        items = [
            item
            for item in found
            if wanted.items() <= (item["metadata"].get("labels") or {}).items()
            and about in ("", item.get("involvedObject", {}).get("name"))
        ]
        return 200, {"items": items}

    def add(self, resource: str, *items: Json, group: str = "api/v1") -> None:
        self.objects.setdefault(f"/{group}/namespaces/{self.namespace}/{resource}", []).extend(items)

    def kubeconfig(self, folder: Path) -> Path:
        file = folder / "kubeconfig"
        named = {
            "current-context": "test",
            "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{self._server.server_port}"}}],
            "users": [{"name": "u", "user": {"token": "hunter2"}}],
            "contexts": [{"name": "test", "context": {"cluster": "c", "user": "u", "namespace": self.namespace}}],
        }
        file.write_text(yaml.safe_dump(named))
        return file

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def ago(seconds: float) -> str:
    return (datetime.now(UTC) - timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")


def pod(name: str, component: str = "gateway", **changes: Any) -> Json:
    """A pod that runs and is ready, with parts of `status` and `spec` replaced."""
    status = {
        "phase": "Running",
        "conditions": [
            {"type": "PodScheduled", "status": "True"},
            {"type": "Ready", "status": "True", "lastTransitionTime": ago(3600)},
        ],
        "containerStatuses": [
            {"name": component, "ready": True, "started": True, "restartCount": 0, "state": {"running": {}}}
        ],
        **changes.get("status", {}),
    }
    spec = {"dnsPolicy": "ClusterFirst", "nodeName": "node-1", "containers": [], **changes.get("spec", {})}
    labels = {**SELECTED, "app.kubernetes.io/component": component}
    return {"metadata": {"name": name, "namespace": NAMESPACE, "labels": labels}, "spec": spec, "status": status}


def named(name: str, spec: Json | None = None, status: Json | None = None, **labels: str) -> Json:
    """Any other object of the release."""
    metadata = {"name": name, "namespace": NAMESPACE, "labels": {**OURS, **labels}}
    return {"metadata": metadata, "spec": spec or {}, "status": status or {}}
