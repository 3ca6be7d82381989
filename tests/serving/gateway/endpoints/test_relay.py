"""The relay of responses and messages: any cutting in, the same texts out, and repeated texts the same again."""

from __future__ import annotations

import json
import re
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.gateway.context import RequestContext
from serving.gateway.endpoints import ENDPOINTS
from serving.gateway.endpoints.relay import EventRelay
from serving.gateway.streams.broken import StreamBroken
from serving.guard import Guard, GuardSettings
from tests.serving.gateway.endpoints.streams import event, message_events, response_events

GUARD = Guard(GuardSettings())
TEXT = "Write to anna.smith@example.org or call +49 170 1234567, then pay with 4111 1111 1111 1111. Thanks!"
CLEAN = GUARD.clean_text(TEXT)[0]


def cut(text: str, places: list[int]) -> list[str]:
    ends = sorted({place % len(text) for place in places} | {0, len(text)})
    return [text[start:end] for start, end in pairwise(ends)]


def relayed(path: str, data: bytes, cuts: list[int]) -> tuple[list[dict[str, object]], RequestContext, bytes]:
    context = RequestContext(ENDPOINTS[path], {}, b"")
    relay = EventRelay(context, GUARD)
    ends = sorted({place % len(data) for place in cuts} | {0, len(data)})
    before = b"".join(relay.feed(data[start:end]) for start, end in pairwise(ends))
    relay.finish()
    events = []
    for block in (before + relay.close()).decode().split("\n\n")[:-1]:
        name, _, payload = block.partition("\n")
        decoded = json.loads(payload.removeprefix("data: "))
        assert name == f"event: {decoded['type']}"
        events.append(decoded)
    return events, context, before


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 10_000), max_size=12), st.lists(st.integers(0, 100_000), max_size=12))
def test_a_response_is_the_same_for_every_cutting(pieces: list[int], cuts: list[int]) -> None:
    events, context, before = relayed("/v1/responses", b"".join(response_events(cut(TEXT, pieces))), cuts)
    deltas = [e for e in events if e["type"] == "response.output_text.delta"]
    assert "".join(e["delta"] for e in deltas) == CLEAN
    done = {e["type"]: e for e in events}
    assert done["response.output_text.done"]["text"] == CLEAN
    assert done["response.content_part.done"]["part"]["text"] == CLEAN
    assert done["response.output_item.done"]["item"]["content"][0]["text"] == CLEAN
    assert done["response.completed"]["response"]["output"][0]["content"][0]["text"] == CLEAN
    assert "example.org" not in json.dumps(events)
    assert [e["sequence_number"] for e in events] == list(range(len(events)))
    came = context.answer
    assert (came.prompt_tokens, came.completion_tokens, came.finish_reason) == (11, 13, "stop")
    assert b"response.completed" not in before


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 10_000), max_size=12), st.lists(st.integers(0, 100_000), max_size=12))
def test_a_message_is_the_same_for_every_cutting(pieces: list[int], cuts: list[int]) -> None:
    arguments = json.dumps({"to": "anna.smith@example.org", "card": 4111111111111111, "n": 3})
    blocks = [("thinking", cut(TEXT, pieces)), ("text", cut(TEXT, pieces)), ("tool_use", cut(arguments, pieces))]
    events, context, before = relayed("/v1/messages", b"".join(message_events(blocks)), cuts)
    deltas = [e for e in events if e["type"] == "content_block_delta"]
    for index, field in ((0, "thinking"), (1, "text")):
        assert "".join(e["delta"][field] for e in deltas if e["index"] == index) == CLEAN
    called = json.loads("".join(e["delta"]["partial_json"] for e in deltas if e["index"] == 2))
    assert called == {"to": "[EMAIL_ADDRESS]", "card": "[CARD_NUMBER]", "n": 3}
    order = [e["index"] for e in events if str(e["type"]).startswith("content_block")]
    assert order == sorted(order)
    came = context.answer
    assert (came.prompt_tokens, came.completion_tokens, came.finish_reason) == (11, 13, "stop")
    assert context.answer.start == TEXT
    assert b"message_delta" not in before


