"""Perspective, against a server that answers as Google's: asked seldom, remembered, and its absence said."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from pydantic import SecretStr

from serving.guard.classifiers import PerspectiveSettings
from serving.guard.classifiers.perspective import PerspectiveClassifier, PerspectiveUnavailable

KEY = "perspective-key-for-tests"


class StandIn:
    """Google's service as far as it is used."""

    def __init__(self) -> None:
        self.seen: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.status = 200
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                outer.seen.append(body)
                outer.keys.append(self.headers["x-goog-api-key"])
                score = 0.9 if "stupid" in body["comment"]["text"] else 0.1
                scores = {name: {"summaryScore": {"value": score}} for name in body["requestedAttributes"]}
                answer = json.dumps({"attributeScores": scores}).encode()
                self.send_response(outer.status)
                self.send_header("content-length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1alpha1/comments:analyze"
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def service() -> Iterator[StandIn]:
    made = StandIn()
    yield made
    made.stop()


def classifier(service: StandIn, now: list[float], **settings: Any) -> PerspectiveClassifier:
    made = PerspectiveSettings(key=SecretStr(KEY), url=service.url, **settings)
    return PerspectiveClassifier(made, lambda: now[0])


def test_scores_come_from_the_service_and_are_remembered(service: StandIn) -> None:
    asked = classifier(service, [0.0], requests_per_second=1000)

    assert asked.scores(["you are stupid"]) == [{"toxicity": 0.9, "hate": 0.9, "threat": 0.9}]
    assert asked.scores(["you are stupid", ""])[1]["toxicity"] == 0.0
    assert len(service.seen) == 1
    assert service.seen[0]["doNotStore"] is True
    assert service.keys == [KEY]


def test_it_is_asked_no_more_often_than_allowed(service: StandIn) -> None:
    now = [0.0]
    asked = classifier(service, now, requests_per_second=2)
    asked.scores(["one"])

    with pytest.raises(PerspectiveUnavailable, match="rate limit"):
        asked.scores(["two"])
    now[0] = 0.6
    asked.scores(["two"])

    assert [body["comment"]["text"] for body in service.seen] == ["one", "two"]


def test_its_memory_is_bounded(service: StandIn) -> None:
    now = [0.0]
    asked = classifier(service, now, cached_texts=1)
    for text in ("one", "two", "one"):
        now[0] += 10
        asked.scores([text])

    assert len(service.seen) == 3


def test_a_failure_says_neither_text_nor_key(service: StandIn) -> None:
    service.status = 403
    asked = classifier(service, [0.0])

    with pytest.raises(PerspectiveUnavailable) as failed:
        asked.scores(["the secret text"])
    assert "status 403" in str(failed.value)
    assert "secret" not in str(failed.value)
    assert KEY not in str(failed.value)


def test_nobody_there_is_a_failure(service: StandIn) -> None:
    settings = PerspectiveSettings(key=SecretStr(KEY), url="http://127.0.0.1:9/analyze", timeout_s=1)

    with pytest.raises(PerspectiveUnavailable):
        PerspectiveClassifier(settings).scores(["text"])
