"""What an engine is sent, seen from both sides of a running gateway."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.support.gateways import RunningGateway, start_gateway, stop_gateway
from tests.support.running import answers_ok, wait_until
from tests.support.scripted import ScriptedEngine, SeenRequest, answer, whole

HELLO: list[Any] = [{"role": "user", "content": "hello"}]
BODIES: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": HELLO},
    "/v1/completions": {"prompt": "hello"},
    "/v1/responses": {"input": "hello"},
    "/v1/messages": {"messages": HELLO, "max_tokens": 5},
    "/v1/messages/count_tokens": {"messages": HELLO},
    "/v1/embeddings": {"input": "hello"},
    "/tokenize": {"prompt": "hello"},
    "/detokenize": {"tokens": [1, 2]},
}
SALTED = [path for path in BODIES if path not in ("/tokenize", "/detokenize", "/v1/messages/count_tokens")]


@pytest.fixture(autouse=True)
def answers(engine: ScriptedEngine) -> None:
    engine.script = lambda _: whole(answer("hello"))


def post(gateway: RunningGateway, path: str, key: str | None = None, **more: Any) -> httpx.Response:
    return httpx.post(
        gateway.url + path,
        headers={"authorization": f"Bearer {key or gateway.key}"},
        json={"model": "scripted", **BODIES[path], **more},
        timeout=30,
    )


def sent(gateway: RunningGateway, engine: ScriptedEngine, path: str, key: str | None = None, **more: Any) -> Any:
    response = post(gateway, path, key, **more)
    assert response.status_code == 200, response.text
    return engine.seen[-1].body


@pytest.mark.parametrize("path", BODIES)
def test_each_endpoint_leaves_out_what_it_does_not_know(
    gateway: RunningGateway, engine: ScriptedEngine, path: str
) -> None:
    response = post(gateway, path, top_a=0.5, tomorrow={"a": [1]})

    assert response.status_code == 200
    assert response.headers["x-signet-ignored-fields"] == "top_a, tomorrow"
    assert not {"top_a", "tomorrow"} & engine.seen[-1].body.keys()


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize(
    "field",
    [
        {"kv_transfer_params": {"remote_host": "10.0.0.1"}},
        {"priority": -(2**62)},
        {"request_id": "r"},
        {"mm_processor_kwargs": {"a": 1}},
    ],
)
def test_each_endpoint_refuses_what_steers_the_engine(
    gateway: RunningGateway, engine: ScriptedEngine, path: str, field: dict[str, Any]
) -> None:
    asked = len(engine.seen)

    response = post(gateway, path, **field)

    error = response.json()["error"]
    assert (response.status_code, error["code"], error["param"]) == (400, "field_refused", next(iter(field)))
    assert len(engine.seen) == asked


@pytest.mark.parametrize("path", SALTED)
def test_tenants_do_not_share_the_prefix_cache(gateway: RunningGateway, engine: ScriptedEngine, path: str) -> None:
    other = gateway.new_key(tenant="somebody-else")

    salts = [
        sent(gateway, engine, path)["cache_salt"],
        sent(gateway, engine, path, other)["cache_salt"],
        sent(gateway, engine, path, cache_salt="mine")["cache_salt"],
        sent(gateway, engine, path, other, cache_salt="mine")["cache_salt"],
    ]

    assert len(set(salts)) == 4
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{43}", salt) for salt in salts)
    assert sent(gateway, engine, path)["cache_salt"] == salts[0]


@pytest.mark.parametrize("value", ["abc", 1, ["a"], True])
def test_odd_engine_arguments_are_the_clients_mistake(gateway: RunningGateway, value: Any) -> None:
    response = post(gateway, "/v1/chat/completions", vllm_xargs=value)

    assert (response.status_code, response.json()["error"]["param"]) == (400, "vllm_xargs")


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"prompt": ["a"] * 129}, "prompt"),
        ({"prompt": ["a"] * 65, "n": 2}, "prompt"),
        ({"prompt": [[1, 2]] * 129}, "prompt"),
        ({"prompt": ["a"] * 2, "best_of": 65}, "prompt"),
        ({"n": 129}, "n"),
        ({"best_of": 129}, "best_of"),
        ({"n": 128, "max_tokens": 4096, "logprobs": 20}, "n"),
        ({"n": 1, "max_tokens": 2_000_001, "logprobs": 0, "prompt": "a", "prompt_logprobs": 0}, "logprobs"),
    ],
)
def test_what_one_request_may_ask_for_is_bounded(
    gateway: RunningGateway, engine: ScriptedEngine, more: dict[str, Any], param: str
) -> None:
    asked = len(engine.seen)

    response = post(gateway, "/v1/completions", **more)

    assert (response.status_code, response.json()["error"]["param"]) == (400, param)
    assert len(engine.seen) == asked


def tools_of(path: str, **more: Any) -> dict[str, Any]:
    schema = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
    if path == "/v1/messages":
        tools: list[Any] = [{"name": name, "input_schema": schema, **more} for name in ("one", "two")]
    elif path == "/v1/responses":
        tools = [{"type": "function", "name": name, "parameters": schema, **more} for name in ("one", "two")]
        tools.append({"type": "web_search"})
    else:
        tools = [
            {"type": "function", "function": {"name": name, "parameters": schema, **more}} for name in ("one", "two")
        ]
    return {"tools": tools}


def strict_tools(body: dict[str, Any]) -> list[str]:
    functions = [tool.get("function", tool) for tool in body["tools"]]
    return [function["name"] for function in functions if function.get("strict") is True]


FORCED: list[tuple[str, Any, list[str]]] = [
    ("/v1/chat/completions", "required", ["one", "two"]),
    ("/v1/chat/completions", {"type": "function", "function": {"name": "two"}}, ["two"]),
    ("/v1/chat/completions", "auto", []),
    ("/v1/chat/completions", "none", []),
    ("/v1/chat/completions", None, []),
    ("/v1/messages", {"type": "any"}, ["one", "two"]),
    ("/v1/messages", {"type": "tool", "name": "two"}, ["two"]),
    ("/v1/messages", {"type": "auto"}, []),
    ("/v1/responses", "required", ["one", "two"]),
    ("/v1/responses", {"type": "function", "name": "two"}, ["two"]),
    ("/v1/responses", "auto", []),
]


@pytest.mark.parametrize(("path", "choice", "bound"), FORCED)
@pytest.mark.parametrize("strict", [{}, {"strict": False}, {"strict": None}], ids=["unsaid", "false", "null"])
def test_a_forced_tool_is_bound_to_its_schema(
    gateway: RunningGateway, engine: ScriptedEngine, path: str, choice: Any, bound: list[str], strict: dict[str, Any]
) -> None:
    body = sent(gateway, engine, path, tool_choice=choice, **tools_of(path, **strict))

    assert strict_tools(body) == bound


def test_a_schema_that_cannot_be_bound_to_costs_no_answer(gateway: RunningGateway, engine: ScriptedEngine) -> None:
    def refuses_strict(request: SeenRequest) -> list[object]:
        if strict_tools(request.body):
            return whole({"error": {"message": "Invalid grammar specification", "code": 400}}, 400)
        return whole(answer("hello"))

    engine.script = refuses_strict
    path = "/v1/chat/completions"

    assert post(gateway, path, tool_choice="required", **tools_of(path)).status_code == 200

    engine.script = lambda _: whole({"error": {"message": "no", "code": 400}}, 400)
    asked = len(engine.seen)
    assert post(gateway, path, tool_choice="required", **tools_of(path)).status_code == 400
    assert len(engine.seen) == asked + 2
    assert post(gateway, path).status_code == 400
    assert len(engine.seen) == asked + 3


@pytest.fixture(scope="module")
def other_engine() -> Iterator[ScriptedEngine]:
    scripted = ScriptedEngine(has_plugin=False)
    yield scripted
    scripted.stop()


@pytest.fixture(scope="module")
def other(other_engine: ScriptedEngine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    running = start_gateway(
        tmp_path_factory.mktemp("other"),
        other_engine.url,
        SIGNET_GATEWAY__UNKNOWN_FIELDS="refuse",
        SIGNET_GATEWAY__ENGINE_FIELDS=json.dumps(["top_a", "vllm_xargs.draft"]),
        SIGNET_GATEWAY__MEDIA_HOSTS=json.dumps(["cdn.example.org"]),
    )
    wait_until(lambda: answers_ok(f"{running.url}/readyz/engines"), 10, "the gateway sees its engine", running.process)
    yield running
    stop_gateway(running)


def test_one_that_is_no_vllm_gets_nothing_of_vllms(other: RunningGateway, other_engine: ScriptedEngine) -> None:
    path = "/v1/chat/completions"
    body = sent(other, other_engine, path, cache_salt="a", tool_choice="required", **tools_of(path))

    assert body.keys() == {"model", "messages", "tools", "tool_choice"}
    assert strict_tools(body) == []


def test_an_operator_decides_on_fields_and_hosts(other: RunningGateway, other_engine: ScriptedEngine) -> None:
    picture = {"type": "image_url", "image_url": {"url": "https://cdn.example.org/a.png"}}
    messages = [{"role": "user", "content": [picture]}]
    path = "/v1/chat/completions"

    body = sent(other, other_engine, path, messages=messages, top_a=1, vllm_xargs={"draft": 2})

    assert (body["top_a"], body["vllm_xargs"], body["messages"]) == (1, {"draft": 2}, messages)
    refused = post(other, path, top_b=1)
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "unknown_field")
    picture["image_url"] = {"url": "http://169.254.169.254/"}
    refused = post(other, path, messages=messages)
    assert refused.json()["error"]["code"] == "media_not_allowed"
    assert refused.json()["error"]["param"] == "messages[0].content[0].image_url.url"
