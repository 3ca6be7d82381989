"""Alternatives to tokens spell no value either, in any rank, and go as they came where they spell none."""

from __future__ import annotations

import json
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.gateway.context import RequestContext
from serving.gateway.endpoints import CHAT
from serving.gateway.streams.answer import clean_answer
from serving.gateway.streams.details import DetailGate
from serving.gateway.streams.relay import StreamRelay
from tests.serving.gateway.streams.detailed import GUARD, VALUES, cut, entry, relayed, streamed, texts, tokens_of, whole
from tests.serving.gateway.streams.leaks import decoded_events, leaked
from tests.support.scripted import DONE, chunk


@settings(max_examples=60, deadline=None)
@given(sizes=st.lists(st.integers(1, 9), min_size=1, max_size=9), lag=st.sampled_from([0, 30]))
def test_alternatives_spell_nothing_either(sizes: list[int], lag: int) -> None:
    others = cut(f"Mail {VALUES[0]} now", sizes)
    tokens = ["word "] * len(others)

    released = relayed(streamed(tokens, lag, 1, others=others), logprobs=True, top_logprobs=1)

    assert not leaked(decoded_events(released), VALUES)
    assert texts(released) == "".join(tokens)


def ranked(texts: list[str], others: list[list[str]], per_event: int = 1, lag: int = 0) -> bytes:
    """Tokens with several alternatives each: `others` holds what each rank spells, in pieces."""
    data, text, sent = b"", "".join(texts), 0
    for first in range(0, len(texts), per_event):
        tokens = texts[first : first + per_event]
        entries = [
            entry(t, [rank[n] for rank in others if n < len(rank)], "plain") for n, t in enumerate(tokens, first)
        ]
        end = (
            len(text) if first + per_event >= len(texts) else max(sent, len("".join(texts[: first + per_event])) - lag)
        )
        piece, sent = text[sent:end], end
        data += chunk({"content": piece} if piece else {}, logprobs={"content": entries})
    return chunk({"role": "assistant", "content": ""}) + data + chunk({}, "stop", stop_reason=None) + DONE


RANKED = [*VALUES, "DE89 3704 0044 0532 0130 00", "password: hunter2-Tr0ub4dor"]


@settings(max_examples=150, deadline=None)
@given(
    value=st.sampled_from(RANKED),
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=9),
    before=st.integers(0, 12),
    rank=st.integers(0, 3),
    own_is_first=st.booleans(),
    per_event=st.integers(1, 3),
    lag=st.sampled_from([0, 0, 0, 5]),
    step=st.sampled_from([7, 400, 100_000]),
)
def test_no_rank_spells_a_value_over_events_wherever_it_is_cut(
    value: str, sizes: list[int], before: int, rank: int, own_is_first: bool, per_event: int, lag: int, step: int
) -> None:
    pieces = [" word"] * before + cut(f" so {value}. ", sizes) + [" word"] * 4
    words = [(" sea", " the", " waves")[n % 3] for n in range(len(pieces))]
    others = [[(" of", " and", " it")[(n + k) % 3] for n in range(len(pieces))] for k in range(4)]
    others[rank] = pieces
    if own_is_first and rank:
        others[0] = words

    released = relayed(ranked(words, others, per_event, lag), step, logprobs=True, top_logprobs=4)

    cleaned = GUARD.clean_text("".join(pieces))[0]
    assert value not in cleaned
    assert not leaked(decoded_events(released), [value])
    assert texts(released) == "".join(words)


@settings(max_examples=100, deadline=None)
@given(
    value=st.sampled_from(VALUES),
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=9),
    others=st.lists(st.sampled_from([" of", " and", "s", " 4", "."]), min_size=2, max_size=5),
    own=st.lists(st.booleans(), min_size=1, max_size=7),
    step=st.sampled_from([7, 100_000]),
)
def test_alternatives_that_are_the_tokens_themselves_are_read_with_those_that_are_not(
    value: str, sizes: list[int], others: list[str], own: list[bool], step: int
) -> None:
    """The first alternative is the token for some events and the next piece of a value for others."""
    pieces = cut(f" so {value}. ", sizes) + [" word"] * 3
    words = [p if own[n % len(own)] else " sea" for n, p in enumerate(pieces)]

    released = relayed(ranked(words, [pieces, others * len(pieces)]), step, logprobs=True, top_logprobs=2)

    # Behind a word that it is glued to, the text itself may say it.
    assert value in texts(released) or not leaked(decoded_events(released), [value])
    assert texts(released) == GUARD.clean_text("".join(words))[0]


