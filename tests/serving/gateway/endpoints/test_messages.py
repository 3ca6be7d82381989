from __future__ import annotations

import json
from typing import Any

import pytest
from anthropic.types import Message

from serving.gateway.endpoints.endpoint import ALL, Usage
from serving.gateway.endpoints.messages import COUNT_TOKENS, MESSAGES
from serving.gateway.endpoints.texts import AnswerText, Written
from serving.gateway.errors import BadRequest, EngineFailed, Forbidden, GatewayError, LimitExceeded, Overloaded
from tests.serving.gateway.endpoints.heard import texts_of_answer, texts_of_stream
from tests.serving.gateway.endpoints.streams import message_events
from tests.serving.gateway.endpoints.written import REASON, data_of, refusal, written

SYSTEM = {"role": "system", "content": "Be brief."}
USER = {"role": "user", "content": "Hello."}


def delta(text: str, index: int = 0, kind: str = "text") -> dict[str, Any]:
    field = {"text": "text", "thinking": "thinking", "input_json": "partial_json"}[kind]
    return {"type": "content_block_delta", "index": index, "delta": {"type": f"{kind}_delta", field: text}}


def test_the_question_is_in_the_system_prompt_and_in_all_parts_of_messages() -> None:
    result = {"type": "tool_result", "content": [{"type": "text", "text": "rain"}]}
    body = {
        "system": [{"type": "text", "text": "a"}],
        "messages": [{"role": "user", "content": "bc"}, {"role": "user", "content": [result]}],
    }

    assert list(MESSAGES.prompt_texts(body)) == list(COUNT_TOKENS.prompt_texts(body)) == ["a", "bc", "rain"]
    assert MESSAGES.prompt_chars(body) == 7


@pytest.mark.parametrize(
    ("system", "blocks"),
    [(None, []), ("Own.", [{"type": "text", "text": "Own."}]), ([{"type": "text", "text": "Own."}], None)],
)
def test_a_templates_system_message_comes_before_the_clients(system: Any, blocks: list[Any] | None) -> None:
    body: dict[str, Any] = {"messages": [USER], **({} if system is None else {"system": system})}

    MESSAGES.set_messages(body, [SYSTEM, {"role": "assistant", "content": "Yes?"}])

    assert body["system"] == [{"type": "text", "text": "Be brief.\n\n"}, *(system if blocks is None else blocks)]
    assert body["messages"] == [{"role": "assistant", "content": "Yes?"}, USER]


@pytest.mark.parametrize(("field", "value"), [("system", 7), ("messages", "hello")])
def test_what_no_template_can_be_put_before_is_refused(field: str, value: object) -> None:
    with pytest.raises(BadRequest) as refused:
        MESSAGES.set_messages({field: value}, [SYSTEM])
    assert refused.value.param == field


@pytest.mark.parametrize(
    ("answer", "usage"),
    [
        ({"usage": {"input_tokens": 3, "output_tokens": 5}}, Usage(3, 5)),
        ({"usage": {"input_tokens": 3, "cache_read_input_tokens": 4, "output_tokens": 5}}, Usage(7, 5)),
        ({"type": "message_start", "message": {"usage": {"input_tokens": 3}}}, Usage(3, None)),
        ({"usage": {"input_tokens": -3, "output_tokens": "5"}}, Usage(0, 0)),
        ({"message": None}, None),
        ({}, None),
    ],
)
def test_usage_is_read_wherever_it_stands(answer: dict[str, Any], usage: Usage | None) -> None:
    assert MESSAGES.usage(answer) == usage


@pytest.mark.parametrize(
    ("reason", "ours"),
    [("end_turn", "stop"), ("max_tokens", "length"), ("tool_use", "tool_calls"), ("new", "new"), (None, "")],
)
def test_reasons_have_openais_names(reason: str | None, ours: str) -> None:
    assert MESSAGES.finish_reason({"stop_reason": reason}) == ours
    assert MESSAGES.finish_reason({"type": "message_delta", "delta": {"stop_reason": reason}}) == ours


def test_a_tools_input_is_one_of_an_answers_texts() -> None:
    blocks = [
        {"type": "thinking", "thinking": "hm"},
        {"type": "text", "text": "yes"},
        {"type": "tool_use", "name": "look", "input": {"city": "Oslo"}},
    ]

    texts = texts_of_answer(MESSAGES, {"content": blocks})

    assert texts == [
        AnswerText(0, "thinking", "hm"),
        AnswerText(0, "text", "yes"),
        AnswerText(0, "input", '{"city":"Oslo"}'),
    ]


