from __future__ import annotations

import json
from typing import Any

import pytest
from openai.types.responses import Response

from serving.gateway.endpoints.endpoint import ALL, Usage
from serving.gateway.endpoints.responses import RESPONSES
from serving.gateway.endpoints.texts import AnswerText, Written
from serving.gateway.errors import BadRequest, EngineFailed
from serving.gateway.settings import GatewaySettings
from tests.serving.gateway.endpoints.heard import texts_of_answer
from tests.serving.gateway.endpoints.streams import message_item, response_object
from tests.serving.gateway.endpoints.written import REASON, data_of, refusal, written

USER = {"role": "user", "content": "Hello."}


def delta(text: str, kind: str = "output_text", **more: Any) -> dict[str, Any]:
    place = {"item_id": "msg_1", "output_index": 1, "content_index": 2, "sequence_number": 3}
    return {"type": f"response.{kind}.delta", **place, "delta": text, **more}


@pytest.fixture
def settings() -> GatewaySettings:
    return GatewaySettings()


@pytest.mark.parametrize("field", ["previous_response_id", "conversation", "background"])
def test_what_needs_a_kept_answer_is_refused(field: str, settings: GatewaySettings) -> None:
    with pytest.raises(BadRequest) as refused:
        RESPONSES.check({"input": "x", field: "resp_1"}, settings)
    assert refused.value.param == field


@pytest.mark.parametrize("field", ["enable_response_messages", "previous_input_messages"])
def test_what_would_bring_token_ids_is_refused(field: str, settings: GatewaySettings) -> None:
    with pytest.raises(BadRequest) as refused:
        RESPONSES.check({field: True}, settings)
    assert (refused.value.param, refused.value.code) == (field, "field_refused")


def test_the_engine_stores_nothing(settings: GatewaySettings) -> None:
    body: dict[str, Any] = {"input": "x", "store": True, "background": False}

    RESPONSES.check(body, settings)

    assert body["store"] is False


def test_the_question_is_in_instructions_and_in_all_items() -> None:
    output = {"type": "function_call_output", "output": "rain"}
    body = {"instructions": "a", "input": [{"role": "user", "content": [{"type": "input_text", "text": "bc"}]}, output]}

    assert list(RESPONSES.prompt_texts(body)) == ["a", "bc", "rain"]
    assert list(RESPONSES.prompt_texts({"input": "de"})) == ["de"]


@pytest.mark.parametrize(
    ("given", "items"), [("Hello.", [USER]), ([USER], [USER]), (None, [])], ids=["text", "items", "nothing"]
)
def test_messages_of_a_template_come_first(given: Any, items: list[Any]) -> None:
    system = {"role": "system", "content": "Be brief."}
    body: dict[str, Any] = {} if given is None else {"input": given}

    RESPONSES.set_messages(body, [system])

    assert body["input"] == [system, *items]


def test_an_input_that_is_no_list_takes_no_template() -> None:
    with pytest.raises(BadRequest, match="'input' must be"):
        RESPONSES.set_messages({"input": {"role": "user"}}, [])


def test_usage_and_reason_are_read_of_answers_and_of_events_that_repeat_them() -> None:
    whole = response_object("Hi")

    for answer in (whole, {"type": "response.completed", "response": whole}):
        assert RESPONSES.usage(answer) == Usage(11, 13)
        assert RESPONSES.finish_reason(answer) == "stop"
    assert RESPONSES.usage(response_object("", "in_progress")) is None
    assert RESPONSES.finish_reason(response_object("", "in_progress")) == ""


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"output": [{"type": "function_call"}]}, "tool_calls"),
        ({"incomplete_details": {"reason": "max_output_tokens"}}, "length"),
        ({"incomplete_details": {"reason": "content_filter"}}, "content_filter"),
        ({"output": None}, "stop"),
    ],
)
def test_reasons_have_the_names_of_chats(more: dict[str, Any], reason: str) -> None:
    assert RESPONSES.finish_reason({**response_object("Hi"), **more}) == reason


def test_every_text_of_an_answer_is_read_and_no_detail() -> None:
    call = {"type": "function_call", "name": "look", "arguments": '{"a": 1}'}
    item = message_item("Hi")
    item["content"][0]["logprobs"] = [{"token": "Hi", "text": "Hi"}]

    texts = texts_of_answer(RESPONSES, {"output": [item, call]})

    assert texts == [AnswerText(0, "text", "Hi"), AnswerText(0, "arguments", '{"a": 1}')]


def test_a_written_response_is_one_for_the_official_client() -> None:
    refused = Response.model_validate(RESPONSES.write_answer(refusal()))
    revised = Response.model_validate(RESPONSES.write_answer(written({0: Written("Kind words.", "stop")})))

    assert (refused.output_text, refused.status) == (REASON, "incomplete")
    assert refused.incomplete_details is not None
    assert refused.incomplete_details.reason == "content_filter"
    assert (revised.output_text, revised.status, revised.incomplete_details) == ("Kind words.", "completed", None)
    assert refused.usage is not None
    assert refused.usage.total_tokens == 15


def test_a_written_stream_says_the_same_in_numbered_events() -> None:
    events = data_of(RESPONSES.write_stream(refusal()))

    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert "".join(RESPONSES.read_event(event).text for event in events) == REASON
    assert events[-1]["type"] == "response.incomplete"
    assert RESPONSES.finish_reason(events[-1]) == "content_filter"


@pytest.mark.parametrize("kind", ["output_text", "reasoning_text", "function_call_arguments"])
def test_a_piece_is_of_its_item_and_can_be_written(kind: str) -> None:
    event = delta("secret", kind, logprobs=[{"token": "secret"}])

    read = RESPONSES.read_event(event)
    RESPONSES.write_text(event, "***")

    assert read.channel == ("text" if kind == "output_text" else kind, 1, 2)
    assert (read.text, RESPONSES.read_event(event).text) == ("secret", "***")
    assert "secret" not in json.dumps(event)


def test_the_fast_reader_says_what_the_other_says_or_nothing() -> None:
    plain = delta("Hi", logprobs=[])

    assert RESPONSES.read_piece(json.dumps(plain).encode()) == (RESPONSES.read_event(plain).channel, "Hi")
    for odd in (delta("Hi", "reasoning_text"), delta("Hi", logprobs=[{}]), delta("Hi", item_id="two words"), {}):
        assert RESPONSES.read_piece(json.dumps(odd).encode()) is None
    assert RESPONSES.is_usual(plain)
    assert not RESPONSES.is_usual(delta("Hi", more="text"))


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("response.completed", {"closing": True, "last": True, "ends": ALL}),
        ("response.incomplete", {"closing": True, "last": True, "ends": ALL}),
        ("response.failed", {"failed": True}),
        ("error", {"failed": True}),
        ("response.output_text.done", {"ends": 4, "whole": True, "last": False}),
        ("response.created", {"whole": True, "ends": None}),
        ("response.of_another_kind", {"whole": False, "item": 4}),
    ],
)
def test_what_an_event_means_is_in_its_type(kind: str, expected: dict[str, Any]) -> None:
    event = RESPONSES.read_event({"type": kind, "output_index": 4})

    assert {name: getattr(event, name) for name in expected} == expected


def test_an_error_in_a_stream_has_openais_two_shapes_at_once() -> None:
    name, data, *_ = RESPONSES.error_event(EngineFailed("gone"), "req_1").split(b"\n")

    body = json.loads(data.removeprefix(b"data: "))
    assert name == b"event: error"
    assert (body["type"], body["message"], body["error"]["message"]) == ("error", "gone", "gone")
    assert body["code"] == body["error"]["code"]
