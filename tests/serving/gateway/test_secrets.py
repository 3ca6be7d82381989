"""Whatever becomes of a request: what was written, answered or presented as a key is in no log, metric or record."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from tests.support.gateways import RunningGateway, start_gateway, stop_gateway
from tests.support.running import answers_ok, wait_until
from tests.support.scripted import CLOSE, EVENTS, ScriptedEngine, answer, chunk, head, stream, whole

WORD = "zanzibar"
FATES: dict[str, list[object]] = {
    "answered": whole(answer(f"{WORD} answer")),
    "streamed": stream([WORD, " answer"]),
    "refused": whole({"error": {"message": f"the prompt {WORD} is too long"}}, 400),
    "failed": whole({"error": {"message": f"Traceback: {WORD}"}}, 500),
    "garbage": [head(length=20) + f"{WORD} <garbage>   ".encode()[:20]],
    "broken": [EVENTS, chunk({"content": WORD}), CLOSE],
    "bad-event": [EVENTS, chunk({"content": WORD}), b"data: {" + WORD.encode() + b"\n\n"],
    "no-answer": [CLOSE],
}


@pytest.fixture
def logging_all(engine: ScriptedEngine, tmp_path: Path) -> Iterator[RunningGateway]:
    gateway = start_gateway(tmp_path, engine.url, SIGNET_TELEMETRY__LOG_LEVEL="debug")
    wait_until(lambda: answers_ok(f"{gateway.url}/readyz/engines"), 10, "the engine is up", gateway.process)
    yield gateway
    if gateway.process.poll() is None:
        stop_gateway(gateway)


def test_nothing_written_leaves_a_trace(logging_all: RunningGateway, engine: ScriptedEngine) -> None:
    gateway, url = logging_all, f"{logging_all.url}/v1/chat/completions"
    key = {"authorization": f"Bearer {gateway.key}"}
    asked = {"model": "scripted", "messages": [{"role": "user", "content": f"{WORD} jane@{WORD}.org"}], "user": WORD}
    statuses = []
    for fate, script in FATES.items():
        engine.script = lambda _, script=script: script  # type: ignore[misc]
        question = {**asked, "stream": fate in ("streamed", "broken", "bad-event")}
        statuses.append(httpx.post(url, json=question, headers={**key, "x-note": WORD}, timeout=20).status_code)
    refused = [
        httpx.post(url, content=f'{{"model": "{WORD}", '.encode(), headers=key),
        httpx.post(url, json={**asked, "model": f"{WORD}-model"}, headers=key),
        httpx.post(url, json={**asked, "n": WORD}, headers=key),
        httpx.post(url, json={**asked, f"{WORD}_field": 1, "prompt": WORD, "temperature": WORD}, headers=key),
        httpx.post(url, json=asked, headers={"authorization": f"Bearer sk-signet-{WORD}"}),
        httpx.post(url, json=asked, headers={**key, "x-signet-mark": WORD}),
        httpx.get(f"{gateway.url}/{WORD}?token={WORD}", headers=key),
        httpx.post(f"{url}?api_key={WORD}", json=asked, headers=key),
    ]
    metrics = httpx.get(f"{gateway.url}/metrics").text
    assert stop_gateway(gateway) == 0

    assert {200, 400, 502} <= set(statuses)
    assert 401 in {answer.status_code for answer in refused}
    with closing(sqlite3.connect(gateway.home / "signet.db")) as database:
        recorded = "\n".join(database.iterdump())
    log = (gateway.home / "gateway.log").read_text()
    for place, text in {"log": log, "metrics": metrics, "database": recorded}.items():
        found = [line for line in text.splitlines() if WORD in line or gateway.key in line]
        assert not found, (place, found[:3])
    assert log
