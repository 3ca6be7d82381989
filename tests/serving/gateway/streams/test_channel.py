"""Events of one text that come together leave as they would one by one."""

from __future__ import annotations

import json
from itertools import chain

from hypothesis import example, given, settings
from hypothesis import strategies as st

from serving.gateway.streams.channel import ChannelRelay
from serving.guard import Guard, GuardSettings
from serving.http.sse import event_data

GUARD = Guard(GuardSettings())
WORDS = st.sampled_from(
    [" sea", " the", "x", ".", " jane", "@example", ".org", " <", "b>", " ![a](", "http://", " 4111 "]
)


def event_of(text: str) -> bytes:
    return b"data: " + json.dumps({"choices": [{"index": 0, "delta": {"content": text}}]}).encode()


def sent(texts: list[str], sizes: list[int]) -> tuple[list[bytes], list[bytes]]:
    """What leaves while texts come, `sizes` of them together, and what leaves at the end."""
    relay = ChannelRelay(GUARD.stream(), 0, ("content", 0))
    out: list[bytes] = []
    end: list[bytes] = []
    first = 0
    for size in [*sizes, *[1] * len(texts)]:
        some = texts[first : first + size]
        if some:
            relay.feed_all([event_of(text) for text in some], some, "".join(some), out)
        first += size
    relay.finish(end)
    return out, end


def text_of(events: list[bytes]) -> str:
    answers = [json.loads(event_data(event) or b"{}") for event in events]
    return "".join(answer["choices"][0]["delta"]["content"] for answer in answers)


@settings(deadline=None, max_examples=200)
@given(st.lists(WORDS, min_size=1, max_size=12), st.lists(st.integers(1, 6), max_size=4))
@example([" sea", " the", " jane"], [3])
@example([" sea", " jane", "@example", ".org", " sea"], [4, 1])
def test_texts_that_come_together_leave_as_one_by_one(texts: list[str], sizes: list[int]) -> None:
    together, alone = [*chain(*sent(texts, sizes))], [*chain(*sent(texts, []))]

    assert text_of(together) == text_of(alone)
    if text_of(alone) == "".join(texts):
        assert together == alone == [event_of(text) for text in texts]


def test_what_is_clear_leaves_with_the_events_it_came_in() -> None:
    texts = [" sea"] * 20

    out, end = sent(texts, [20])

    assert len(out) >= 18
    assert out + end == [event_of(text) for text in texts]
