"""An engine that says what a test wants, and what a check says."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from serving.doctor.finding import Finding, NotChecked


class Engine:
    """An engine's health, models and metrics."""

    def __init__(self, **says: Any) -> None:
        models = says.get("models", ["tiny"])
        manifests, key = says.get("manifests", {}), says.get("key")
        metrics = "".join(
            f'signet_engine_manifest_info{{manifest="{digest}",model="{model}"}} 1.0\n'
            for model, digest in manifests.items()
        )
        if says.get("plugin", True):
            metrics += 'signet_engine_plugin_info{schemes="gumbel"} 1.0\n'
        bodies = {
            "/health": "",
            "/metrics": metrics,
            "/v1/models": json.dumps({"data": [{"id": model} for model in models]}),
        }

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                refused = self.path == "/v1/models" and key and self.headers["authorization"] != f"Bearer {key}"
                body = bodies[self.path].encode()
                self.send_response(401 if refused else 200)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def date_time_string(self, timestamp: float | None = None) -> str:
                return super().date_time_string(time.time() + says.get("clock_s", 0.0))

            def log_message(self, *_: object) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.name = f"127.0.0.1:{self._server.server_port}"
        self.url = f"http://{self.name}"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def said(findings: Iterator[Finding]) -> list[tuple[str, str]]:
    """Severity and text of each finding of a check; what was not checked is none."""
    collected = []
    try:
        for finding in findings:
            assert finding.why
            assert finding.fix
            collected.append((finding.severity, finding.what))
    except NotChecked:
        pass
    return collected
