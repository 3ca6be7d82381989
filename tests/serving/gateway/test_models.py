"""`GET /v1/models/{id}`, by OpenAI's client and by hand."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from http.client import HTTPResponse
from pathlib import Path
from urllib.parse import quote

import httpx
import openai
import pytest

from tests.support.gateways import RunningGateway, start_gateway, stop_gateway
from tests.support.running import answers_ok, wait_until
from tests.support.scripted import ScriptedEngine

ALIASES = ["org/model-7b", "/models/llama", "team:chat@1", "model+lora", "模型"]


@pytest.fixture(scope="module")
def named(engine: ScriptedEngine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    """A gateway whose models have names that a path makes trouble of."""
    home: Path = tmp_path_factory.mktemp("named")
    lines = "".join(f"    '{name}': scripted\n" for name in ALIASES)
    (home / "signet.yaml").write_text(f"gateway:\n  prompts: builtin\n  models:\n{lines}")
    running = start_gateway(home, engine.url)
    wait_until(lambda: answers_ok(f"{running.url}/readyz/engines"), 10, "the gateway sees its engine", running.process)
    yield running
    stop_gateway(running)


def raw(gateway: RunningGateway, path: str, key: str = "", method: str = "GET") -> int:
    """The status of a path that no client rewrites."""
    host, _, port = gateway.url.removeprefix("http://").partition(":")
    line = f"Authorization: Bearer {key or gateway.key}"
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(f"{method} {path} HTTP/1.1\r\nHost: a\r\n{line}\r\n\r\n".encode())
        response = HTTPResponse(connection, method=method)
        response.begin()
        return response.status


def test_the_official_client_retrieves_every_model_that_is_listed(named: RunningGateway) -> None:
    client = named.client()
    listed = [model.id for model in client.models.list()]

    assert {"scripted", *ALIASES} <= set(listed)
    assert any(name.startswith("prompt:") for name in listed)
    for name in listed:
        found = client.models.retrieve(name)
        assert (found.id, found.object) == (name, "model")


@pytest.mark.parametrize("name", ALIASES)
def test_a_slash_may_be_encoded_or_not(named: RunningGateway, name: str) -> None:
    assert raw(named, f"/v1/models/{quote(name, safe='')}") == 200
    assert raw(named, f"/v1/models/{quote(name, safe='/')}") == 200


def test_a_template_is_found_with_and_without_its_version(named: RunningGateway) -> None:
    client = named.client()
    assert client.models.retrieve("prompt:answer").id == "prompt:answer"
    assert client.models.retrieve("prompt:answer@1").id == "prompt:answer@1"
    for name in ("prompt:answer@99", "prompt:nobody", "prompt:"):
        with pytest.raises(openai.NotFoundError):
            client.models.retrieve(name)


def test_what_a_key_may_not_use_is_not_there(named: RunningGateway) -> None:
    key = named.new_key("--model", "org/*")
    client = named.client(key)

    assert client.models.retrieve("org/model-7b").id == "org/model-7b"
    told = []
    for name in ("scripted", "nobody"):
        with pytest.raises(openai.NotFoundError) as caught:
            client.models.retrieve(name)
        assert caught.value.code == "model_not_found"
        told.append(caught.value.message.replace(name, "x"))
    assert told[0] == told[1]


def test_it_needs_a_key_and_takes_get(named: RunningGateway) -> None:
    assert httpx.get(f"{named.url}/v1/models/scripted").status_code == 401
    assert httpx.get(f"{named.url}/v1/models/nobody").status_code == 401
    assert raw(named, "/v1/models/scripted", method="HEAD") == 200
    assert raw(named, "/v1/models/scripted", method="DELETE") == 405
    assert raw(named, "/v1/models/") == 404
