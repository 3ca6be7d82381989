from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from serving.engine.address import Address, free_port
from serving.engine.first_answer import FIRST_REQUEST, FIRST_TEXT, first_request, warm_up
from serving.engine.resolve import ModelSource

KEY = "of this start"
BOT = ModelSource(Path("absent"), "bot")


class Engine(http.server.ThreadingHTTPServer):
    """Keeps what it is asked, and answers with `status`."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.status = 200
        self.asked: list[tuple[str, str | None, dict[str, Any]]] = []

    @property
    def address(self) -> Address:
        return Address("127.0.0.1", self.server_port)


class Handler(http.server.BaseHTTPRequestHandler):
    server: Engine
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.asked.append((self.path, self.headers["authorization"], body))
        self.send_response(self.server.status)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def engine() -> Iterator[Engine]:
    with Engine() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_an_engine_samples_for_one_sequence_and_for_several(engine: Engine) -> None:
    warm_up(engine.address, BOT, KEY)

    assert [(path, key) for path, key, _ in engine.asked] == [("/v1/chat/completions", f"Bearer {KEY}")] * 2
    bodies = [body for _, _, body in engine.asked]
    assert [body["n"] for body in bodies] == [1, 2]
    for body in bodies:
        assert body["model"] == "bot"
        assert body["messages"] == FIRST_REQUEST["messages"]
        assert body["temperature"] > 0
        assert body["top_p"] < 1
        assert body["max_tokens"] <= 4


def test_an_engine_that_writes_no_text_is_asked_once(engine: Engine) -> None:
    engine.status = 404

    warm_up(engine.address, BOT, KEY)

    assert len(engine.asked) == 1


def test_an_engine_that_died_is_left_to_whoever_watches_it() -> None:
    warm_up(Address("127.0.0.1", free_port()), BOT, KEY)


@pytest.mark.parametrize(
    ("files", "path"),
    [
        ({}, "/v1/chat/completions"),
        ({"tokenizer_config.json": {"chat_template": "{{ messages }}"}}, "/v1/chat/completions"),
        ({"tokenizer_config.json": {"eos_token": "<|endoftext|>"}, "chat_template.jinja": ""}, "/v1/chat/completions"),
        ({"tokenizer_config.json": {"eos_token": "<|endoftext|>"}}, "/v1/completions"),
    ],
)
def test_a_model_without_a_template_is_asked_to_go_on_with_a_text(
    tmp_path: Path, engine: Engine, files: dict[str, Any], path: str
) -> None:
    for name, content in files.items():
        (tmp_path / name).write_text(json.dumps(content))

    warm_up(engine.address, ModelSource(tmp_path, "bot"), KEY)

    assert {asked for asked, _, _ in engine.asked} == {path}
    assert first_request(tmp_path)[1] is (FIRST_TEXT if path == "/v1/completions" else FIRST_REQUEST)
