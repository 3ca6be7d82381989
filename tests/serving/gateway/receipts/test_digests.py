"""What is hashed is what the client gets: for every cutting of a stream, and the same as for the whole."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from serving.gateway.context import RequestContext
from serving.gateway.endpoints import ENDPOINTS
from serving.gateway.endpoints.answer import clean_whole
from serving.gateway.endpoints.relay import EventRelay
from serving.gateway.streams.answer import clean_answer
from serving.gateway.streams.relay import StreamRelay
from serving.guard import Guard, GuardSettings
from serving.provenance.receipts import AnswerDigests
from serving.provenance.receipts.digests import text_digest
from tests.serving.gateway.endpoints.streams import message_events, message_item, response_events, response_object
from tests.support.scripted import answer, chunk, stream

GUARD = Guard(GuardSettings())
TEXT = "Write to anna.smith@example.org or call +49 170 1234567, then pay with 4111 1111 1111 1111. 联系, thanks!"
CLEAN = GUARD.clean_text(TEXT)[0]
PLACES = st.lists(st.integers(0, 100_000), max_size=12)


def context_for(path: str = "/v1/chat/completions") -> RequestContext:
    context = RequestContext(ENDPOINTS[path], {}, b"")
    context.answer.digests = AnswerDigests({"messages": []})
    return context


def texts_of(context: RequestContext) -> dict[str, bytes]:
    assert context.answer.digests is not None
    return context.answer.digests.texts()


def cut(text: str, places: list[int]) -> list[str]:
    ends = sorted({place % len(text) for place in places} | {0, len(text)})
    return [text[start:end] for start, end in pairwise(ends)]


def feed(relay: StreamRelay | EventRelay, data: bytes, places: list[int]) -> bytes:
    ends = sorted({place % len(data) for place in places} | {0, len(data)})
    out = b"".join(relay.feed(data[start:end]) for start, end in pairwise(ends))
    relay.finish()
    return out + relay.close()


def content_of(data: bytes) -> str:
    events = [json.loads(event.removeprefix(b"data: ")) for event in data.split(b"\n\n")[:-2]]
    return "".join(choice["delta"].get("content") or "" for event in events for choice in event["choices"])


def whole_of(body: dict[str, Any], path: str) -> dict[str, bytes]:
    context = context_for(path)
    clean = clean_answer if context.endpoint.has_choices else clean_whole
    clean(context, GUARD, json.dumps(body).encode())
    return texts_of(context)


@settings(max_examples=150, deadline=None)
@given(pieces=PLACES, cuts=PLACES)
def test_a_chat_stream_however_cut_has_the_digest_of_the_whole(pieces: list[int], cuts: list[int]) -> None:
    context = context_for()
    data = b"".join(part for part in stream(cut(TEXT, pieces))[1:] if isinstance(part, bytes))

    sent = feed(StreamRelay(context, GUARD), data, cuts)

    assert texts_of(context) == {"0": text_digest(CLEAN)} == whole_of(answer(TEXT), "/v1/chat/completions")
    assert texts_of(context) == {"0": text_digest(content_of(sent))}


@settings(max_examples=50, deadline=None)
@given(pieces=PLACES, cuts=PLACES)
def test_streams_of_other_endpoints_have_it_too(pieces: list[int], cuts: list[int]) -> None:
    of_response, of_message = context_for("/v1/responses"), context_for("/v1/messages")
    blocks = [("thinking", cut(TEXT, pieces)), ("text", cut(TEXT, cuts)), ("tool_use", ["{}"]), ("text", [" Bye."])]
    for context, events in ((of_response, response_events(cut(TEXT, pieces))), (of_message, message_events(blocks))):
        feed(EventRelay(context, GUARD), b"".join(events), cuts)

    message = {
        "content": [
            {"type": "thinking", "thinking": TEXT},
            {"type": "text", "text": TEXT},
            {"type": "tool_use", "input": {}},
            {"type": "text", "text": " Bye."},
        ]
    }
    assert texts_of(of_response) == {"0": text_digest(CLEAN)} == whole_of(response_object(TEXT), "/v1/responses")
    assert texts_of(of_message) == {"0": text_digest(CLEAN + " Bye.")} == whole_of(message, "/v1/messages")


def test_reasoning_of_a_response_is_not_its_answer() -> None:
    reasoning = {"type": "reasoning", "content": [{"type": "reasoning_text", "text": "Hm."}], "summary": []}
    body = {**response_object(TEXT), "output": [reasoning, message_item(TEXT)]}

    assert whole_of(body, "/v1/responses") == {"0": text_digest(CLEAN)}


def test_choices_reasoning_and_calls_have_digests_of_their_own() -> None:
    call = {"index": 1, "function": {"arguments": '{"to": "anna@example.org"}'}}
    context = context_for()
    context.question.choices = 2
    data = b"".join(
        (
            chunk({"content": "one"}),
            chunk({"content": "two"}, index=1),
            chunk({"reasoning": "hm"}),
            chunk({"tool_calls": [call]}, index=1),
            chunk({}, finish="stop"),
            chunk({}, finish="tool_calls", index=1),
            b"data: [DONE]\n\n",
        )
    )

    feed(StreamRelay(context, GUARD), data, [])

    streamed = texts_of(context)
    assert streamed == {
        "0": text_digest("one"),
        "1": text_digest("two"),
        "0.reasoning": text_digest("hm"),
        "1.arguments.1": text_digest('{"to": "[EMAIL_ADDRESS]"}'),
    }
    body = answer("one", reasoning="hm")
    second = {"role": "assistant", "content": "two", "tool_calls": [{"index": 0, "function": {"arguments": ""}}, call]}
    body["choices"].append({"index": 1, "message": second, "finish_reason": "tool_calls"})
    assert whole_of(body, "/v1/chat/completions") == streamed


def test_text_after_the_end_of_a_choice_is_covered_as_it_is_sent() -> None:
    context = context_for()
    data = chunk({"content": "one"}, finish="stop") + chunk({"content": " two"}) + b"data: [DONE]\n\n"

    sent = feed(StreamRelay(context, GUARD), data, [])

    assert texts_of(context) == {"0": text_digest(content_of(sent))}
