"""Details of tokens in a stream: no more than the text says, and all of them where the guard changes nothing."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from serving.gateway.context import RequestContext
from serving.gateway.endpoints import CHAT, COMPLETIONS
from serving.gateway.errors import BadRequest
from serving.gateway.records import Question
from serving.gateway.streams import fast_path
from serving.gateway.streams.relay import StreamRelay
from serving.gateway.streams.spelled_text import SpelledText
from serving.guard import Guard, GuardSettings
from tests.serving.gateway.streams.detailed import (
    GUARD,
    VALUES,
    WORDS,
    cut,
    details_of,
    entry,
    relayed,
    streamed,
    texts,
    tokens_of,
)
from tests.serving.gateway.streams.leaks import decoded_events, leaked
from tests.serving.gateway.streams.restless import Restless
from tests.support.scripted import DONE, chunk, usage_chunk


@example(
    # Pieces of a vocabulary: a space that is written as a letter, behind the value that it ends.
    words=["jane.doe@example.org", "jane.doe@example.org", "4111 1111 1111 1111", "jane.doe@example.org"],
    sizes=[1],
    lag=400,
    per_event=1,
    shape="chat",
    written="raw",
    channel="content",
    step=100_000,
)
@settings(max_examples=150, deadline=None)
@given(
    words=st.lists(st.sampled_from(VALUES + WORDS), min_size=1, max_size=7),
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=9),
    lag=st.sampled_from([0, 1, 8, 400]),
    per_event=st.integers(1, 3),
    shape=st.sampled_from(["chat", "completions"]),
    written=st.sampled_from(["plain", "raw", "ids"]),
    channel=st.sampled_from(["content", "reasoning", "arguments"]),
    step=st.sampled_from([7, 100_000]),
)
def test_details_never_say_what_the_text_does_not(
    words: list[str], sizes: list[int], lag: int, per_event: int, shape: str, written: str, channel: str, step: int
) -> None:
    text = "".join(words)
    data = streamed(cut(text, sizes), lag, per_event, shape=shape, written=written, channel=channel)
    endpoint = CHAT if shape == "chat" else COMPLETIONS

    released = relayed(data, step, endpoint, logprobs=True, return_token_ids=True)

    json_text = channel == "arguments" and shape == "chat"
    cleaned = GUARD.clean_text(text, json=json_text)[0]
    assert texts(released) == cleaned
    assert not leaked(decoded_events(released), [value for value in VALUES if value not in cleaned])
    if "jane.doe@example" not in cleaned:
        assert "jane.doe@example" not in "".join(tokens_of(released)).replace("Ġ", " ")


@settings(max_examples=60, deadline=None)
@given(
    words=st.lists(st.sampled_from(WORDS), min_size=1, max_size=7),
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=9),
    lag=st.sampled_from([0, 5, 400]),
    per_event=st.integers(1, 3),
    shape=st.sampled_from(["chat", "completions"]),
)
def test_a_clean_answer_keeps_all_details(
    words: list[str], sizes: list[int], lag: int, per_event: int, shape: str
) -> None:
    tokens = cut("".join(words), sizes)
    data = streamed(tokens, lag, per_event, shape=shape)

    released = relayed(data, 100_000, CHAT if shape == "chat" else COMPLETIONS, logprobs=True, return_token_ids=True)

    assert tokens_of(released) == tokens
    ids = [
        token_id
        for event in decoded_events(released)
        for choice in event["choices"]
        for token_id in choice.get("token_ids") or ()
    ]
    assert "".join(map(chr, ids)) == "".join(tokens)


def test_details_stand_beside_their_text() -> None:
    tokens = ["Hello", " there", ",", " how", " are", " you", "?"]

    events = decoded_events(relayed(streamed(tokens, 0, 1), logprobs=True))

    beside = [
        (c["delta"].get("content"), [e["token"] for e in c["logprobs"]["content"]])
        for e in events
        for c in e["choices"]
        if c.get("logprobs")
    ]
    assert beside == [(token, [token]) for token in tokens]


@settings(max_examples=200, deadline=None)
@given(
    words=st.lists(st.sampled_from([*VALUES, *WORDS, "]", "(", "!", "<b>", "a'b.", "\u200b", "x" * 14]), max_size=12),
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=9),
)
def test_words_that_are_read_later_are_read_as_if_at_once(words: list[str], sizes: list[int]) -> None:
    restless: Any = Restless(GUARD)
    lazy, eager = SpelledText(GUARD.stream()), SpelledText(restless)
    for piece in cut("".join(words), sizes):
        lazy.feed(piece)
        eager.feed(piece)
        assert (lazy.settled, lazy.fed) == (eager.settled, eager.fed)
    lazy.finish()
    eager.finish()
    assert (lazy.changes, lazy.settled) == (eager.changes, eager.settled)


def test_bytes_that_are_another_text_are_left_out() -> None:
    data = chunk(
        {"content": "Hello "},
        logprobs={"content": [{"token": "Hello ", "logprob": -1, "bytes": list(VALUES[0].encode())}]},
    )

    released = relayed(data + chunk({}, "stop") + DONE, logprobs=True)

    assert not leaked(decoded_events(released), VALUES)
    assert tokens_of(released) == ["Hello "]


@pytest.mark.parametrize("lag", [0, 10, 400])
def test_details_of_a_blocked_value_are_not_out_before_the_error(lag: int) -> None:
    guard = Guard(GuardSettings.model_validate({"output": {"email_address": "block"}}))
    data = streamed(cut(f"Mail {VALUES[0]} now, please, " + "and more " * 50, [3]), lag, 1)
    relay = StreamRelay(RequestContext(CHAT, {}, b"", question=Question(body={"logprobs": True})), guard)
    out = b""

    with pytest.raises(BadRequest, match="EMAIL_ADDRESS"):  # noqa: PT012 - what came before the error counts
        for start in range(0, len(data), 50):
            out += relay.feed(data[start : start + 50])
        relay.finish()

    spelled = "".join(tokens_of(out + relay.flush()))
    assert "doe" not in spelled


def test_a_stop_string_hides_the_end_of_a_value() -> None:
    """The text ends before the stop string, the tokens with it."""
    tokens = ["Mail ", "jane", ".doe", "@example", ".org"]
    events = [
        chunk(
            {"content": t} if t != ".org" else {},
            logprobs=details_of([t], [[]], "plain", "chat"),
            token_ids=[ord(c) for c in t],
        )
        for t in tokens
    ]
    data = b"".join(events) + chunk({}, "stop", stop_reason=".org") + DONE

    released = relayed(data, logprobs=True, return_token_ids=True, stop=[".org"])

    assert not leaked(decoded_events(released), VALUES)


def mixed(tokens: list[str], kinds: list[str], others: list[str]) -> bytes:
    """Events with details of the token beside its text, before its text, or of none."""
    data, pending = b"", ""
    for number, token in enumerate(tokens):
        kind = kinds[number % len(kinds)]
        ranked = [others[number % len(others)]] if others else []
        details = None if kind == "bare" else {"content": [entry(token, ranked or [token], "plain")]}
        piece, pending = ("", pending + token) if kind == "late" else (pending + token, "")
        data += chunk({"content": piece}, logprobs=details)
    return data + chunk({"content": pending}, "length", stop_reason=None) + usage_chunk() + DONE


@settings(max_examples=200, deadline=None)
@given(
    words=st.lists(st.sampled_from(VALUES + WORDS), min_size=1, max_size=6),
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=9),
    kinds=st.lists(st.sampled_from(["beside", "beside", "beside", "late", "bare"]), min_size=1, max_size=12),
    others=st.lists(st.sampled_from(["4111 1111 ", "a", " b"]), max_size=2),
    step=st.sampled_from([7, 100_000]),
)
@example(["4111 1111 1111 1111", "."], [5], ["beside", "beside", "late", "late"], [], 100_000)
@example(["4111 1111 1111 1111", " x"], [10, 1], ["beside", "bare"], [], 100_000)
def test_details_that_stop_following_the_text_are_read_with_those_that_did(
    words: list[str], sizes: list[int], kinds: list[str], others: list[str], step: int
) -> None:
    text = "".join(words)
    cleaned = GUARD.clean_text(text)[0]

    released = relayed(mixed(cut(text, sizes), kinds, others), step, logprobs=True)

    assert texts(released) == cleaned
    assert not leaked(decoded_events(released), [value for value in VALUES if value not in cleaned])


def test_what_is_spelled_around_a_text_without_details_is_no_value() -> None:
    """The text alone shows no card: another word stands between its halves, of which the details say nothing."""
    told = {token: {"content": [entry(token, [], "plain")]} for token in ("4111 ", "1111 ")}
    pieces = ["4111 ", "1111 ", "and then came ", "1111 ", "1111 "]
    data = b"".join(chunk({"content": piece}, logprobs=told.get(piece)) for piece in pieces)

    released = relayed(data + chunk({}, "stop") + DONE, logprobs=True)

    assert texts(released) == "".join(pieces)
    assert "4111 1111 1111 1111" not in "".join(tokens_of(released))


@settings(max_examples=100, deadline=None)
@given(
    words=st.lists(st.sampled_from(VALUES + WORDS + ["\\n", "Ġ"]), min_size=1, max_size=6),
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=9),
    kinds=st.lists(st.sampled_from(["beside", "beside", "late", "bare"]), min_size=1, max_size=6),
    step=st.sampled_from([7, 100_000]),
)
def test_events_that_pass_as_they_came_say_what_they_say_taken_apart(
    words: list[str], sizes: list[int], kinds: list[str], step: int
) -> None:
    data = mixed(cut("".join(words), sizes), kinds, [])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fast_path, "decode_usual", lambda _: (_ for _ in ()).throw(ValueError))
        apart = relayed(data, step, logprobs=True)

    released = relayed(data, step, logprobs=True)
    assert texts(released) == texts(apart)
    assert ends(released) == ends(apart)


def ends(data: bytes) -> list[tuple[Any, Any]]:
    choices = [choice for event in decoded_events(data) for choice in event["choices"]]
    return [(c["finish_reason"], c.get("stop_reason")) for c in choices if c.get("finish_reason")]
