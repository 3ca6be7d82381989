"""What an engine refuses is no answer while another engine has one, and clients are told of their own mistakes only."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from email.utils import formatdate
from typing import Any

import httpx
import pytest

from tests.serving.gateway.endpoints.streams import message_events, response_events, stream_of
from tests.support.gateways import RunningGateway, start_gateway, stop_gateway
from tests.support.running import answers_ok, wait_until
from tests.support.scripted import CLOSE, EVENTS, ScriptedEngine, SeenRequest, answer, chunk, stream, whole

CHAT = {"messages": [{"role": "user", "content": "hello"}]}
HELLO: dict[str, list[object]] = {
    "/v1/chat/completions": stream(["from the other"]),
    "/v1/messages": stream_of(message_events([("text", ["from the other"])])),
    "/v1/responses": stream_of(response_events(["from the other"])),
}
QUESTIONS = {"/v1/chat/completions": CHAT, "/v1/messages": {**CHAT, "max_tokens": 9}, "/v1/responses": {"input": "hi"}}
REFUSALS = (401, 402, 403, 404, 405, 408, 409, 421, 423, 425, 429, 451, 500, 501, 502, 503, 504, 529)


class Engines:
    """Two engines, of which `refuse` has whichever is asked first refuse, and the other answer."""

    def __init__(self) -> None:
        self.all = [ScriptedEngine(has_plugin=False) for _ in range(2)]
        self.asked: list[SeenRequest] = []

    def scripts(self, first: Callable[[], list[object]], then: Callable[[], list[object]]) -> None:
        self.asked = []

        def script(request: SeenRequest) -> list[object]:
            self.asked.append(request)
            return first() if len(self.asked) == 1 else then()

        for engine in self.all:
            engine.script = script


def refusal(status: int, body: Any = None, **headers: str) -> list[object]:
    data = json.dumps({"error": {"message": "said the engine", "code": status}} if body is None else body).encode()
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    return [f"HTTP/1.1 {status} No\r\ncontent-length: {len(data)}\r\n{lines}\r\n".encode() + data]


@pytest.fixture(scope="module")
def engines() -> Iterator[Engines]:
    both = Engines()
    yield both
    for engine in both.all:
        engine.stop()


@pytest.fixture(scope="module")
def fronted(engines: Engines, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    running = start_gateway(
        tmp_path_factory.mktemp("attempts"),
        *(engine.url for engine in engines.all),
        SIGNET_GATEWAY__CIRCUIT__CONSECUTIVE_FAILURES="1000",
        SIGNET_GATEWAY__CIRCUIT__WINDOW="1000",
        SIGNET_GATEWAY__FAILOVER__RETRY_RATIO="10",
    )
    metrics = f"{running.url}/metrics"
    up = "signet_gateway_engine_up"
    wait_until(lambda: answers_ok(f"{running.url}/readyz/engines"), 10, "an engine is up", running.process)
    wait_until(
        lambda: sum(line.startswith(up) and line.endswith(" 1.0") for line in lines(metrics)) == 2, 10, "both up"
    )
    yield running
    stop_gateway(running)


def lines(url: str) -> list[str]:
    return httpx.get(url).text.splitlines()


def ask(gateway: RunningGateway, path: str = "/v1/chat/completions", **more: Any) -> httpx.Response:
    headers = {"authorization": f"Bearer {gateway.key}"}
    body = {"model": "scripted", **QUESTIONS[path], **more}
    return httpx.post(f"{gateway.url}{path}", json=body, headers=headers, timeout=20)


def code_of(response: httpx.Response) -> tuple[int, str]:
    return response.status_code, response.json()["error"]["code"]


@pytest.mark.parametrize("streams", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("status", REFUSALS)
def test_what_one_engine_refuses_another_is_asked(
    status: int, streams: bool, fronted: RunningGateway, engines: Engines
) -> None:
    good = stream(["from the other"]) if streams else whole(answer("from the other"))
    engines.scripts(lambda: refusal(status), lambda: good)

    answered = ask(fronted, stream=streams)

    assert (answered.status_code, "from the other" in answered.text) == (200, True)
    assert len(engines.asked) == 2


@pytest.mark.parametrize(
    ("status", "ends"),
    [
        (401, (502, "engine_error")),
        (403, (502, "engine_error")),
        (402, (502, "engine_error")),
        (409, (502, "engine_error")),
        (500, (502, "engine_error")),
        (408, (504, "engine_timeout")),
        (429, (503, "engine_overloaded")),
        (404, (404, "model_not_found")),
        (501, (404, "endpoint_not_supported")),
    ],
)
def test_what_all_refuse_is_no_fault_of_the_client(
    status: int, ends: tuple[int, str], fronted: RunningGateway, engines: Engines
) -> None:
    engines.scripts(lambda: refusal(status), lambda: refusal(status))

    assert code_of(ask(fronted)) == ends
    assert len(engines.asked) == 2


def test_that_one_engine_lacks_the_model_does_not_hide_that_the_other_failed(
    fronted: RunningGateway, engines: Engines
) -> None:
    engines.scripts(lambda: refusal(500), lambda: refusal(404))

    assert code_of(ask(fronted)) == (502, "engine_error")


@pytest.mark.parametrize("status", [400, 413, 422])
def test_the_clients_own_mistake_is_told_once_and_cleaned(
    status: int, fronted: RunningGateway, engines: Engines
) -> None:
    said = "temperature\nmust be\tbelow 2, see http://10.0.0.7:8100/docs and " + "x" * 2000
    for body in ({"error": {"message": said, "param": "temperature"}}, {"error": said}, {"message": said}):
        engines.scripts(lambda body=body: refusal(status, body), lambda: whole(answer("no")))

        refused = ask(fronted)

        assert code_of(refused) == (status, "invalid_request")
        message = refused.json()["error"]["message"]
        assert message.startswith("temperature must be below 2, see [address]")
        assert len(message) <= 500
        assert len(engines.asked) == 1


def test_an_engines_code_is_not_shown(fronted: RunningGateway, engines: Engines) -> None:
    trace = 'Traceback (most recent call last):\n  File "/srv/vllm/x.py", line 3, in f'
    engines.scripts(lambda: refusal(400, {"error": {"message": trace}}), lambda: whole(answer("no")))
    assert ask(fronted).json()["error"]["message"] == "The engine refused the request with status 400."

    detail = [{"loc": ["body", "top_k"], "msg": "must be positive", "input": "secret"}]
    engines.scripts(lambda: refusal(422, {"detail": detail}), lambda: whole(answer("no")))
    assert ask(fronted).json()["error"]["message"] == "top_k: must be positive"


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("in_seconds", [True, False], ids=["seconds", "date"])
def test_engines_are_left_alone_for_as_long_as_they_ask(
    status: int, in_seconds: bool, engines: Engines, tmp_path: Any
) -> None:
    gateway = start_gateway(tmp_path, engines.all[0].url)
    try:
        wait_until(lambda: answers_ok(f"{gateway.url}/readyz/engines"), 10, "the engine is up", gateway.process)
        wait_s = "30" if in_seconds else formatdate(time.time() + 30, usegmt=True)
        engines.scripts(lambda: refusal(status, retry_after=wait_s), lambda: whole(answer("too early")))

        first, second = ask(gateway), ask(gateway)

        for exchange in (first, second):
            assert code_of(exchange) == (503, "engine_overloaded")
            assert 25 <= int(exchange.headers["retry-after"]) <= 30
        assert len(engines.asked) == 1
    finally:
        stop_gateway(gateway)


BROKEN: dict[str, list[object]] = {
    "closes": [EVENTS, CLOSE],
    "ends": [EVENTS, b": alive\n\n", CLOSE],
    "an-error": [EVENTS, b'data: {"error": {"message": "CUDA out of memory", "code": 500}}\n\n'],
    "a-named-error": [EVENTS, b'event: error\ndata: {"type": "error", "error": {"message": "overloaded"}}\n\n'],
    "no-json": [EVENTS, b"data: <html>\n\n"],
    "half-an-event": [EVENTS, b'data: {"choi', CLOSE],
}


@pytest.mark.parametrize("path", HELLO)
@pytest.mark.parametrize("name", BROKEN)
def test_a_stream_that_fails_before_it_begins_is_asked_for_elsewhere(
    name: str, path: str, fronted: RunningGateway, engines: Engines
) -> None:
    engines.scripts(lambda: BROKEN[name], lambda: HELLO[path])

    answered = ask(fronted, path, stream=True)

    assert (answered.status_code, answered.text.count("from the other") >= 1) == (200, True), answered.text
    assert "error" not in answered.text
    assert len(engines.asked) == 2


def test_a_stream_of_which_only_the_role_came_is_asked_for_elsewhere(fronted: RunningGateway, engines: Engines) -> None:
    role = chunk({"role": "assistant", "content": ""})
    engines.scripts(lambda: [EVENTS, role, CLOSE], lambda: HELLO["/v1/chat/completions"])
    answered = ask(fronted, stream=True)
    assert answered.text.count('"role"') == 1
    assert "from the other" in answered.text

    events = message_events([("text", ["from the other"])])
    engines.scripts(lambda: [EVENTS, *events[:2], CLOSE], lambda: stream_of(events))
    answered = ask(fronted, "/v1/messages", stream=True)
    assert answered.text.count('"message_start"') == 1
    assert "from the other" in answered.text


@pytest.mark.parametrize("path", HELLO)
def test_a_stream_that_no_engine_begins_ends_in_a_status(path: str, fronted: RunningGateway, engines: Engines) -> None:
    engines.scripts(lambda: [EVENTS, CLOSE], lambda: [EVENTS, CLOSE])

    answered = ask(fronted, path, stream=True)

    assert answered.status_code == 502
    assert answered.headers["content-type"] == "application/json"
    assert 2 <= len(engines.asked) <= 6


def test_what_was_begun_twice_is_paid_once(fronted: RunningGateway, engines: Engines) -> None:
    usage = b'{"id": "1", "choices": [], "usage": {"prompt_tokens": 900, "completion_tokens": 900}}'
    engines.scripts(
        lambda: [EVENTS, b"data: " + usage + b"\n\n", CLOSE], lambda: stream(["from the other"], usage=False)
    )

    asked = ask(fronted, stream=True, stream_options={"include_usage": True})

    found = httpx.get(
        f"{fronted.url}/admin/usage", headers={"authorization": f"Bearer {fronted.key}"}, params={"by": "tenant"}
    )
    assert "from the other" in asked.text
    assert "900" not in found.text
