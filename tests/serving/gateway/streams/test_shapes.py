"""Answers in the shapes of many engines: read, cleaned and complete, however they are cut."""

from __future__ import annotations

import json
from collections import defaultdict
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.gateway.context import RequestContext
from serving.gateway.endpoints import CHAT
from serving.gateway.records import Question
from serving.gateway.streams.answer import clean_answer
from serving.gateway.streams.relay import StreamRelay
from serving.gateway.streams.tokens import TokenTap
from serving.guard import Guard, GuardSettings
from tests.serving.gateway.streams.engine_shapes import CALLS, STREAMS, WHOLE, event, sse
from tests.serving.gateway.streams.leaks import decoded_events, leaked

GUARD = Guard(GuardSettings())
EMAIL, CARD = "jane.doe@example.org", "4111 1111 1111 1111"
TEXT = f"Hi 🎉 there: {EMAIL} or é {CARD}, thanks 联系 me."
CLEAN = GUARD.clean_text(TEXT)[0]


def relayed(data: bytes, step: int, tap: TokenTap | None = None, **body: Any) -> tuple[bytes, RequestContext]:
    context = RequestContext(CHAT, {}, b"", question=Question(body=body))
    context.question.wants_usage = True
    relay = StreamRelay(context, GUARD, tap)
    out = b"".join(relay.feed(data[start : start + step]) for start in range(0, len(data), step))
    relay.finish()
    return out + relay.close(), context


def contents(data: bytes) -> str:
    return "".join(
        choice["delta"].get("content") or ""
        for decoded in decoded_events(data)
        for choice in decoded.get("choices") or ()
    )


@pytest.mark.parametrize("engine", STREAMS)
@settings(max_examples=25, deadline=None)
@given(sizes=st.lists(st.integers(1, 12), min_size=1, max_size=9), step=st.sampled_from([1, 3, 50, 100_000]))
def test_streams_of_many_engines_are_read_and_cleaned(engine: str, sizes: list[int], step: int) -> None:
    pieces, place = [], 0
    while place < len(TEXT):
        pieces.append(TEXT[place : place + sizes[len(pieces) % len(sizes)]])
        place += len(pieces[-1])

    released, context = relayed(STREAMS[engine](pieces), step)

    assert contents(released) == CLEAN
    assert not leaked(decoded_events(released), [EMAIL, CARD])
    assert context.answer.finish_reason == "stop"
    finishes = [c.get("finish_reason") for e in decoded_events(released) for c in e.get("choices") or ()]
    assert [reason for reason in finishes if reason] == ["stop"]
    assert context.answer.chars == len(TEXT)


def calls_of(data: bytes) -> list[tuple[str, Any]]:
    """As OpenAI's client puts them together: by index, strings one behind the other."""
    names: dict[int, str] = defaultdict(str)
    arguments: dict[int, str] = defaultdict(str)
    for decoded in decoded_events(data):
        for choice in decoded["choices"]:
            for call in choice["delta"].get("tool_calls") or ():
                names[call["index"]] += call["function"].get("name") or ""
                arguments[call["index"]] += call["function"].get("arguments") or ""
    return [(names[index], json.loads(arguments[index])) for index in sorted(names)]


@pytest.mark.parametrize("odd", CALLS)
@pytest.mark.parametrize("step", [1, 100_000])
def test_parallel_calls_keep_their_own_arguments(odd: str, step: int) -> None:
    data = CALLS[odd]({"to": EMAIL, "n": 1}, {"card": CARD, "text": "fine"})

    released, context = relayed(data, step)

    assert calls_of(released) == [
        ("first", {"to": "[EMAIL_ADDRESS]", "n": 1}),
        ("second", {"card": "[CARD_NUMBER]", "text": "fine"}),
    ]
    assert not leaked(decoded_events(released), [EMAIL, CARD])
    assert context.answer.finish_reason == "tool_calls"


@pytest.mark.parametrize("odd", WHOLE)
def test_whole_answers_of_many_shapes_are_read_and_cleaned(odd: str) -> None:
    context = RequestContext(CHAT, {}, b"")

    answer = clean_answer(context, GUARD, WHOLE[odd](TEXT).encode())

    [choice] = json.loads(answer.body)["choices"]
    assert choice["message"]["content"].rstrip("\ufffd") == CLEAN
    assert context.answer.chars >= len(TEXT)


UNKNOWN: dict[str, Any] = {
    "name": {"tool_calls": [{"index": 0, "id": "a", "function": {"name": "%", "arguments": "{}"}}]},
    "id of a call": {"tool_calls": [{"index": 0, "id": "%", "function": {"name": "x", "arguments": "{}"}}]},
    "custom input": {"tool_calls": [{"index": 0, "id": "a", "custom": {"name": "x", "input": "%"}}]},
    "function call": {"function_call": {"name": "x", "arguments": "%"}},
    "function name": {"function_call": {"name": "%", "arguments": "{}"}},
    "transcript": {"audio": {"id": "a", "transcript": "%"}},
    "annotations": {"annotations": [{"type": "url_citation", "url_citation": {"title": "%", "url": "https://example.org"}}]},
    "reasoning details": {"reasoning_details": [{"type": "reasoning.text", "text": "%", "index": 0}]},
    "thinking parts": {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "%"}]}]},
    "thinking": {"thinking": "%"},
    "an unknown field": {"x_new": {"deep": ["%"]}},
    "a name of a field": {"x_new": {"%": 1}},
    "role": {"role": "%", "content": "x"},
    "a note of a call": {"tool_calls": [{"index": 0, "extra": {"note": "%"}, "function": {"arguments": "{}"}}]},
}  # fmt: skip


