"""What is reserved before a request goes on: the most that it can cost, whatever its body shows."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from serving.gateway.context import RequestContext
from serving.gateway.endpoints import ENDPOINTS
from serving.gateway.errors import BadRequest
from serving.gateway.steps.media import media_of
from serving.gateway.steps.reserve import Reserver
from serving.identity import Limiter, Principal
from serving.identity.principal import Budget
from serving.ledger import ModelPrice, PriceList
from tests.support.gateways import RunningGateway
from tests.support.scripted import ScriptedEngine, answer, whole

PICTURE = "data:image/png;base64," + "iVBORw0KGgo" * 40_000
"""440 KB, which would be 110,000 tokens were it text."""
NANOS = 1000
"""A token of prompt or answer, at a dollar for a million."""


class Engine:
    def __init__(self, window: int | None) -> None:
        self.cards: dict[str, dict[str, Any]] = {"m": {} if window is None else {"max_model_len": window}}

    def serves(self, model: str) -> bool:
        return model in self.cards


async def reserved(body: dict[str, Any], *windows: int | None, path: str = "/v1/chat/completions", **more: Any) -> int:
    """Nano-dollars that a request holds of a budget."""
    prices = PriceList({"m": ModelPrice(prompt_per_million="1", completion_per_million="1")})
    pool = SimpleNamespace(engines=[Engine(window) for window in windows])
    limiter = Limiter(answer_tokens=100)
    context = RequestContext(ENDPOINTS[path], {}, json.dumps(body).encode())
    context.question.body, context.question.model = body, "m"
    for name, value in more.items():
        setattr(context if name == "raw_body" else context.question, name, value)
    context.principal = Principal("key_1", "acme", budgets=(Budget("tenant", "acme", "total", 10**12),))
    await Reserver(limiter, prices, pool).reserve(context)  # type: ignore[arg-type]
    assert context.lease is not None
    return context.lease.granted


def asks(*parts: Any) -> dict[str, Any]:
    return {"model": "m", "messages": [{"role": "user", "content": list(parts)}], "max_tokens": 10}


MEDIA: dict[str, Any] = {
    "a picture by URL": {"type": "image_url", "image_url": {"url": "https://x.example/a.png"}},
    "without a type": {"image_url": "https://x.example/a.png"},
    "Anthropic's picture": {"type": "image", "source": {"type": "url", "url": "https://x.example/a.png"}},
    "Anthropic's document": {"type": "document", "source": {"type": "base64", "data": "AAAA"}},
    "a picture of a tool": {"type": "tool_result", "content": [{"type": "image", "source": {"type": "url"}}]},
    "sound": {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
    "a file's id": {"type": "file", "file": {"file_id": "file-1"}},
    "a file": {"type": "input_file", "file_data": "AAAA"},
    "a video": {"type": "video_url", "video_url": {"url": "https://x.example/a.mp4"}},
    "a type of tomorrow": {"type": "hologram", "hologram": "AAAA"},
    "no type at all": {"type": 7},
}


@pytest.mark.parametrize("name", MEDIA)
async def test_media_reserve_all_that_the_model_can_read(name: str) -> None:
    assert await reserved(asks(MEDIA[name]), 8192) == (8192 + 10) * NANOS


@pytest.mark.parametrize("windows", [(), (None,), (8192, None)])
async def test_media_whose_cost_nobody_knows_are_refused(windows: tuple[int | None, ...]) -> None:
    with pytest.raises(BadRequest, match="under a budget") as refused:
        await reserved(asks(MEDIA["a picture by URL"]), *windows)

    assert refused.value.code == "cost_unknown"


@pytest.mark.parametrize(
    "part",
    [
        {"type": "text", "text": "image_url"},
        {"type": "tool_use", "name": "draw", "input": {"type": "circle", "image": "x", "file_id": "y"}},
        {"type": "tool_result", "tool_use_id": "1", "content": "text"},
    ],
)
async def test_text_reserves_its_length(part: dict[str, Any]) -> None:
    assert media_of(asks(part)) == (0, 0)
    assert await reserved(asks(part), 100_000) < 1000 * NANOS


async def test_the_words_of_a_template_are_reserved_for() -> None:
    body = asks({"type": "text", "text": "long " * 2000})

    assert await reserved(body, raw_body=b"{}") > 10_000 * NANOS


async def test_every_sequence_is_reserved_for() -> None:
    once = await reserved(asks("hi"), 1000)

    assert await reserved(asks("hi"), 1000, sequences=5) == once + 4 * 10 * NANOS


def post(gateway: RunningGateway, key: str, path: str = "/v1/chat/completions", **body: Any) -> httpx.Response:
    headers = {"authorization": f"Bearer {key}"}
    return httpx.post(f"{gateway.url}{path}", json={"model": "scripted", **body}, headers=headers, timeout=20)


def test_a_picture_is_not_counted_as_text(gateway: RunningGateway, engine: ScriptedEngine) -> None:
    engine.script = lambda _: whole(answer("a cat"))
    key = gateway.new_key("--tokens-per-minute", "5000")
    parts = [{"type": "text", "text": "What is it?"}, {"type": "image_url", "image_url": {"url": PICTURE}}]

    assert post(gateway, key, messages=[{"role": "user", "content": parts}], max_tokens=10).status_code == 200


def test_a_length_beyond_the_window_reserves_the_window(gateway: RunningGateway, engine: ScriptedEngine) -> None:
    engine.script = lambda _: whole(answer("hello"))
    key = gateway.new_key("--tokens-per-minute", "5000")

    assert post(gateway, key, messages=[{"role": "user", "content": "hi"}], max_tokens=1_000_000).status_code == 200


def test_what_can_never_fit_a_limit_is_refused_once_and_for_all(
    gateway: RunningGateway, engine: ScriptedEngine
) -> None:
    engine.script = lambda _: whole(answer("hello"))
    hello = [{"role": "user", "content": "hello"}]
    for option, ask in (
        ("--tokens-per-minute", {"messages": [{"role": "user", "content": "word " * 400}], "max_tokens": 400}),
        ("--requests-per-minute", {"messages": hello, "n": 101}),
        ("--concurrency", {"messages": hello, "n": 101}),
    ):
        refused = post(gateway, gateway.new_key(option, "100"), **ask)

        assert (refused.status_code, refused.json()["error"]["code"]) == (400, "exceeds_limit")
        assert "100" in refused.json()["error"]["message"]
        assert "retry-after" not in refused.headers


@pytest.mark.parametrize(
    "more",
    [
        {"prompt": ["x"] * 65, "n": 2},
        {"prompt": ["x"] * 129},
        {"prompt": [[1, 2]] * 129},
        {"prompt": [1, *["x"] * 128]},
        {"prompt": "x", "best_of": 129},
        {"prompt": ["x"] * 43, "best_of": 3},
        {"prompt": "x", "best_of": "2"},
    ],
)
def test_more_answers_than_a_request_may_have_are_refused(
    more: dict[str, Any], gateway: RunningGateway, engine: ScriptedEngine
) -> None:
    seen = len(engine.seen)

    refused = post(gateway, gateway.key, "/v1/completions", **more)

    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "invalid_request")
    assert len(engine.seen) == seen


LIMITED = [
    ("POST", "/v1/provenance/detect", {"text": "some text"}),
    ("POST", "/v1/moderations", {"input": "some text"}),
    ("POST", "/v1/provenance/verify", {"receipt": "none"}),
    ("GET", "/v1/provenance/receipts/req_1", None),
]


@pytest.mark.parametrize(("method", "path", "body"), LIMITED)
def test_what_no_engine_sees_obeys_limits_too(method: str, path: str, body: Any, gateway: RunningGateway) -> None:
    key = gateway.new_key("--requests-per-minute", "1")

    def call() -> httpx.Response:
        headers = {"authorization": f"Bearer {key}"}
        return httpx.request(method, f"{gateway.url}{path}", headers=headers, json=body, timeout=30)

    first, second = call(), call()

    assert first.status_code != 429
    assert first.headers["x-ratelimit-remaining-requests"] == "0"
    assert (second.status_code, second.json()["error"]["code"]) == (429, "rate_limit_exceeded")
    assert int(second.headers["retry-after"]) > 1


def test_the_length_of_a_text_to_look_at_counts_as_tokens(gateway: RunningGateway) -> None:
    key = gateway.new_key("--tokens-per-minute", "1000")

    refused = post(gateway, key, "/v1/moderations", input="long " * 2000)

    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "exceeds_limit")
