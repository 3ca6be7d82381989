"""Answers judged before they are released, whole and streamed."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from serving.gateway.context import RequestContext
from serving.gateway.endpoints import CHAT
from serving.gateway.endpoints.texts import AnswerText, Written
from serving.gateway.policy.answer import note_replaced
from serving.gateway.records import Mark
from tests.serving.gateway.endpoints.streams import message_events, response_events, response_object, stream_of
from tests.serving.gateway.policy.conftest import Guarded
from tests.support.scripted import CLOSE, DONE, EVENTS, HANG, SeenRequest, answer, chunk, stream, usage_chunk, whole

REASON = "The answer was about weapons."


def events_of(response: httpx.Response) -> list[dict[str, Any]]:
    lines = [line[6:] for line in response.text.splitlines() if line.startswith("data: ")]
    return [json.loads(line) for line in lines if line != "[DONE]"]


def text_of(response: httpx.Response, index: int = 0) -> str:
    choices = [choice for event in events_of(response) for choice in event["choices"] if choice["index"] == index]
    return "".join(choice["delta"].get("content") or "" for choice in choices)


def finish_of(response: httpx.Response, index: int = 0) -> list[str]:
    choices = [choice for event in events_of(response) for choice in event["choices"] if choice["index"] == index]
    return [choice["finish_reason"] for choice in choices if choice["finish_reason"]]


def test_words_are_masked_in_a_stream(guarded: Guarded):
    guarded.engine.script = lambda _: stream(["The Fal", "con ni", "ne flies, the fal", "con  ", "does not"])
    streamed = guarded.ask("hello", stream=True)

    assert text_of(streamed) == "The [PROJECT_NAMES] flies, the falcon  does not"
    assert finish_of(streamed) == ["stop"]
    assert streamed.text.endswith("data: [DONE]\n\n")
    assert guarded.decisions(streamed) == [("project-names", "mask", "output")]


def test_masks_do_not_hold_a_stream_back(guarded: Guarded):
    """The engine never ends, and yet what it said has come."""
    pieces = [chunk({"content": "plain words. "}), chunk({"content": "and the falcon "})]
    guarded.engine.script = lambda _: [EVENTS, *pieces, HANG]
    body = {"model": "scripted", "stream": True, "messages": [{"role": "user", "content": "hello"}]}
    headers = {"x-api-key": guarded.keys["acme"]}
    url = f"{guarded.gateway.url}/v1/chat/completions"
    with httpx.stream("POST", url, headers=headers, json=body, timeout=20) as response:
        seen = ""
        for line in response.iter_lines():
            seen += line
            if "plain words" in seen:
                break

    assert "falcon" not in seen


def test_words_are_masked_in_whole_answers_and_tool_calls(guarded: Guarded):
    calls = [{"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"to": "falcon nine"}'}}]
    guarded.engine.script = lambda _: whole(answer("falcon nine", tool_calls=calls))
    message = guarded.ask("hello").json()["choices"][0]["message"]

    assert message["content"] == "[PROJECT_NAMES]"
    assert json.loads(message["tool_calls"][0]["function"]["arguments"]) == {"to": "[PROJECT_NAMES]"}


def test_a_whole_answer_is_refused(guarded: Guarded):
    guarded.engine.script = lambda _: whole(answer("Take the sword."))
    refused = guarded.ask("hello", "held")
    choice = refused.json()["choices"][0]

    assert (choice["message"]["content"], choice["finish_reason"]) == (REASON, "content_filter")
    assert "sword" not in refused.text
    assert refused.headers["x-signet-policy"] == "refuse;principle=no-weapons"
    record = guarded.record(refused)
    assert (record["prompt_tokens"], record["completion_tokens"], record["refused"]) == (5, 7, 1)
    assert guarded.decisions(refused) == [("no-weapons", "refuse", "output")]


def test_a_stream_is_refused_before_a_word_of_it_is_sent(guarded: Guarded):
    guarded.engine.script = lambda _: stream(["Take ", "the sw", "ord."])
    refused = guarded.ask("hello", "held", stream=True, stream_options={"include_usage": True})

    assert "Take" not in refused.text
    assert text_of(refused) == REASON
    assert finish_of(refused) == ["content_filter"]
    assert events_of(refused)[-1]["usage"]["completion_tokens"] == 7
    assert refused.text.endswith("data: [DONE]\n\n")
    assert ": signet-receipt " in refused.text


def test_a_held_stream_that_passes_is_released_as_it_came(guarded: Guarded):
    guarded.engine.script = lambda _: stream(["Take ", "the pl", "ough."])
    passed = guarded.ask("hello", "held", stream=True)

    assert text_of(passed) == "Take the plough."
    assert [event["choices"][0]["delta"].get("content") for event in events_of(passed)[1:4]] == [
        "Take ",
        "the pl",
        "ough.",
    ]
    assert finish_of(passed) == ["stop"]
    assert passed.text.endswith("data: [DONE]\n\n")


def test_of_several_choices_only_the_bad_one_is_replaced(guarded: Guarded):
    def choices(_: SeenRequest) -> list[object]:
        whole_answer = answer("a plough")
        second = json.loads(json.dumps(whole_answer["choices"][0]))
        second.update(index=1, message={"role": "assistant", "content": "a sword"})
        return whole({**whole_answer, "choices": [whole_answer["choices"][0], second]})

    guarded.engine.script = choices
    found = guarded.ask("hello", "held", n=2).json()["choices"]
    assert [choice["message"]["content"] for choice in found] == ["a plough", REASON]
    assert [choice["finish_reason"] for choice in found] == ["stop", "content_filter"]

    pieces = [chunk({"content": "a sw"}, index=1), chunk({"content": "a plough"}), chunk({"content": "ord"}, index=1)]
    ends = [chunk({}, finish="stop"), chunk({}, finish="stop", index=1), usage_chunk(), DONE]
    guarded.engine.script = lambda _: [EVENTS, *pieces, *ends]
    streamed = guarded.ask("hello", "held", n=2, stream=True)
    assert [text_of(streamed, index) for index in (0, 1)] == ["a plough", REASON]
    assert [finish_of(streamed, index) for index in (0, 1)] == [["stop"], ["content_filter"]]


@pytest.mark.parametrize(
    ("replaced", "mark"),
    [pytest.param([0, 1], b"off;reason=policy", id="all"), pytest.param([1], b"kgw;key=k", id="one")],
)
def test_an_answer_of_which_nothing_is_left_is_not_said_to_be_marked(replaced: list[int], mark: bytes):
    context = RequestContext(CHAT, {}, b"", mark=Mark(scheme="kgw", key_id="k"))
    texts = [AnswerText(choice, "content", "as it was") for choice in (0, 1)]

    note_replaced(context, {choice: Written("as it is", "stop") for choice in replaced}, texts)

    assert context.mark.header() == mark


def test_a_tool_call_is_read_too(guarded: Guarded):
    call = {"index": 0, "id": "1", "type": "function", "function": {"name": "buy", "arguments": '{"item": "swo'}}
    rest = {"index": 0, "function": {"arguments": 'rd"}'}}
    pieces = [chunk({"tool_calls": [call]}), chunk({"tool_calls": [rest]}), chunk({}, finish="tool_calls")]
    guarded.engine.script = lambda _: [EVENTS, *pieces, usage_chunk(), DONE]
    refused = guarded.ask("hello", "held", stream=True)

    assert "buy" not in refused.text
    assert (text_of(refused), finish_of(refused)) == (REASON, ["content_filter"])


def test_a_flag_in_an_answer_is_recorded_and_holds_nothing(guarded: Guarded):
    guarded.engine.script = lambda _: stream(["See OPS", "-12, on tri", "al"])
    flagged = guarded.ask("hello", stream=True)

    assert text_of(flagged) == "See OPS-12, on trial"
    assert guarded.decisions(flagged) == [("ticket", "flag", "output"), ("dry", "would_refuse", "output")]


def test_a_held_stream_that_breaks_off_is_an_error(guarded: Guarded):
    guarded.engine.script = lambda _: [EVENTS, chunk({"content": "a sword"}), CLOSE]
    failed = guarded.ask("hello", "held", stream=True)

    assert failed.status_code >= 500
    assert "sword" not in failed.text


def test_other_endpoints_are_refused_in_their_own_form(guarded: Guarded):
    guarded.engine.script = lambda _: whole(response_object("a sword"))
    response = guarded.ask("hello", "held", "/v1/responses").json()
    assert response["output"][0]["content"][0]["text"] == REASON
    assert response["incomplete_details"] == {"reason": "content_filter"}

    guarded.engine.script = lambda _: stream_of(response_events(["a sw", "ord"]))
    events = events_of(guarded.ask("hello", "held", "/v1/responses", stream=True))
    assert [event["delta"] for event in events if event["type"].endswith("output_text.delta")] == [REASON]
    assert [event["sequence_number"] for event in events] == list(range(len(events)))

    guarded.engine.script = lambda _: stream_of(message_events([("text", ["a sw", "ord"])]))
    events = events_of(guarded.ask("hello", "held", "/v1/messages", stream=True))
    assert [event["delta"]["text"] for event in events if event["type"] == "content_block_delta"] == [REASON]
    assert events[-1]["type"] == "message_stop"

    guarded.engine.script = lambda _: stream_of(message_events([("text", ["a pl", "ough"])]))
    events = events_of(guarded.ask("hello", "held", "/v1/messages", stream=True))
    assert [event["delta"]["text"] for event in events if event["type"] == "content_block_delta"] == ["a pl", "ough"]


def revising(*revisions: str) -> Any:
    """A script: an unkind answer, then a critique and a revision in turn."""
    left = list(revisions)

    def script(request: SeenRequest) -> list[object]:
        messages = request.body["messages"]
        if "editor" not in str(messages[0]["content"]):
            unkind = ["You ", "idiot."]
            return stream(unkind) if request.body.get("stream") else whole(answer("".join(unkind)))
        if "Write the text again" in messages[-1]["content"]:
            return whole(answer(left.pop(0)))
        return whole(answer("It calls the reader an idiot."))

    return script


@pytest.mark.parametrize("streams", [False, True])
def test_an_answer_is_criticised_and_revised(guarded: Guarded, streams: bool):
    guarded.engine.script = revising("You idiot, dear.", "You friend.")
    revised = guarded.ask("hello", "revised", stream=streams)
    text = text_of(revised) if streams else revised.json()["choices"][0]["message"]["content"]

    assert text == "You friend."
    assert revised.headers["x-signet-policy"] == "revise;principle=kind"
    assert "idiot" not in revised.text
    assert guarded.decisions(revised) == [("kind", "revise", "output")]
    assert guarded.record(revised)["completion_tokens"] == 7, "the extra calls are not billed"
    critique, revision = guarded.engine.seen[-4:-2]
    assert "Answers are kind." in critique.body["messages"][1]["content"]
    assert "It calls the reader an idiot." in revision.body["messages"][1]["content"]


def test_what_cannot_be_revised_is_refused(guarded: Guarded):
    guarded.engine.script = revising("idiot", "still an idiot")
    refused = guarded.ask("hello", "revised")

    assert refused.json()["choices"][0]["message"]["content"] == "No kind answer was found."
    assert refused.headers["x-signet-policy"] == "refuse;principle=kind"
    assert guarded.decisions(refused) == [("kind", "revise", "output"), ("kind", "refuse", "output")]