@pytest.mark.parametrize("step", [1, 100_000])
@pytest.mark.parametrize("odd", ["s", " 2024", "é", " 联", ".", "\n", "!", "<|im_end|>", " (", "**", "\\n", "'s"])
def test_ordinary_alternatives_go_as_they_came(odd: str, step: int) -> None:
    words = [" The", " sea", " was", " calm", ",", " and", " we", " slept", " well", ".", " Then", " it", " rained"]
    others = [words, [" A", " a", odd, " the", " is"] * 3, [" old", odd, "ing", ";", " of"] * 3]
    data = ranked(words, others).replace(b": ", b":").replace(b"data:", b"data: ")

    assert relayed(data, step, logprobs=True, top_logprobs=3) == data


def test_events_with_alternatives_are_known_by_their_bytes() -> None:
    words = [f" {'abcdefgh'[n % 8]}nd" for n in range(40)]
    others = [words, [" a", " the", " of"] * 14, [" and", "ing", ","] * 14]

    with patch.object(StreamRelay, "_take", autospec=True, side_effect=StreamRelay._take) as take:
        relayed(ranked(words, others), logprobs=True, top_logprobs=3)

    assert take.call_count < 6


@pytest.mark.parametrize(
    "other",
    [
        {"token": f"{VALUES[0]}\ufffd", "bytes": [120]},
        {"token": f"bytes:{VALUES[0]}", "bytes": [120]},
        {"token": " a", "bytes": list(VALUES[0].encode())},
    ],
)
@pytest.mark.parametrize("is_own", [True, False])
def test_a_token_and_its_bytes_say_the_same(other: dict[str, Any], is_own: bool) -> None:
    alone = {"token": " sea", "bytes": None, "logprob": -1.0, "top_logprobs": [] if is_own else [other]}
    entries = [{**alone, **other} if is_own else alone]
    data = chunk({"content": " sea"}, logprobs={"content": entries})

    released = relayed(data + chunk({}, "stop") + DONE, logprobs=True)
    body = clean_answer(RequestContext(CHAT, {}, b""), GUARD, whole(" sea", logprobs={"content": entries})).body

    assert not leaked([*decoded_events(released), json.loads(body)], VALUES)


def test_characters_in_parts_are_put_together_in_each_rank() -> None:
    """Digits of full width read as digits; each of their bytes is a token."""
    raw = "４１１１ １１１１ １１１１ １１１１".encode()
    pieces = [{"token": "\ufffd" if byte > 127 else chr(byte), "logprob": -1.0, "bytes": [byte]} for byte in raw]
    entries = [{"token": " a", "logprob": -1.0, "bytes": [32, 97], "top_logprobs": [piece]} for piece in pieces]
    data = b"".join(chunk({"content": " a"}, logprobs={"content": [entry]}) for entry in entries)

    released = relayed(data + chunk({"content": " b"}, "stop") + DONE, logprobs=True)

    told = [
        e
        for v in decoded_events(released)
        for c in v["choices"]
        for e in (c.get("logprobs") or {"content": []})["content"]
    ]
    assert raw not in b"".join(bytes(o["bytes"] or ()) for e in told for o in e["top_logprobs"])


def test_alternatives_told_by_numbers_are_left_out() -> None:
    """No text tells what they spell."""
    others = [{"token": f"token_id:{ord(c)}", "logprob": -1.0, "bytes": None} for c in VALUES[0]]
    data = b"".join(
        chunk(
            {"content": "a"}, logprobs={"content": [{"token": "token_id:97", "logprob": -1.0, "top_logprobs": [other]}]}
        )
        for other in others
    )

    released = relayed(data + chunk({}, "stop") + DONE, logprobs=True)

    assert tokens_of(released) == ["token_id:97"] * len(others)
    assert b"token_id:64" not in released


@settings(max_examples=100, deadline=None)
@given(
    value=st.sampled_from(RANKED),
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=9),
    before=st.integers(3, 12),
    lag=st.sampled_from([0, 0, 5]),
)
def test_words_among_alternatives_are_known_without_a_word_more_or_less(
    value: str, sizes: list[int], before: int, lag: int
) -> None:
    words = [" sea", " light", ", ", " keeper"] * 3
    others = [[*words[:before], *cut(value, sizes), *words] for words in (words, words[1:])]
    texts = [*words, *words[: len(others[0]) - len(words)]]
    texts += [" and"] * (len(others[0]) - len(texts))
    data = ranked(texts, others, lag=lag)
    known = relayed(data, 300, logprobs=True, top_logprobs=2)

    with patch.object(DetailGate, "read_words", lambda *_: False):
        assert relayed(data, 300, logprobs=True, top_logprobs=2) == known
