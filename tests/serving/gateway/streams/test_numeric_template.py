"""Events known by their bytes say what parsing them says, whatever stands where text and numbers stood."""

from __future__ import annotations

import json
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.gateway.context import RequestContext
from serving.gateway.endpoints import CHAT, ENDPOINTS
from serving.gateway.endpoints.relay import EventRelay
from serving.gateway.records import Question
from serving.gateway.streams.numeric_template import NumericTemplate
from serving.gateway.streams.relay import StreamRelay
from serving.gateway.streams.tokens import TokenTap
from serving.guard import Guard, GuardSettings
from tests.serving.gateway.endpoints.streams import event as named
from tests.support.scripted import DONE, chunk

GUARD = Guard(GuardSettings())
EMAIL = "jane@example.org"
WORDS = st.sampled_from([" word", " a", " bytes", "content", " é", "\n", '"', "\\u", "", f" {EMAIL} ", " token_ids"])


def details(token: str, **fields: Any) -> dict[str, Any]:
    entry = {"token": token, "logprob": -0.25, "bytes": list(token.encode()), "top_logprobs": []}
    return {"content": [{**entry, **fields}]}


def told(text: str, token: str | None = None, ids: Any = None, **fields: Any) -> bytes:
    more = {} if ids is None else {"token_ids": ids}
    data = chunk({"content": text}, logprobs=details(text if token is None else token, **fields), **more)
    return data.replace(b": ", b":").replace(b"data:", b"data: ").replace(b", ", b",") if ids is not None else data


def relayed(events: list[bytes], *, taps: bool, parses: bool) -> tuple[bytes, list[int]]:
    context = RequestContext(CHAT, {}, b"", question=Question(body={"logprobs": True}))
    tap = TokenTap(1, answers_each=1, hides=True, keeps_text=False) if taps else None
    if tap is not None:
        tap.note_prompt([1])
    relay = StreamRelay(context, GUARD, tap)
    with patch("serving.gateway.streams.relay.NumericTemplate.of", (lambda *_: None) if parses else NumericTemplate.of):
        out = b"".join(relay.feed(event) for event in [chunk({"role": "assistant", "content": ""}), *events])
        out += relay.feed(chunk({}, finish="stop") + DONE)
    relay.finish()
    return out + relay.close(), [*tap.choices[0].ids] if tap is not None else []


ODD: list[dict[str, Any]] = [
    {},
    {},
    {},
    {"logprob": -1e-7},
    {"logprob": None},
    {"bytes": None},
    {"bytes": list(EMAIL.encode())},
    {"token": EMAIL},
    {"top_logprobs": [{"token": EMAIL, "logprob": -1.0, "bytes": None}]},
    {"note": EMAIL},
]


@settings(max_examples=60, deadline=None)
@given(events=st.lists(st.tuples(WORDS, st.sampled_from(ODD)), max_size=10), taps=st.booleans())
def test_details_known_by_their_bytes_are_read_as_if_parsed(
    events: list[tuple[str, dict[str, Any]]], taps: bool
) -> None:
    written = [told(text, ids=[7 + n] if taps else None, **odd) for n, (text, odd) in enumerate(events)]
    assert relayed(written, taps=taps, parses=False) == relayed(written, taps=taps, parses=True)


@pytest.mark.parametrize(
    "change",
    [
        lambda event: event.replace(b'"token":', b'"token": "%b", "token":' % EMAIL.encode()),
        lambda event: event.replace(b'"logprob":', b'"logprob": "%b", "logprob":' % EMAIL.encode()),
        lambda event: event.replace(b'" b"', b'"%b", "content": " b"' % EMAIL.encode(), 1),
        lambda event: event.replace(b'"token": " b"', b'"token": "%b"' % EMAIL.encode()),
    ],
)
def test_an_event_that_only_looks_like_the_one_before_carries_nothing(change: Any) -> None:
    trick = change(told(" b"))
    assert EMAIL.encode() in trick

    out, _ = relayed([told(" a"), told(" c"), trick, told(" d")], taps=False, parses=False)

    assert EMAIL.encode() not in out
    assert b" d" in out


