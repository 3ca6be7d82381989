"""What kind of text a tool, a thought or an answer is: free text of a tool reaches it as the model wrote it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.gateway.context import RequestContext
from serving.gateway.endpoints import CHAT, ENDPOINTS
from serving.gateway.endpoints.answer import clean_whole
from serving.gateway.endpoints.relay import EventRelay
from serving.gateway.streams import texts
from serving.gateway.streams.answer import clean_answer
from serving.gateway.streams.relay import StreamRelay
from serving.gateway.streams.texts import clean_keys, drop_opaque, texts_alone, texts_within
from serving.guard import Answers, Guard, GuardSettings
from tests.serving.gateway.endpoints.streams import event, response_events
from tests.serving.gateway.streams.engine_shapes import sse
from tests.serving.gateway.streams.leaks import decoded_events

GUARD = Guard(GuardSettings())
# Escapes of a program, and markup in it.
PROGRAM = 's = "caf\\u00e9 \\ud83d\\ude00 \\\\u0041"\n+<script src="https://evil.test/x"></script> ![a](https://evil.test/y)\n'
ARGUMENTS = '{"to": "jane\\u0040example.org", "n": 1}'
SECRET = "# jane@example.org"
STEPS = [1, 7, 100_000]


def chat_stream(pieces: list[dict[str, Any]], step: int) -> list[Any]:
    """The deltas that a client sees."""
    chunk = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    choices = [{"index": 0, "delta": delta, "finish_reason": None} for delta in pieces]
    choices.append({"index": 0, "delta": {}, "finish_reason": "tool_calls"})
    data = sse(*({**chunk, "choices": [choice]} for choice in choices))
    relay = StreamRelay(RequestContext(CHAT, {}, b""), GUARD)
    out = b"".join(relay.feed(data[start : start + step]) for start in range(0, len(data), step))
    relay.finish()
    return [choice["delta"] for decoded in decoded_events(out + relay.close()) for choice in decoded["choices"]]


def cut(text: str, size: int) -> list[str]:
    return [text[start : start + size] for start in range(0, len(text), size)]


def in_pieces(kind: str, field: str, text: str, size: int) -> list[dict[str, Any]]:
    head = {"index": 0, "id": "call_1", "type": kind, kind: {"name": "run", field: ""}}
    return [{"tool_calls": [head]}] + [
        {"tool_calls": [{"index": 0, kind: {field: piece}}]} for piece in cut(text, size)
    ]


def called(deltas: list[Any], kind: str, field: str) -> str:
    calls = [call for delta in deltas for call in delta.get("tool_calls") or ()]
    return "".join(call.get(kind, {}).get(field) or "" for call in calls)


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("size", [1, 5, 1000])
def test_a_custom_tools_input_is_streamed_as_it_was_written(size: int, step: int) -> None:
    deltas = chat_stream(in_pieces("custom", "input", PROGRAM + SECRET, size), step)
    assert called(deltas, "custom", "input") == PROGRAM + "# [EMAIL_ADDRESS]"

    deltas = chat_stream(in_pieces("function", "arguments", ARGUMENTS, size), step)
    assert json.loads(called(deltas, "function", "arguments")) == {"to": "[EMAIL_ADDRESS]", "n": 1}


def test_a_custom_tools_input_is_answered_as_it_was_written() -> None:
    calls = [
        {"id": "1", "type": "custom", "custom": {"name": "run", "input": PROGRAM}},
        {"id": "2", "type": "custom", "custom": {"name": "run", "input": SECRET}},
        {"id": "3", "type": "function", "function": {"name": "f", "arguments": ARGUMENTS}},
    ]
    message = {"role": "assistant", "content": None, "tool_calls": calls}
    body = json.dumps({"choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}]}).encode()

    answer = json.loads(clean_answer(RequestContext(CHAT, {}, b""), GUARD, body).body)

    first, second, third = answer["choices"][0]["message"]["tool_calls"]
    assert first["custom"]["input"] == PROGRAM
    assert second["custom"]["input"] == "# [EMAIL_ADDRESS]"
    assert json.loads(third["function"]["arguments"]) == {"to": "[EMAIL_ADDRESS]", "n": 1}


ITEMS = {
    "custom_tool_call_input": ("custom_tool_call", ("input",)),
    "code_interpreter_call_code": ("code_interpreter_call", ("code",)),
    "apply_patch_call_operation_diff": ("apply_patch_call", ("operation", "diff")),
}


def item(kind: str, path: tuple[str, ...], text: str) -> dict[str, Any]:
    value: Any = text
    for name in reversed(path):
        value = {name: value}
    return {"type": kind, "id": "ct_1", "call_id": "call_1", "name": "run", **value}


def at(tree: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        tree = tree[name]
    return tree


@pytest.mark.parametrize("channel", ITEMS)
@pytest.mark.parametrize("step", STEPS)
def test_a_response_repeats_a_tools_free_text_as_it_streamed_it(channel: str, step: int) -> None:
    kind, path = ITEMS[channel]
    place = {"item_id": "ct_1", "output_index": 0}
    whole = {"id": "resp_1", "object": "response", "status": "completed", "output": [item(kind, path, PROGRAM)]}
    events: list[dict[str, Any]] = [
        *({"type": f"response.{channel}.delta", **place, "delta": piece} for piece in cut(PROGRAM, 3)),
        {"type": f"response.{channel}.done", **place, path[-1]: PROGRAM},
        {"type": "response.output_item.done", "output_index": 0, "item": item(kind, path, PROGRAM)},
        {"type": "response.completed", "response": whole},
    ]
    if channel == "apply_patch_call_operation_diff":
        del events[-3]
    data = b"".join(event({**each, "sequence_number": number}) for number, each in enumerate(events))
    endpoint = ENDPOINTS["/v1/responses"]
    relay = EventRelay(RequestContext(endpoint, {}, b""), GUARD)

    out = b"".join(relay.feed(data[start : start + step]) for start in range(0, len(data), step))
    relay.finish()

    assert out + relay.close() == data
    body = json.dumps(whole).encode()
    assert clean_whole(RequestContext(endpoint, {}, b""), GUARD, body).body == body


def json_answers() -> Answers:
    settings = GuardSettings.model_validate({"input": {"email_address": "pseudonymize"}})
    asked = {"response_format": {"type": "json_object"}, "messages": [{"role": "user", "content": "jane@example.org"}]}
    return Guard(settings).ask(asked, "chat")[1]


def test_thoughts_beside_an_answer_in_json_are_none() -> None:
    message = {
        "role": "assistant",
        "reasoning": f"{PROGRAM}EMAIL_ADDRESS_1",
        "content": '{"a": "EMAIL\\u005fADDRESS_1"}',
    }
    body = json.dumps({"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}).encode()

    answer = json.loads(clean_answer(RequestContext(CHAT, {}, b""), json_answers(), body).body)

    message = answer["choices"][0]["message"]
    assert message["reasoning"] == f"{PROGRAM}jane@example.org"
    assert json.loads(message["content"]) == {"a": "jane@example.org"}


CUSTOM_CALL = {"type": "custom", "id": "1", "custom": {"name": "run", "input": PROGRAM}}
HISTORY = {
    "chat": {"messages": [{"role": "assistant", "tool_calls": [CUSTOM_CALL]}]},
    "responses": {"input": [{"type": "custom_tool_call", "call_id": "1", "name": "run", "input": PROGRAM}]},
}


@pytest.mark.parametrize("endpoint", HISTORY)
def test_what_a_tool_got_before_is_sent_as_it_is(endpoint: Any) -> None:
    body = json.loads(json.dumps(HISTORY[endpoint]))
    GUARD.ask(body, endpoint)
    assert body == HISTORY[endpoint]


NAMES = ["id", "type", "text", "stop_reason", "logprobs", "tokens", "usage", "a b", SECRET, "index", "content", "x"]
LEAVES = ["", "plain", "in_progress", "a b", "x" * 300, SECRET, 1, 2, None, True]
TREES = st.recursive(
    st.sampled_from(LEAVES) | st.lists(st.integers(0, 3), max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=300, deadline=None)
@given(tree=st.dictionaries(st.sampled_from(NAMES), TREES, max_size=5))
def test_one_walk_finds_what_all_walks_find_or_says_that_it_does_not_know(tree: dict[str, Any]) -> None:
    alone = texts_alone(tree)

    if alone is not None:
        assert [(text.path, text.value, text.kind) for text in alone] == [
            (text.path, text.value, text.kind) for text in texts_within(tree)
        ]
        assert not drop_opaque(tree)
        assert not clean_keys(GUARD, tree)


def test_usual_names_are_names_and_events_of_engines_are_walked_once() -> None:
    assert texts_alone(dict.fromkeys(texts._USUAL_KEYS, 1)) == []
    texts_alone_of = [texts_alone(decoded_events(piece)[0]) for piece in response_events(["Hello", " there"])]
    assert sum(found is None for found in texts_alone_of) <= 3, "those with details of tokens"
