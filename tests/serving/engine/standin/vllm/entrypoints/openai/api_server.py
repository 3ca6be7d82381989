"""Stands in for vLLM's server where a test is about starting and stopping: a tree of processes and /health.

Asks for VLLM_API_KEY where vLLM does. Found before the real one by PYTHONPATH. STANDIN_START_SECONDS delays readiness;
STANDIN_ERROR makes the start fail.
"""

from __future__ import annotations

import argparse
import http.server
import os
import signal
import subprocess
import sys
import threading
import time

parser = argparse.ArgumentParser()
parser.add_argument("--port", type=int, required=True)
parser.add_argument("--served-model-name")
options, _ = parser.parse_known_args()

# As vLLM's core: a child that does not notice when its parent goes, and takes no notice of SIGTERM.
core = subprocess.Popen(
    [sys.executable, "-c", "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"]
)
sys.stdout.write(f"core {core.pid}\nINFO Starting to load model\n")
sys.stdout.flush()
time.sleep(float(os.environ.get("STANDIN_START_SECONDS", "0")))
if error := os.environ.get("STANDIN_ERROR"):
    raise RuntimeError(error)


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        key = os.environ.get("VLLM_API_KEY")
        if key and self.path.startswith("/v1") and self.headers["authorization"] != f"Bearer {key}":
            self.send_error(401)
            return
        body = b'{"object": "list", "data": [{"id": "%s"}]}' % str(options.served_model_name).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        sys.stdout.write(f"asked {self.path}\n")
        sys.stdout.flush()
        self.send_error(404)

    def log_message(self, *_: object) -> None:
        pass


def stop(*_: object) -> None:
    core.kill()
    os._exit(0)


def end_with_the_core() -> None:
    core.wait()
    os._exit(1)


signal.signal(signal.SIGTERM, stop)
threading.Thread(target=end_with_the_core, daemon=True).start()
http.server.ThreadingHTTPServer(("127.0.0.1", options.port), Handler).serve_forever()
