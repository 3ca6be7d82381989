"""Details of tokens: no more than the text says, and all of them where the guard changes nothing."""

from __future__ import annotations

import json
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scripted import DONE, chunk, usage_chunk
from streams.leaks import decoded_events, leaked

from serving.gateway.context import RequestContext
from serving.gateway.errors import BadRequest
from serving.gateway.streams import relay as relay_module
from serving.gateway.streams.answer import clean_answer
from serving.gateway.streams.details import _Reading
from serving.gateway.streams.relay import StreamRelay
from serving.guard import Guard, GuardSettings

GUARD = Guard(GuardSettings())
VALUES = [
    "jane.doe@example.org",
    "4111 1111 1111 1111",
    "sk-proj-abcdefghijklmnopqrstuvwxyz0123456789AB",
    "+1 415 555 2671",
]
WORDS = ["Hello", " there", ", ", " a very ordinary sentence.", "\n", " é", " 🎉", " 联系 "]


def cut(text: str, sizes: list[int]) -> list[str]:
    pieces, place = [], 0
    while place < len(text):
        size = sizes[len(pieces) % len(sizes)]
        pieces.append(text[place : place + size])
        place += size
    return pieces


def entry(token: str, others: list[str], written: str) -> dict[str, Any]:
    """A token's details as OpenAI writes them."""
    shown = f"token_id:{ord(token[0])}" if written == "ids" else token.replace(" ", "Ġ") if written == "raw" else token
    ranked = [{"token": other, "logprob": -1.0, "bytes": list(other.encode())} for other in others]
    return {"token": shown, "logprob": -0.5, "bytes": list(shown.encode()), "top_logprobs": ranked}


def details_of(tokens: list[str], others: list[list[str]], written: str, shape: str) -> dict[str, Any]:
    if shape == "chat":
        return {"content": [entry(token, ranked, written) for token, ranked in zip(tokens, others, strict=True)]}
    ranks = [{token: -0.5, **dict.fromkeys(ranked, -1.0)} for token, ranked in zip(tokens, others, strict=True)]
    return {
        "tokens": tokens,
        "token_logprobs": [-0.5] * len(tokens),
        "top_logprobs": ranks,
        "text_offset": [0] * len(tokens),
    }


def streamed(
    tokens: list[str],
    lag: int,
    per_event: int,
    *,
    shape: str = "chat",
    written: str = "plain",
    channel: str = "content",
    others: list[str] | None = None,
) -> bytes:
    """As vLLM streams: details with their tokens, the text `lag` characters later."""
    text, sent, data = "".join(tokens), 0, b""
    ranked = [[each] if each else [] for each in others] if others is not None else [[] for _ in tokens]
    for first in range(0, len(tokens), per_event):
        last = first + per_event
        end = len("".join(tokens[:last])) - lag if last < len(tokens) else len(text)
        piece, sent = text[sent : max(sent, end)], max(sent, end)
        more = {
            "logprobs": details_of(tokens[first:last], ranked[first:last], written, shape),
            "token_ids": [ord(c) for token in tokens[first:last] for c in token],
        }
        if channel == "arguments":
            delta: dict[str, Any] = {"tool_calls": [{"index": 0, "function": {"arguments": piece}}]} if piece else {}
        else:
            delta = {channel: piece} if piece else {}
        if shape == "chat":
            data += chunk(delta, **more)
        else:
            choice = {"index": 0, "text": piece, "finish_reason": None, **more}
            data += b"data: " + json.dumps({"id": "c", "choices": [choice]}).encode() + b"\n\n"
    return data + chunk({}, "stop", stop_reason=None) + DONE


def relayed(data: bytes, step: int = 1000, endpoint: Any = "chat", guard: Guard = GUARD, **body: Any) -> bytes:
    context = RequestContext(endpoint, {}, b"")
    context.body = body
    relay = StreamRelay(context, guard)
    out = b"".join(relay.feed(data[start : start + step]) for start in range(0, len(data), step))
    relay.finish()
    return out + relay.close()


def texts(data: bytes) -> str:
    choices = [choice for event in decoded_events(data) for choice in event["choices"]]
    parts = [choice.get("delta", choice) for choice in choices]
    calls = [call["function"]["arguments"] for part in parts for call in part.get("tool_calls", ())]
    return "".join(part.get("content") or part.get("reasoning") or part.get("text") or "" for part in parts) + "".join(
        calls
    )


