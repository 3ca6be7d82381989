"""A served model that does what a test says, over real HTTP."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Reply = str | tuple[int, dict[str, str], Any]
"""The text of an answer, or status, headers and body."""


@dataclass
class Served:
    """What was asked, and what is answered."""

    reply: Callable[[dict[str, Any]], Reply]
    requests: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)
    url: str = ""


def completion(text: str, **choice: Any) -> dict[str, Any]:
    message = {"role": "assistant", "content": text}
    return {"model": "served", "choices": [{"message": message, "finish_reason": "stop", **choice}]}


def refused(status: int, code: str, **headers: str) -> Reply:
    return status, headers, {"error": {"message": "no", "type": "invalid_request_error", "code": code}}


Serve = Callable[[Callable[[dict[str, Any]], Reply]], Served]


class ModelServers:
    """Starts servers, and stops them all."""

    def __init__(self) -> None:
        self._servers: list[ThreadingHTTPServer] = []

    def start(self, reply: Callable[[dict[str, Any]], Reply]) -> Served:
        served = Served(reply)

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *arguments: Any) -> None: ...

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                served.requests.append(body)
                served.keys.append(self.headers["authorization"])
                answer = served.reply(body)
                status, headers, sent = (200, {}, completion(answer)) if isinstance(answer, str) else answer
                data = sent if isinstance(sent, bytes) else json.dumps(sent).encode()
                self.send_response(status)
                for name, value in {"content-length": str(len(data)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(data)

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        self._servers.append(server)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        served.url = f"http://127.0.0.1:{server.server_port}/v1"
        return served

    def stop(self) -> None:
        for server in self._servers:
            server.shutdown()
            server.server_close()