def put(value: Any, text: str) -> Any:
    return json.loads(json.dumps(value).replace('"%"', json.dumps(text)))


@pytest.mark.parametrize("where", UNKNOWN)
@pytest.mark.parametrize("size", [3, 1000])
def test_no_field_of_a_message_is_let_through_unread(where: str, size: int) -> None:
    text = f"to {EMAIL} now"
    whole = {"choices": [{"index": 0, "message": put(UNKNOWN[where], text), "finish_reason": "stop"}]}
    cleaned = json.loads(clean_answer(RequestContext(CHAT, {}, b""), GUARD, json.dumps(whole).encode()).body)
    assert not leaked([cleaned], [EMAIL])
    assert "EMAIL_ADDRESS" in json.dumps(cleaned)

    # A name of a field does not grow; all else does.
    pieces = [text] if where == "a name of a field" else [text[i : i + size] for i in range(0, len(text), size)]
    data = sse(*(event(put(UNKNOWN[where], piece)) for piece in pieces), event({}, "stop"))
    released, _ = relayed(data, 100_000)
    assert not leaked(decoded_events(released), [EMAIL])


CHOICE_FIELDS = ("stop_reason", "matched_stop", "prompt_text", "finish_reason", "x_new")
EVENT_FIELDS = ("id", "object", "model", "system_fingerprint", "provider", "service_tier", "x_new", "note")


@pytest.mark.parametrize("field", [*CHOICE_FIELDS, *(f"/{name}" for name in EVENT_FIELDS)])
def test_no_field_around_a_message_is_let_through_unread(field: str) -> None:
    choice = {"index": 0, "message": {"role": "assistant", "content": "x"}, "finish_reason": "stop"}
    answer: dict[str, Any] = {"choices": [choice]}
    (answer if field[0] == "/" else choice)[field.removeprefix("/")] = EMAIL
    cleaned = json.loads(clean_answer(RequestContext(CHAT, {}, b""), GUARD, json.dumps(answer).encode()).body)
    assert not leaked([cleaned], [EMAIL])
    assert cleaned["choices"][0]["message"]["content"] == "x"

    events = [event({"content": "x"}), event({"content": "x"})]
    for each, piece in zip(events, (EMAIL[:7], EMAIL[7:]), strict=True):
        (each if field[0] == "/" else each["choices"][0])[field.removeprefix("/")] = piece
    data = sse(*events, event({}, "stop"))
    released, _ = relayed(data, 100_000)
    assert not leaked(decoded_events(released), [EMAIL])
    assert contents(released) == "xx"


@pytest.mark.parametrize("finish", ["", "stop"])
def test_a_finish_reason_ends_no_cleaning(finish: str) -> None:
    more = event({"content": "Mail jane.doe"}), event({}, finish), event({"content": "@example.org"}), event({}, "stop")
    data = sse(*more)

    for step in (1, 100_000):
        released, _ = relayed(data, step)
        assert contents(released) == "Mail [EMAIL_ADDRESS]"
        finishes = [c["finish_reason"] for e in decoded_events(released) for c in e["choices"]]
        assert [reason for reason in finishes if reason] == ["stop"]


@pytest.mark.parametrize("separators", [(",", ":"), (", ", ": "), (" ,", " : ")])
def test_tokens_are_read_and_hidden_however_the_json_is_written(separators: tuple[str, str]) -> None:
    texts = ["Hello", " there", " you"]
    first = {**event({"role": "assistant", "content": ""}), "prompt_token_ids": [1, 2, 3]}
    events = [event({"content": text}, token_ids=[number]) for number, text in enumerate(texts)]
    events = [first, *events, event({}, "stop", token_ids=[9])]
    data = b"".join(b"data: " + json.dumps(event, separators=separators).encode() + b"\n\n" for event in events)
    tap = TokenTap(1, answers_each=1, hides=True, keeps_text=False)

    released, _ = relayed(data + b"data: [DONE]\n\n", 100_000, tap)

    assert not any(c.get("token_ids") for e in decoded_events(released) for c in e["choices"])
    assert not any(e.get("prompt_token_ids") for e in decoded_events(released))
    assert (tap.prompt_tokens, tap.completion_tokens, tap.blind) == (3, 4, False)
    assert contents(released) == "".join(texts)


def test_a_stream_that_breaks_off_tells_no_finish_reason() -> None:
    relay = StreamRelay(RequestContext(CHAT, {}, b""), GUARD)
    relay.feed(sse(event({"content": "Mail jane"}), event({}, "stop"), done=False))

    rest = relay.flush()

    assert contents(rest) == "Mail jane"
    assert b'"stop"' not in rest