def tokens_of(data: bytes) -> list[str]:
    found = []
    for event in decoded_events(data):
        for choice in event["choices"]:
            details = choice.get("logprobs") or {}
            found += details.get("tokens") or [each["token"] for each in details.get("content") or ()]
    return found


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
    endpoint = "chat" if shape == "chat" else "completions"

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

    released = relayed(
        data, 100_000, "chat" if shape == "chat" else "completions", logprobs=True, return_token_ids=True
    )

    assert tokens_of(released) == tokens
    ids = [
        each
        for event in decoded_events(released)
        for choice in event["choices"]
        for each in choice.get("token_ids") or ()
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
    body = clean_answer(RequestContext("chat", {}, b""), GUARD, whole(" sea", logprobs={"content": entries})).body

    assert not leaked([*decoded_events(released), json.loads(body)], VALUES)


def test_characters_in_parts_are_put_together_in_each_rank() -> None:
    """Digits of full width read as digits; each of their bytes is a token."""
    raw = "４１１１ １１１１ １１１１ １１１１".encode()
    pieces = [{"token": "\ufffd" if each > 127 else chr(each), "logprob": -1.0, "bytes": [each]} for each in raw]
    entries = [{"token": " a", "logprob": -1.0, "bytes": [32, 97], "top_logprobs": [each]} for each in pieces]
    data = b"".join(chunk({"content": " a"}, logprobs={"content": [each]}) for each in entries)

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
            {"content": "a"}, logprobs={"content": [{"token": "token_id:97", "logprob": -1.0, "top_logprobs": [each]}]}
        )
        for each in others
    )

    released = relayed(data + chunk({}, "stop") + DONE, logprobs=True)

    assert tokens_of(released) == ["token_id:97"] * len(others)
    assert b"token_id:64" not in released


class Restless:
    """A cleaner that is shown everything as it comes."""

    at_rest = False

    def __init__(self) -> None:
        self._stream = GUARD.stream()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@settings(max_examples=200, deadline=None)
@given(
    words=st.lists(st.sampled_from([*VALUES, *WORDS, "]", "(", "!", "<b>", "a'b.", "\u200b", "x" * 14]), max_size=12),
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=9),
)
def test_words_that_are_read_later_are_read_as_if_at_once(words: list[str], sizes: list[int]) -> None:
    restless: Any = Restless()
    lazy, eager = _Reading(GUARD.stream()), _Reading(restless)
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
    relay = StreamRelay(RequestContext("chat", {}, b"", body={"logprobs": True}), guard)
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


def whole(text: str, **more: Any) -> bytes:
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop", **more}
    return json.dumps(
        {"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}
    ).encode()


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("written", ["plain", "raw", "ids"])
def test_whole_answers_hold_too(value: str, written: str) -> None:
    tokens = cut(f"Mail {value} now", [4])
    details = {
        "logprobs": details_of(tokens, [[] for _ in tokens], written, "chat"),
        "token_ids": [ord(c) for c in "".join(tokens)],
    }
    for text in (f"Mail {value} now", "Mail "):
        context = RequestContext("chat", {}, b"", body={"logprobs": True, "return_token_ids": True, "stop": ["x"]})
        cleaned = json.loads(clean_answer(context, GUARD, whole(text, **details)).body)
        if text != "Mail " or written == "plain":
            assert not leaked([cleaned], VALUES)


def test_a_clean_whole_answer_keeps_its_bytes() -> None:
    details = {"logprobs": details_of(["Hello", " you"], [["a"], ["b"]], "plain", "chat"), "token_ids": [1, 2]}
    context = RequestContext("chat", {}, b"", body={"logprobs": True, "return_token_ids": True})
    body = whole("Hello you", **details)

    assert clean_answer(context, GUARD, body).body == body


def test_details_of_the_prompt_are_for_those_who_asked_and_wrote_it() -> None:
    tokens = cut(f"system: {VALUES[0]}", [5])
    prompt = [None, *({str(i): {"logprob": -1.0, "rank": 1, "decoded_token": t}} for i, t in enumerate(tokens))]
    clean = [None, {"7": {"logprob": -1.0, "rank": 1, "decoded_token": "Hello"}}]
    for asked, told, shown in ((1, prompt, None), (1, clean, clean), (None, clean, None)):
        context = RequestContext("completions", {}, b"", body={"prompt_logprobs": asked})
        body = json.dumps(
            {"choices": [{"index": 0, "text": "x", "finish_reason": "stop", "prompt_logprobs": told}]}
        ).encode()
        answer = json.loads(clean_answer(context, GUARD, body).body)
        assert answer["choices"][0]["prompt_logprobs"] == shown
    context = RequestContext("chat", {}, b"", body={"return_token_ids": True}, asked_model="prompt:support@1")
    body = json.dumps({"prompt_token_ids": [1, 2, 3], **json.loads(whole("x"))}).encode()
    assert json.loads(clean_answer(context, GUARD, body).body)["prompt_token_ids"] is None


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
    told = {each: {"content": [entry(each, [], "plain")]} for each in ("4111 ", "1111 ")}
    pieces = ["4111 ", "1111 ", "and then came ", "1111 ", "1111 "]
    data = b"".join(chunk({"content": each}, logprobs=told.get(each)) for each in pieces)

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
        patch.setattr(relay_module, "decode_usual", lambda _: (_ for _ in ()).throw(ValueError))
        apart = relayed(data, step, logprobs=True)

    released = relayed(data, step, logprobs=True)
    assert texts(released) == texts(apart)
    assert ends(released) == ends(apart)


def ends(data: bytes) -> list[tuple[Any, Any]]:
    choices = [choice for event in decoded_events(data) for choice in event["choices"]]
    return [(c["finish_reason"], c.get("stop_reason")) for c in choices if c.get("finish_reason")]