def test_clean_events_pass_as_the_bytes_that_came() -> None:
    data = b"".join(response_events(["All is ", "well", ", thank you."]))
    endpoint = ENDPOINTS["/v1/responses"]
    relay = EventRelay(RequestContext(endpoint, {}, b""), GUARD)
    out = relay.feed(data)
    relay.finish()
    assert out + relay.close() == data


def test_a_block_that_begins_with_text_is_cleaned_across_its_first_piece() -> None:
    events = message_events([("text", ["example.org now"])])
    events[1] = event({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": "anna@"}})
    seen, _, _ = relayed("/v1/messages", b"".join(events), [])
    text = "".join(e["delta"]["text"] for e in seen if e["type"] == "content_block_delta")
    assert text == "[EMAIL_ADDRESS] now"


@pytest.mark.parametrize(
    ("path", "broken"),
    [
        ("/v1/responses", event({"type": "error", "message": "secret detail"})),
        ("/v1/responses", event({"type": "response.failed", "response": {}})),
        ("/v1/messages", event({"type": "error", "error": {"message": "secret detail"}})),
        ("/v1/messages", b"data: {not json\n\n"),
        ("/v1/messages", b"data: five\n\n"),
    ],
)
def test_an_engine_that_gives_up_breaks_the_stream(path: str, broken: bytes) -> None:
    endpoint = ENDPOINTS[path]
    relay = EventRelay(RequestContext(endpoint, {}, b""), GUARD)
    with pytest.raises(StreamBroken):
        relay.feed(broken)


def test_an_answer_that_ends_early_breaks_the_stream() -> None:
    endpoint = ENDPOINTS["/v1/messages"]
    relay = EventRelay(RequestContext(endpoint, {}, b""), GUARD)
    relay.feed(b"".join(message_events([("text", ["half a "])])[:3]))
    with pytest.raises(StreamBroken):
        relay.finish()
    assert b"half a " in relay.flush() or relay.num_text_events == 1


def told(events: list[dict[str, object]]) -> tuple[str, list[dict[str, object]]]:
    """The text in pieces, and all other events."""
    pieces = [event for event in events if str(event["type"]).endswith("delta") and event["type"] != "message_delta"]
    deltas: list[Any] = [piece["delta"] for piece in pieces]
    text = "".join(delta if isinstance(delta, str) else delta["text"] for delta in deltas)
    return text, [{**event, "sequence_number": 0} for event in events if event not in pieces]


WORDS = ["Hello", " there", "\n", " é", " 🎉", "\ud83d", "\ude00", *TEXT.split(" ")]


@pytest.mark.parametrize("path", ["/v1/responses", "/v1/messages"])
@settings(max_examples=80, deadline=None)
@given(
    words=st.lists(st.sampled_from(WORDS), min_size=1, max_size=9), seams=st.booleans(), cuts=st.lists(st.integers(0))
)
def test_the_short_way_says_what_the_long_one_says(path: str, words: list[str], seams: bool, cuts: list[int]) -> None:
    pieces = [word + " " * seams for word in words]
    events = response_events(pieces) if path == "/v1/responses" else message_events([("text", pieces)])
    data = re.sub(rb'"logprobs": \[\{"token"[^\]]*\]', b'"logprobs": []', b"".join(events))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(ENDPOINTS[path]), "read_piece", lambda self, data: None)
        long = relayed(path, data, cuts)

    short = relayed(path, data, cuts)
    # Pieces in a row are read as one, so what is changed may be cut into other pieces.
    assert told(short[0]) == told(long[0])
    assert (short[1].answer.chars, short[1].answer.start) == (long[1].answer.chars, long[1].answer.start)