def test_the_texts_of_a_stream_are_heard_each_by_itself() -> None:
    events = message_events([("thinking", ["h", "m"]), ("text", ["yes", ","]), ("text", [" do"])])

    assert texts_of_stream(MESSAGES, events) == [
        AnswerText(0, "thinking", "hm"),
        AnswerText(0, "text", "yes,"),
        AnswerText(0, "text", " do"),
    ]


def test_a_written_message_is_one_for_the_official_client() -> None:
    refused = Message.model_validate(MESSAGES.write_answer(refusal()))
    revised = Message.model_validate(MESSAGES.write_answer(written({0: Written("Kind words.", "stop")})))

    assert (refused.content[0].text, refused.stop_reason) == (REASON, "refusal")  # type: ignore[union-attr]
    assert (revised.content[0].text, revised.stop_reason) == ("Kind words.", "end_turn")  # type: ignore[union-attr]
    assert (refused.usage.input_tokens, refused.usage.output_tokens) == (12, 3)


def test_a_written_stream_says_the_same() -> None:
    events = MESSAGES.write_stream(refusal())

    kinds = [event["type"] for event in data_of(events)]
    assert [event.split(b"\n")[0] for event in events] == [f"event: {kind}".encode() for kind in kinds]
    assert kinds[0] == "message_start"
    assert kinds[-2:] == ["message_delta", "message_stop"]
    read = [MESSAGES.read_event(event) for event in data_of(events)]
    assert "".join(event.text for event in read) == REASON
    assert data_of(events)[-2]["delta"]["stop_reason"] == "refusal"


def test_a_block_that_begins_with_text_is_an_empty_one_and_a_piece() -> None:
    start = {"type": "content_block_start", "index": 1, "content_block": {"type": "text", "text": "Hi"}}

    empty, piece = MESSAGES.unfold(start)

    assert empty["content_block"] == {"type": "text", "text": ""}
    assert piece == delta("Hi", index=1)
    assert MESSAGES.unfold(delta("Hi")) == [delta("Hi")]


@pytest.mark.parametrize("kind", ["text", "thinking", "input_json"])
def test_a_piece_is_of_its_block_and_can_be_written(kind: str) -> None:
    event = delta("secret", index=2, kind=kind)

    read = MESSAGES.read_event(event)
    MESSAGES.write_text(event, "***")

    assert read.text == "secret"
    assert read.channel is not None
    assert read.channel[1] == 2
    assert MESSAGES.read_event(event).text == "***"
    assert "secret" not in json.dumps(event)


def test_the_fast_reader_says_what_the_other_says_or_nothing() -> None:
    plain, other = delta("Hi", index=1), delta("hm", kind="thinking")
    odd = {**plain, "usage": {}}

    assert MESSAGES.read_piece(json.dumps(plain).encode()) == (MESSAGES.read_event(plain).channel, "Hi")
    for event in (other, odd):
        assert MESSAGES.read_piece(json.dumps(event).encode()) is None
    assert MESSAGES.read_piece(b"no json") is None
    assert MESSAGES.is_usual(plain)
    assert not MESSAGES.is_usual(odd)


def test_the_end_is_held_until_the_record_is_durable() -> None:
    usage_only = {"type": "message_delta", "delta": {}, "usage": {"output_tokens": 1}}
    ending = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}}

    assert not MESSAGES.read_event(usage_only).closing
    assert (MESSAGES.read_event(ending).closing, MESSAGES.read_event(ending).ends) == (True, ALL)
    assert MESSAGES.read_event({"type": "message_stop"}).last
    assert MESSAGES.read_event({"type": "error"}).failed
    assert MESSAGES.read_event({"type": "content_block_stop", "index": 4}).ends == 4


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (BadRequest("x"), "invalid_request_error"),
        (Forbidden("x"), "permission_error"),
        (LimitExceeded("x"), "rate_limit_error"),
        (Overloaded("x"), "overloaded_error"),
        (EngineFailed("x"), "api_error"),
    ],
)
def test_errors_are_anthropics_with_our_code(error: GatewayError, kind: str) -> None:
    body = json.loads(MESSAGES.error_body(error, "req_1"))

    assert body["type"] == "error"
    assert (body["error"]["type"], body["error"]["message"], body["error"]["code"]) == (kind, "x", error.code)
    assert body["request_id"] == "req_1"
    assert (
        MESSAGES.error_event(error, "req_1") == b"event: error\ndata: " + MESSAGES.error_body(error, "req_1") + b"\n\n"
    )
