from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from openai.types import Completion
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from serving.gateway.endpoints.chat import CHAT, COMPLETIONS
from serving.gateway.endpoints.endpoint import Endpoint
from serving.gateway.endpoints.texts import AnswerText, Written
from serving.gateway.errors import BadRequest, EngineFailed
from tests.serving.gateway.endpoints.heard import texts_of_answer, texts_of_stream
from tests.serving.gateway.endpoints.written import REASON, data_of, refusal, written

DONE = b"data: [DONE]"
ENDPOINTS = pytest.mark.parametrize("endpoint", [CHAT, COMPLETIONS], ids=["chat", "completions"])


def chat_choice(index: int, **message: Any) -> dict[str, Any]:
    return {"index": index, "message": {"role": "assistant", **message}, "finish_reason": "stop"}


def chunk(index: int, finish: str | None = None, **delta: Any) -> bytes:
    choice = {"index": index, "delta": delta, "finish_reason": finish}
    return b"data: " + json.dumps({"id": "c", "object": "chat.completion.chunk", "choices": [choice]}).encode()


@pytest.mark.parametrize(
    ("endpoint", "body", "chars"),
    [
        (CHAT, {"messages": [{"role": "system", "content": "abc"}, {"role": "user", "content": "de"}]}, 5),
        (CHAT, {"messages": [{"role": "user", "content": [{"type": "text", "text": "abc"}, {"image_url": "x"}]}]}, 3),
        (CHAT, {"messages": [{"role": "assistant", "content": None}, "no message"]}, 0),
        (CHAT, {"messages": "no list"}, 0),
        (COMPLETIONS, {"prompt": "abc"}, 3),
        (COMPLETIONS, {"prompt": ["abc", "de"]}, 5),
        (COMPLETIONS, {"prompt": [1, 2, 3]}, 0),
    ],
)
def test_the_length_of_a_question_is_that_of_its_texts(endpoint: Endpoint, body: dict[str, Any], chars: int) -> None:
    assert endpoint.prompt_chars(body) == chars


def test_messages_of_a_template_come_before_the_clients() -> None:
    template, own = {"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello."}
    body: dict[str, Any] = {"messages": [own]}
    alone: dict[str, Any] = {}

    CHAT.set_messages(body, [template])
    CHAT.set_messages(alone, [template])

    assert body["messages"] == [template, own]
    assert alone["messages"] == [template]


def test_messages_that_are_no_list_are_refused() -> None:
    with pytest.raises(BadRequest, match="must be a list"):
        CHAT.set_messages({"messages": {"0": "hello"}}, [])


def test_a_completion_takes_no_template() -> None:
    with pytest.raises(BadRequest) as refused:
        COMPLETIONS.set_messages({"prompt": "x"}, [])
    assert refused.value.code == "prompt_not_supported"


def test_every_text_of_an_answer_is_read() -> None:
    call = {"id": "1", "type": "function", "function": {"name": "look", "arguments": '{"a": 1}'}}
    answer = {"choices": [chat_choice(0, content="one"), chat_choice(1, content="two", tool_calls=[call])]}

    texts = texts_of_answer(CHAT, answer)

    assert AnswerText(0, "content", "one") in texts
    assert AnswerText(1, "content", "two") in texts
    assert '{"a": 1}' in [text.text for text in texts if text.choice == 1 and text.kind == "arguments"]


def test_pieces_of_a_stream_say_which_text_they_are_of() -> None:
    events = [chunk(2, content="one"), chunk(0, content="one"), chunk(2, content=" two")]

    texts = texts_of_stream(CHAT, events, choices=3)

    assert texts == [AnswerText(2, "content", "one two"), AnswerText(0, "content", "one")]


def test_a_written_answer_is_one_for_the_official_client() -> None:
    chat = ChatCompletion.model_validate(CHAT.write_answer(refusal(0, 1)))
    text = Completion.model_validate(COMPLETIONS.write_answer(refusal()))

    assert [choice.message.content for choice in chat.choices] == [REASON, REASON]
    assert {choice.finish_reason for choice in chat.choices} == {"content_filter"}
    assert (text.choices[0].text, text.choices[0].finish_reason) == (REASON, "content_filter")
    assert chat.usage is not None
    assert (chat.usage.prompt_tokens, chat.usage.completion_tokens, chat.usage.total_tokens) == (12, 3, 15)
    assert (chat.id, text.id) == ("chatcmpl-0199", "cmpl-0199")


@ENDPOINTS
@pytest.mark.parametrize("wants_usage", [True, False])
def test_a_written_stream_says_the_same_and_ends(endpoint: Endpoint, wants_usage: bool) -> None:
    events = endpoint.write_stream(refusal(0, 1, wants_usage=wants_usage))

    assert events[-1] == DONE
    texts = texts_of_stream(endpoint, events, choices=2)
    assert {choice: "".join(t.text for t in texts if t.choice == choice) for choice in (0, 1)} == {0: REASON, 1: REASON}
    finishes = [choice["finish_reason"] for event in data_of(events) for choice in event["choices"]]
    assert finishes == [None, "content_filter"] * 2
    assert [event["usage"]["total_tokens"] for event in data_of(events) if "usage" in event] == [15] * wants_usage


def test_chunks_of_a_written_stream_are_the_official_clients() -> None:
    chunks = [ChatCompletionChunk.model_validate(event) for event in data_of(CHAT.write_stream(refusal()))]

    assert chunks[0].choices[0].delta.content == REASON
    assert chunks[-1].choices[0].finish_reason == "content_filter"


def test_of_several_choices_only_those_written_are_replaced() -> None:
    answer = {"id": "kept", "choices": [chat_choice(1, content="good"), chat_choice(0, content="bad")], "x": 1}

    body = msgspec.json.decode(CHAT.replace_in_answer(json.dumps(answer).encode(), refusal(0)))

    assert [choice["message"]["content"] for choice in body["choices"]] == ["good", REASON]
    assert [choice["index"] for choice in body["choices"]] == [1, 0]
    assert (body["id"], body["x"]) == ("kept", 1)


def test_of_a_stream_the_events_of_replaced_choices_go_and_the_others_stay() -> None:
    usage = b'data: {"id":"c","choices":[],"usage":{"total_tokens":9}}'
    kept = [chunk(1, content="good"), chunk(1, "stop")]
    stream = [chunk(0, content="bad"), kept[0], chunk(0, "stop"), kept[1], usage]

    events = CHAT.replace_in_stream(b"".join(event + b"\n\n" for event in stream), written({0: Written("ok", "stop")}))

    assert [event for event in events if event in stream] == [*kept, usage]
    assert events[-1] == DONE
    assert b"bad" not in b"".join(events)
    texts = texts_of_stream(CHAT, events, choices=2)
    assert [text.text for text in texts] == ["good", "ok"]
    assert events.index(usage) == len(events) - 2  # behind all choices


@ENDPOINTS
def test_an_error_in_a_stream_is_an_event_that_clients_raise(endpoint: Endpoint) -> None:
    event = endpoint.error_event(EngineFailed("gone"), "req_1")

    assert event.startswith(b'data: {"error":')
    assert event.endswith(b"\n\n")
    assert json.loads(event[6:])["error"]["message"] == "gone"
