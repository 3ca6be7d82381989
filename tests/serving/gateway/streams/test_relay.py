"""The stream relay, for every way of cutting: the text of the cleaned whole, the structure of what came."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.gateway.context import RequestContext
from serving.gateway.endpoints import CHAT
from serving.gateway.streams.broken import StreamBroken
from serving.gateway.streams.relay import StreamRelay
from serving.guard import Guard, GuardSettings
from tests.support.scripted import DONE, chunk, stream, usage_chunk

GUARD = Guard(GuardSettings())
WORDS = [
    "Hello",
    " there",
    " jane.doe@example.org",
    ", ",
    "4111 1111 1111 1111",
    " sk-proj-abcdefghijklmnopqrstuvwxyz0123456789AB",
    "\n",
    "-----BEGIN PRIVATE KEY-----\nMIIE\n-----END PRIVATE KEY-----",
    " call +1 415 555 2671",
    "zero\u200bwidth",
    "联系",
    " a very ordinary sentence.",
]


def relay_for(choices: int = 1, wants_usage: bool = False) -> StreamRelay:
    context = RequestContext(CHAT, {}, b"")
    context.question.choices, context.question.wants_usage = choices, wants_usage
    return StreamRelay(context, GUARD)


def run(relay: StreamRelay, data: bytes, step: int) -> bytes:
    out = b"".join(relay.feed(data[start : start + step]) for start in range(0, len(data), step))
    relay.finish()
    return out + relay.close()


def events_of(data: bytes) -> list[Any]:
    assert data.endswith(b"data: [DONE]\n\n")
    return [json.loads(event.removeprefix(b"data: ")) for event in data.split(b"\n\n")[:-2]]


def text_of(data: bytes, index: int = 0) -> str:
    choices = [choice for event in events_of(data) for choice in event["choices"] if choice["index"] == index]
    return "".join(choice["delta"].get("content") or "" for choice in choices)


def body(parts: list[object]) -> bytes:
    return b"".join(part for part in parts[1:] if isinstance(part, bytes))


@settings(max_examples=300, deadline=None)
@given(
    words=st.lists(st.sampled_from(WORDS), min_size=1, max_size=6),
    cuts=st.lists(st.integers(1, 12), min_size=1, max_size=30),
    step=st.sampled_from([1, 13, 200, 100_000]),
)
def test_any_cutting_gives_the_text_of_the_cleaned_whole(words: list[str], cuts: list[int], step: int) -> None:
    text = "".join(words)
    parts, place = [], 0
    while place < len(text):
        size = cuts[len(parts) % len(cuts)]
        parts.append(text[place : place + size])
        place += size

    released = run(relay_for(), body(stream(parts)), step)

    assert text_of(released) == GUARD.clean_text(text)[0]
    assert events_of(released)[-1]["choices"][0]["finish_reason"] == "stop"


@settings(deadline=None)
@given(
    texts=st.lists(st.tuples(st.integers(0, 2), st.sampled_from(["a ", "b@c", ".org ", "4111 1111 ", "1111 1111 "]))),
)
def test_choices_do_not_disturb_one_another(texts: list[tuple[int, str]]) -> None:
    wanted = {index: GUARD.clean_text("".join(text for i, text in texts if i == index))[0] for index in range(3)}
    data = b"".join(chunk({"content": text}, index=index) for index, text in texts)
    data += b"".join(chunk({}, finish="stop", index=index) for index in range(3)) + usage_chunk() + DONE

    released = run(relay_for(choices=3), data, 50)

    assert {index: text_of(released, index) for index in range(3)} == wanted


EVENTS = st.one_of(
    st.builds(lambda text, index: chunk({"content": text}, index=index), st.sampled_from(WORDS), st.integers(0, 1)),
    st.builds(lambda text: chunk({"reasoning": text, "content": text}), st.sampled_from(WORDS)),
    st.builds(lambda text: chunk({"content": text}, logprobs={"content": [{"token": text}]}), st.sampled_from(WORDS)),
    st.builds(
        lambda text, call: chunk({"tool_calls": [{"index": call, "function": {"arguments": text}}]}),
        st.sampled_from(['{"to": "', "jane@exam", 'ple.org"}', "水"]),
        st.integers(0, 1),
    ),
    st.sampled_from([b": comment\n\n", b"event: ping\nid: 7\n\n", b'data: {"choices": [], "vendor": {"a": 1}}\n\n']),
)


@settings(max_examples=300, deadline=None)
@given(
    events=st.lists(EVENTS, max_size=12),
    line_end=st.sampled_from([b"\n", b"\r\n", b"\r"]),
    cuts=st.lists(st.integers(0, 6000), max_size=12),
)
def test_the_same_bytes_leave_wherever_the_network_cuts(events: list[bytes], line_end: bytes, cuts: list[int]) -> None:
    """Every event of every kind, several choices, any line end: not only the text, each byte."""
    ends = [chunk({}, finish="stop", index=index) for index in range(2)]
    data = b"".join([*events, *ends, usage_chunk(), DONE]).replace(b"\n", line_end)
    whole = run(relay_for(choices=2, wants_usage=True), data, len(data))

    relay, places = relay_for(choices=2, wants_usage=True), sorted({0, len(data), *(cut % len(data) for cut in cuts)})
    pieces = [data[start:end] for start, end in pairwise(places)]
    released = b"".join(relay.feed(piece) for piece in pieces)
    relay.finish()

    assert released + relay.close() == whole
    assert whole.replace(b" ", b"").count(b'"finish_reason":"stop"') == 2


@pytest.mark.parametrize("odd", [{}, {"vendor": 1}], ids=["usual", "odd"])
def test_a_choice_says_that_it_ended_while_others_go_on(odd: dict[str, Any]) -> None:
    def piece(*arguments: Any, **more: Any) -> bytes:
        return b"data: " + json.dumps(json.loads(chunk(*arguments, **more)[6:]) | odd).encode() + b"\n\n"

    relay = relay_for(choices=3)
    relay.feed(piece({"content": "mail jane@exa"}, index=1) + piece({"content": "mail"}, index=0))
    ended = events_of(relay.feed(piece({}, finish="length", index=1)) + DONE)
    late = relay.feed(piece({"content": "mple.org"}, index=1) + piece({}, finish="stop", index=1))
    rest = relay.feed(piece({"content": " me"}, index=0) + piece({}, finish="stop", index=0))
    last = relay.feed(piece({"content": "x"}, index=2) + piece({}, finish="stop", index=2) + DONE)
    relay.finish()

    assert [choice["index"] for event in ended for choice in event["choices"]] == [1] * len(ended)
    assert "".join(event["choices"][0]["delta"].get("content") or "" for event in ended) == "mail jane@exa"
    assert [event["choices"][0]["finish_reason"] for event in ended][-1] == "length"
    assert late == b"", "it has ended"
    assert b'"stop"' in rest
    assert b'"stop"' not in last, "the last end waits for the record"
    assert relay.close().count(b'"stop"') == 1


def test_events_that_nothing_was_changed_in_keep_their_bytes() -> None:
    data = body(stream(["Plain", " words", " only."], usage=False))

    assert run(relay_for(), data, 100_000) == data


def test_text_beside_a_finish_reason_is_cleaned_too() -> None:
    data = chunk({"content": "mail jane@exa"}) + chunk({"content": "mple.org"}, finish="length") + DONE

    released = run(relay_for(), data, 100_000)

    assert text_of(released) == "mail [EMAIL_ADDRESS]"
    assert [event["choices"][0]["finish_reason"] for event in events_of(released)][-1] == "length"
    assert b"jane" not in released


def test_two_texts_in_one_event_are_both_cleaned() -> None:
    data = (
        chunk({"reasoning": "he is jane@example.org ", "content": "card 4111111111111111 "}) + chunk({}, "stop") + DONE
    )

    released = run(relay_for(), data, 100_000)

    assert b"jane" not in released
    assert b"4111" not in released
    reasoning = "".join(event["choices"][0]["delta"].get("reasoning") or "" for event in events_of(released))
    assert reasoning == "he is [EMAIL_ADDRESS] "


def test_a_swallowed_key_does_not_gather_events() -> None:
    relay = relay_for()
    lines = ["-----BEGIN PRIVATE KEY-----\n", *["MIIEvQIBADANBgkq\n"] * 2000]

    released = b"".join(relay.feed(chunk({"content": line})) for line in lines)

    waiting = relay._choices[0].channels["content", 0]._waiting
    assert len(waiting) <= 2
    assert b"MIIE" not in released


def test_the_end_waits_for_the_record() -> None:
    relay = relay_for(wants_usage=True)

    sent = relay.feed(body(stream(["Hello", " there."])))

    assert b'"stop"' not in sent
    assert b"[DONE]" not in sent
    closing = relay.close()
    assert b'"finish_reason": "stop"' in closing
    assert b'"usage"' in closing


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(chunk({"content": "half"}), id="no-finish"),
        pytest.param(b"data: {broken\n\n", id="no-json"),
        pytest.param(b'data: {"error": {"message": "boom"}}\n\n', id="error"),
    ],
)
def test_a_broken_stream_is_a_typed_error(data: bytes) -> None:
    relay = relay_for()

    with pytest.raises(StreamBroken):
        run(relay, data, 100_000)
    assert relay.flush() in (b"", chunk({"content": "half"}))
