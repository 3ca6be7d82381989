"""A key that stands twice in an object carries nothing past the guard, whichever of the two a client reads."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.gateway.context import RequestContext
from serving.gateway.endpoints import CHAT, ENDPOINTS
from serving.gateway.endpoints.answer import clean_whole
from serving.gateway.endpoints.relay import EventRelay
from serving.gateway.streams.answer import clean_answer
from serving.gateway.streams.duplicate_keys import frame_of, repeats_keys
from serving.gateway.streams.relay import StreamRelay
from serving.guard import Guard, GuardSettings
from tests.serving.gateway.endpoints.streams import event as named
from tests.support.scripted import DONE, chunk

GUARD = Guard(GuardSettings())
EMAIL = "jane@example.org"

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.sampled_from('a:"\\\né{}[],')),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(st.sampled_from('ab:"'), max_size=2), inner),
)


def written_twice(data: Any) -> str:
    """JSON in which the first key of the first object that has one stands twice."""
    if isinstance(data, dict) and data:
        name = json.dumps(next(iter(data)))
        return f'{{{name}: "first", {json.dumps(data)[1:]}'
    inner = [written_twice(item) if isinstance(item, list | dict) else json.dumps(item) for item in data]
    return f"[{','.join(inner)}]"


@given(VALUES, st.booleans())
def test_keys_are_counted_exactly(data: Any, ascii_only: bool) -> None:
    assert not repeats_keys(json.dumps(data, ensure_ascii=ascii_only).encode())
    assert not repeats_keys(json.dumps(data).replace(":", " :").encode(), None)
    wrapped = [data, {"k": data}]
    assert repeats_keys(written_twice(wrapped).encode())


@pytest.mark.parametrize("data", [b'{"a":1,"\\u0061":2}', b'{"a":"\\u003a","a":"x"}', b'{"a":"\\u003A","a":"\\u003a"}'])
def test_escapes_hide_no_repetition(data: bytes) -> None:
    assert repeats_keys(data)


def put_twice(data: bytes, name: str) -> bytes:
    """The first object that has this key gets it twice, an address in front."""
    key = json.dumps(name).encode()
    assert key in data
    return data.replace(key, b'%b: "%b", %b' % (key, EMAIL.encode(), key), 1)


MESSAGE = {"role": "assistant", "content": "fine", "reasoning": "well"}
ANSWER = {"id": "c", "model": "m", "choices": [{"index": 0, "message": MESSAGE, "finish_reason": "stop"}]}


@pytest.mark.parametrize("name", ["id", "model", "role", "content", "reasoning", "finish_reason", "message", "choices"])
def test_a_whole_answer_carries_none(name: str) -> None:
    body = put_twice(json.dumps(ANSWER).encode(), name)

    cleaned = clean_answer(RequestContext(CHAT, {}, b""), GUARD, body).body

    assert EMAIL.encode() not in cleaned
    assert json.loads(cleaned) == ANSWER


@pytest.mark.parametrize("name", ["id", "model", "content", "delta", "index", "finish_reason", "choices"])
@pytest.mark.parametrize("at", [0, 1, 4, 5])
@pytest.mark.parametrize("step", [1, 100_000])
def test_an_event_carries_none(name: str, at: int, step: int) -> None:
    events = [chunk({"role": "assistant", "content": ""}), *(chunk({"content": f" w{n}"}) for n in range(5))]
    events[at] = put_twice(events[at], name)
    data = b"".join([*events, chunk({}, finish="stop"), DONE])
    relay = StreamRelay(RequestContext(CHAT, {}, b""), GUARD)

    out = b"".join(relay.feed(data[start : start + step]) for start in range(0, len(data), step))
    relay.finish()
    out += relay.close()

    assert EMAIL.encode() not in out
    assert b"w4" in out


def test_an_event_that_only_looks_like_the_one_before_carries_none() -> None:
    first, plain = chunk({"role": "assistant", "content": ""}), chunk({"content": " a "})
    trick = plain.replace(b'" a "', b'"%b", "content": " a "' % EMAIL.encode())
    relay = StreamRelay(RequestContext(CHAT, {}, b""), GUARD)

    out = b"".join(relay.feed(sent) for sent in (first, plain, plain, trick, plain)) + relay.flush()

    assert EMAIL.encode() not in out
    assert out.count(b'" a "') == 4


def test_a_frame_needs_a_text_that_can_be_found() -> None:
    assert frame_of(b'{"a":"x","b":"x"}', "x") is None
    assert frame_of(b'{"a":"\\u00e9"}', "é") is None
    frame = frame_of(b'{"a":"x","b":"y"}', "x")
    assert frame is not None
    assert (frame.start, frame.end, frame.num_quotes) == (b'{"a":"', b'","b":"y"}', 8)


DELTAS: dict[str, Any] = {
    "/v1/responses": {"type": "response.output_text.delta", "item_id": "m", "output_index": 0, "delta": "fine"},
    "/v1/messages": {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "fine"}},
}


@pytest.mark.parametrize(
    ("path", "name"), [("/v1/responses", "delta"), ("/v1/messages", "text"), ("/v1/messages", "delta")]
)
def test_the_other_endpoints_events_carry_none(path: str, name: str) -> None:
    endpoint = ENDPOINTS[path]
    relay = EventRelay(RequestContext(endpoint, {}, b""), GUARD)

    out = relay.feed(put_twice(named(DELTAS[path]), name)) + relay.flush()

    assert EMAIL.encode() not in out
    assert b"fine" in out


def test_the_other_endpoints_answers_carry_none() -> None:
    endpoint = ENDPOINTS["/v1/messages"]
    block = {"type": "tool_use", "id": "t", "name": "f", "input": {"to": "all"}}
    body = put_twice(json.dumps({"content": [block], "stop_reason": "tool_use"}).encode(), "to")

    cleaned = clean_whole(RequestContext(endpoint, {}, b""), GUARD, body).body

    assert EMAIL.encode() not in cleaned
    assert json.loads(cleaned)["content"] == [block]
