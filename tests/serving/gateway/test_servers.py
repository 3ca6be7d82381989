"""The application is the same under another ASGI server: the official client, errors, and clients that leave."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.serving.gateway.endpoints.streams import response_object
from tests.serving.gateway.engines.pools import eventually
from tests.support.in_process import InProcess, Serve, by_our_server, by_uvicorn, running_in_process
from tests.support.scripted import EVENTS, HANG, ScriptedEngine, SeenRequest, answer, chunk, stream, whole

HELLO: list[Any] = [{"role": "user", "content": "hello"}]
USAGE = {"prompt_tokens": 9, "total_tokens": 9}
VECTORS = {"object": "list", "data": [{"object": "embedding", "index": 0, "embedding": [0.5]}], "model": "scripted"}
TEXT = {"id": "cmpl-1", "object": "text_completion", "created": 1, "model": "scripted"}


@pytest.fixture(params=[by_our_server, by_uvicorn], ids=["ours", "uvicorn"])
async def served(request: pytest.FixtureRequest, engine: ScriptedEngine, tmp_path: Path) -> AsyncIterator[InProcess]:
    serve: Serve = request.param
    async with running_in_process(engine.url, tmp_path, serve) as running:
        yield running


@pytest.fixture
async def client(served: InProcess) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=f"{served.url}/v1", api_key=served.key, max_retries=0, timeout=20) as made:
        yield made


async def test_whole_answers(client: openai.AsyncOpenAI, engine: ScriptedEngine) -> None:
    assert [model.id async for model in client.models.list()] == ["scripted"]

    engine.script = lambda _: whole(answer("hello there"))
    chat = await client.chat.completions.with_raw_response.create(model="scripted", messages=HELLO)
    assert chat.parse().choices[0].message.content == "hello there"
    assert chat.headers["x-request-id"].startswith("req_")

    choice = {"index": 0, "text": " world", "finish_reason": "stop", "logprobs": None}
    engine.script = lambda _: whole({**TEXT, "choices": [choice], "usage": {**USAGE, "completion_tokens": 1}})
    assert (await client.completions.create(model="scripted", prompt="hello")).choices[0].text == " world"

    engine.script = lambda _: whole(response_object("Good day."))
    assert (await client.responses.create(model="scripted", input="hello")).output_text == "Good day."

    engine.script = lambda _: whole({**VECTORS, "usage": USAGE})
    embedded = await client.embeddings.create(model="scripted", input="hello", encoding_format="float")
    assert embedded.data[0].embedding == [0.5]

    assert (await client.moderations.create(input="What is the capital of France?")).results[0].flagged is False


async def test_a_stream(client: openai.AsyncOpenAI, engine: ScriptedEngine) -> None:
    engine.script = lambda _: stream(["Hello", " there", "."])

    events = await client.chat.completions.create(model="scripted", messages=HELLO, stream=True)

    texts = [event.choices[0].delta.content or "" async for event in events if event.choices]
    assert "".join(texts) == "Hello there."


async def test_a_body_in_many_messages(client: openai.AsyncOpenAI, engine: ScriptedEngine) -> None:
    engine.script = lambda _: whole(answer("long"))
    text = "word " * 100_000

    asked = await client.chat.completions.create(model="scripted", messages=[{"role": "user", "content": text}])

    assert asked.choices[0].message.content == "long"
    assert engine.seen[-1].body["messages"][0]["content"] == text


async def test_errors(client: openai.AsyncOpenAI, served: InProcess) -> None:
    with pytest.raises(openai.BadRequestError) as bad:
        await client.chat.completions.create(model="scripted", messages=[{"role": "nobody", "content": "a"}])
    assert bad.value.code
    with pytest.raises(openai.NotFoundError):
        await client.models.retrieve("another")
    with pytest.raises(openai.AuthenticationError):
        await client.with_options(api_key="sk-signet-wrong").models.list()


async def test_a_client_that_leaves_stops_its_engine(client: openai.AsyncOpenAI, engine: ScriptedEngine) -> None:
    asked: list[SeenRequest] = []

    def script(request: SeenRequest) -> list[object]:
        asked.append(request)
        return [EVENTS, chunk({"content": "Hello, and "}), chunk({"content": "so on "}), HANG]

    engine.script = script
    events = await client.chat.completions.create(model="scripted", messages=HELLO, stream=True)
    await anext(aiter(events))
    await events.close()

    await eventually(asked[0].client_left.is_set, "the engine is left")
