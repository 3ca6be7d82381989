"""An engine beside the files of what it serves: an honest one, one with other weights, and what is no engine."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner

from signet import cli
from training.evaluate import resolve_source
from training.evaluate.loading import load_model
from training.registry import Registry


class Engine(HTTPServer):
    """Scores prompts with a model, as vLLM answers them; `scale` is what it does wrong."""

    def __init__(self, model: Any) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.model = model
        self.scale = 1.0
        self.names = ["tiny"]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: Engine

    def do_GET(self) -> None:
        self._say(200, {"data": [{"id": name} for name in self.server.names]})

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if self.headers["authorization"] != "Bearer secret":
            self._say(401, {"error": {"message": "Unauthorized"}})
            return
        ids = asked["prompt"]
        with torch.inference_mode():
            logits_LV = self.server.model(torch.tensor([ids])).logits[0] * self.server.scale
        scores_LV = logits_LV.log_softmax(-1)
        positions = [
            None,
            *({str(token): {"logprob": float(scores_LV[at, token])}} for at, token in enumerate(ids[1:])),
        ]
        self._say(200, {"choices": [{"text": "", "prompt_logprobs": positions}]})

    def _say(self, status: int, body: object) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@pytest.fixture
def engine(tiny: Registry) -> Iterator[Engine]:
    server = Engine(load_model(resolve_source("tiny", tiny, False), torch.float32).eval())
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def test_an_engine_agrees_with_its_files_or_is_not_promoted(
    engine: Engine, tiny: Registry, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SIGNET_HOME", str(home))

    def run(command: str, key: str = "secret") -> tuple[int, str]:
        arguments = ["registry", command, "tiny@1", "--engine-url", engine.url, "--engine-key", key]
        done = CliRunner().invoke(cli, arguments)
        return done.exit_code, done.output

    code, said = run("verify")
    assert (code, "agrees with the files" in said) == (0, True), said

    engine.scale = 1.5
    code, said = run("verify")
    assert (code, "does not say what the files say" in said) == (1, True), said
    code, said = run("promote")
    assert (code, "tiny@1 is not promoted" in said) == (1, True), said
    assert not tiny.aliases("tiny")

    engine.scale = 1.0
    assert run("promote")[0] == 0
    assert tiny.aliases("tiny")["production"].version == 1
    code, said = run("verify", key="guess")
    assert (code, "status 401: Unauthorized" in said) == (1, True), said
    engine.names = ["other"]
    code, said = run("verify")
    assert (code, "does not serve tiny@1: it has other" in said) == (1, True), said