OTHERS = [{"token": token, "logprob": -1.5, "bytes": list(token.encode())} for token in (" a", " [1]", " so: ")]


@pytest.mark.parametrize(
    ("change", "is_read"),
    [
        (lambda event: event.replace(b'{"token":" a"', b'{"token":" a"'), True),
        (lambda event: event.replace(b'"logprob":-1.5', b'"logprob":-1e-3', 1), True),
        (lambda event: event.replace(b'{"token":" a"', b'{"token":"%b","token":" a"' % EMAIL.encode()), False),
        (lambda event: event.replace(b'{"token":" a"', b'{"note":"%b","token":" a"' % EMAIL.encode()), False),
        (lambda event: event.replace(b'{"token":" a"', b'{"token":"\\u0020a"'), False),
        (lambda event: event.replace(b'{"token":" a"', b'{\n"token":" a"'), False),
        (lambda event: event.replace(b'{"token":" a"', b'{"token":" b"'), False),
        (lambda event: event.replace(b'{"token":" a"', b'[],{"token":" a"'), False),
        (lambda event: event.replace(b',"logprob":-1.5', b"", 1), False),
    ],
)
def test_alternatives_are_known_that_say_no_more_than_their_tokens(change: Any, is_read: bool) -> None:
    def written(text: str) -> bytes:
        data = chunk({"content": text}, logprobs=details(text, top_logprobs=OTHERS))
        return data.replace(b": ", b":").replace(b"data:", b"data: ").replace(b", ", b",").replace(b"so:", b"so: ")[:-2]

    template = NumericTemplate.of(written(" sea"), " sea", lambda probe: True)
    event = change(written(" bay"))

    assert template is not None
    matched = template.read(event)
    assert (matched is not None) == is_read
    assert matched is None or (matched.text, matched.ranks) == (" bay", [" a", " [1]", " so: "])


def test_events_are_known_from_the_second_on() -> None:
    with patch("serving.gateway.streams.relay.StreamRelay._take", autospec=True, side_effect=StreamRelay._take) as take:
        relayed([told(f" w{n}") for n in range(20)], taps=False, parses=False)
        assert take.call_count < 6
        relayed([told(f" w{n}", ids=[n]) for n in range(20)], taps=True, parses=False)
        assert take.call_count < 12


PIECES: dict[str, Any] = {
    "/v1/responses": lambda text, n: {
        "type": "response.output_text.delta",
        "item_id": "m",
        "output_index": 0,
        "content_index": 0,
        "delta": text,
        "logprobs": [],
        "sequence_number": n,
    },
    "/v1/messages": lambda text, n: {
        "type": "content_block_delta",
        "index": 0,
        "delta": {"type": "text_delta", "text": text},
    },
}


@pytest.mark.parametrize("path", PIECES)
@settings(max_examples=50, deadline=None)
@given(texts=st.lists(WORDS, max_size=12), twice=st.integers(0, 20))
def test_the_other_endpoints_pieces_are_read_as_if_parsed(path: str, texts: list[str], twice: int) -> None:
    endpoint = ENDPOINTS[path]
    events = [named(PIECES[path](text, n)) for n, text in enumerate(texts)]
    if twice < len(events):
        key = b'"delta":' if b'"delta": "' in events[twice] else b'"text":'
        events[twice] = events[twice].replace(key, b'%b "%b", %b' % (key, EMAIL.encode(), key), 1)

    def relayed(of: Any) -> bytes:
        relay = EventRelay(RequestContext(endpoint, {}, b""), GUARD)
        with patch("serving.gateway.endpoints.relay.NumericTemplate.of", of):
            return b"".join(relay.feed(event) for event in events) + relay.flush()

    out = relayed(NumericTemplate.of)
    assert out == relayed(lambda *_: None)
    assert EMAIL.encode() not in out


def test_nothing_is_learned_from_a_text_that_a_key_or_another_value_equals() -> None:
    event = chunk({"content": "content"}, logprobs=details("content"))[:-2]
    assert (
        NumericTemplate.of(event, "content", lambda probe: json.loads(probe[6:])["choices"][0]["delta"] == {}) is None
    )
    assert NumericTemplate.of(chunk({"content": "é"})[:-2], "é", lambda probe: True) is None
