"""Events that come together are read by their bytes: nothing may differ from parsing each of them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.gateway.context import RequestContext
from serving.gateway.endpoints import CHAT
from serving.gateway.streams.event_template import EventTemplate
from serving.gateway.streams.relay import StreamRelay
from serving.gateway.streams.tokens import TokenTap
from serving.guard import Guard, GuardSettings

GUARD = Guard(GuardSettings())
CONTENT = ("content", 0)
PLAIN_WORDS = [" word", " another", ".", " jane@example.org", " 7"]
OTHER_WORDS = ["", ' "quoted"', "\n", " back\\slash", " tab\t", " é", '"],[']
TOKEN = st.integers(0, 2**32 - 1)
# Mostly as an engine sends it: a plain word and its token.
PARTS = st.one_of(
    st.tuples(st.sampled_from(PLAIN_WORDS), st.lists(TOKEN, min_size=1, max_size=1)),
    st.tuples(st.sampled_from(PLAIN_WORDS), st.lists(TOKEN, min_size=1, max_size=1)),
    st.tuples(st.sampled_from(PLAIN_WORDS + OTHER_WORDS), st.lists(TOKEN, max_size=2)),
)


def event(text: str, tokens: list[int] | None, **fields: Any) -> bytes:
    """As vLLM writes it: no spaces, the tokens last."""
    choice = {"index": 0, "delta": {"content": text}, "logprobs": None, "finish_reason": None}
    if tokens is not None:
        choice["token_ids"] = tokens
    whole = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}
    return b"data: " + json.dumps({**whole, **fields}, separators=(",", ":"), ensure_ascii=False).encode()


def opening() -> bytes:
    choice = {"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}
    return b"data: " + json.dumps({"choices": [choice], "prompt_token_ids": [1, 2]}, separators=(",", ":")).encode()


def closing() -> bytes:
    return b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]'


def relayed(events: list[bytes], *, together: bool, tap: TokenTap | None) -> tuple[bytes, RequestContext, int]:
    context = RequestContext(CHAT, {}, b"")
    context.question.body = {"return_token_ids": tap is not None and not tap.hides}
    relay = StreamRelay(context, GUARD, tap)
    data = [event + b"\n\n" for event in events]
    out = b"".join(relay.feed(piece) for piece in ([b"".join(data)] if together else data))
    relay.finish()
    return out + relay.close(), context, relay.num_text_events


def tap(hides: bool, keeps_text: bool) -> TokenTap:
    return TokenTap(1, answers_each=1, hides=hides, keeps_text=keeps_text)


def text_of(data: bytes) -> str:
    events = [json.loads(event.removeprefix(b"data: ")) for event in data.split(b"\n\n")[:-2]]
    return "".join(choice["delta"].get("content") or "" for event in events for choice in event["choices"])


@settings(max_examples=300, deadline=None)
@given(parts=st.lists(PARTS, max_size=12), hides=st.booleans(), keeps_text=st.booleans())
def test_events_that_come_together_are_read_as_each_alone(
    parts: list[tuple[str, list[int]]], hides: bool, keeps_text: bool
) -> None:
    words = [word for word, _ in parts]
    events = [opening(), *(event(word, ids) for word, ids in parts), closing()]
    one, other = tap(hides, keeps_text), tap(hides, keeps_text)

    together, context, num_texts = relayed(events, together=True, tap=one)
    alone, expected, expected_texts = relayed(events, together=False, tap=other)

    assert text_of(together) == text_of(alone) == GUARD.clean_text("".join(words))[0]
    assert num_texts == expected_texts
    assert context.answer.chars == expected.answer.chars
    assert context.answer.start == expected.answer.start
    assert one.blind == other.blind
    for index, progress in other.choices.items():
        for name in progress.__slots__:
            assert getattr(one.choices[index], name) == getattr(progress, name), name


@pytest.mark.parametrize("hides", [True, False])
def test_plain_events_keep_their_bytes(hides: bool) -> None:
    words = [f" word{letter}" for letter in "abcdefgh"]
    events = [opening(), *(event(word, [number]) for number, word in enumerate(words)), closing()]

    together = relayed(events, together=True, tap=tap(hides, False))[0]

    assert together == relayed(events, together=False, tap=tap(hides, False))[0]
    assert (b'"token_ids":[0,1,2,3,4,5,6,7]' in together) is not hides


def test_an_event_is_known_by_the_bytes_around_its_word() -> None:
    template = EventTemplate.of(event(" word", None), 0, CONTENT, " word", None)
    assert template is not None

    run = template.run([event(" one", None), event(" two", None), event(" three", None, model="other")], 0)

    assert run.texts == [" one", " two"]
    assert run.events == [event(" one", None), event(" two", None)]


@pytest.mark.parametrize("word", ["", ' "', "\\", "\t", "é", "\x7f"])
def test_a_word_that_is_not_written_plainly_is_parsed(word: str) -> None:
    template = EventTemplate.of(event(" word", None), 0, CONTENT, " word", None)
    assert template is not None

    assert template.run([event(word, None)], 0).texts == []


def test_a_raw_control_character_is_left_to_the_parser() -> None:
    """JSON allows none inside a string, so such an event is no answer."""
    template = EventTemplate.of(event(" word", None), 0, CONTENT, " word", None)
    assert template is not None

    assert template.run([event(" word", None).replace(b" word", b" wo\trd")], 0).texts == []


def test_nothing_is_learned_where_the_word_stands_in_another_field() -> None:
    """The first `"content"` here is not the answer's."""
    came = b'data: {"note":{"content":"x"},"choices":[{"index":0,"delta":{"content":"x"},"finish_reason":null}]}'

    assert EventTemplate.of(came, 0, CONTENT, "x", None) is None


def test_nothing_is_learned_from_an_event_with_usage() -> None:
    came = event(" word", None, usage={"prompt_tokens": 1, "completion_tokens": 2})

    assert EventTemplate.of(came, 0, CONTENT, " word", None) is None


def test_events_after_the_end_are_parsed() -> None:
    events = [opening(), event(" one", [1]), event(" two", [2]), closing(), event(" three", [3]), event(" four", [4])]

    together = relayed(events, together=True, tap=tap(True, False))[0]

    assert together == relayed(events, together=False, tap=tap(True, False))[0]
