from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.http import sse
from serving.http.sse import EventSplitter, EventTooLong, event_data
from tests.support.growth import assert_linear

STREAM = b'data: {"a": 1}\n\n: a comment\n\nevent: x\ndata: two\ndata: lines\n\ndata: [DONE]\n\n'
EVENTS = [b'data: {"a": 1}', b": a comment", b"event: x\ndata: two\ndata: lines", b"data: [DONE]"]


def cut(data: bytes, places: list[int]) -> list[bytes]:
    ends = [0, *sorted({place % (len(data) + 1) for place in places}), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(ends)]


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n", b"\r"])
@given(places=st.lists(st.integers(min_value=0)))
def test_any_cutting_gives_the_same_events(line_end: bytes, places: list[int]) -> None:
    splitter = EventSplitter()

    events = [event for part in cut(STREAM.replace(b"\n", line_end), places) for event in splitter.feed(part)]

    assert events + splitter.finish() == EVENTS


def test_data_of_an_event() -> None:
    assert [event_data(event) for event in EVENTS] == [b'{"a": 1}', None, b"two\nlines", b"[DONE]"]


def test_an_event_without_its_blank_line_is_given_at_the_end() -> None:
    splitter = EventSplitter()

    assert splitter.feed(b"data: [DONE]\n") == []
    assert splitter.finish() == [b"data: [DONE]"]


def test_an_endless_event_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "MAX_EVENT_BYTES", 100)

    with pytest.raises(EventTooLong):
        EventSplitter().feed(b"data: " + b"x" * 200)


@pytest.mark.parametrize("piece", [1, 100, 65_536])
def test_a_long_event_in_pieces_takes_linear_time(piece: int) -> None:
    def split(num_pieces: int) -> Callable[[], object]:
        data = b"data: " + b"x" * (num_pieces * piece - 8) + b"\n\n"
        pieces = [data[start : start + piece] for start in range(0, len(data), piece)]

        def work() -> None:
            splitter = EventSplitter()
            assert [event for piece in pieces for event in splitter.feed(piece)] == [data[:-2]]

        return work

    few = 10_000 if piece == 1 else 2_000 if piece == 100 else 20
    assert_linear(split, few)
