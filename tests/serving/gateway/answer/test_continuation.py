"""A stream cut at any byte and continued reads as if nothing had happened."""

from __future__ import annotations

import asyncio
import json
from typing import Any, cast

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from serving.gateway.answer.attempts import EngineQuestion
from serving.gateway.answer.continuation import (
    CannotContinue,
    ChoiceContinuation,
    continued_seed,
    next_part,
    obstacle,
    tap_for,
    usage_event,
)
from serving.gateway.context import RequestContext
from serving.gateway.endpoints import CHAT, COMPLETIONS
from serving.gateway.engines.engine import Engine
from serving.gateway.steps.question_body import question_body
from serving.gateway.streams.broken import StreamBroken
from serving.gateway.streams.relay import StreamRelay
from serving.gateway.streams.stop_strings import StopStringJoiner
from serving.guard import Guard, GuardSettings
from serving.http.client import Reply
from tests.support.token_engine import CARD, QUESTION, TokenEngine

GUARD = Guard(GuardSettings())
HELLO = [{"role": "user", "content": "hello"}]
PIECES = [
    b"Hello",
    b" there",
    b" jane.doe",
    b"@example",
    b".org ",
    b" \xe8\x81",
    b"\x94",
    b"\xf0\x9f",
    b"\x98\x80",
    b"4111 1111",
    b" 1111 1111",
    b" STOP",
    b" ST",
    b"OP ",
    b"END",
    b"\n",
    b"",
]


class FakeEngine:
    """As much of an engine as a continuation looks at."""

    def __init__(self, tokens: TokenEngine) -> None:
        self.tokens = tokens
        self.has_plugin = True
        self.schemes = frozenset({"gumbel"})
        self.headers: list[tuple[bytes, bytes]] = []
        self.cards = {"scripted": CARD}

    def is_vllm(self, model: str) -> bool:
        return True

    async def ask(self, target: bytes, body: bytes, limit: int) -> Reply:
        assert target == b"/detokenize"
        return Reply(200, self.tokens.detokenize(json.loads(body))[:limit], b"")


def context_for(endpoint: str = "chat", **fields: Any) -> RequestContext:
    context = RequestContext({"chat": CHAT, "completions": COMPLETIONS}[endpoint], {}, b"")
    asked: dict[str, Any] = {"messages": HELLO} if endpoint == "chat" else {"prompt": "hello"}
    context.question.body = {"model": "scripted", "stream": True, **asked, **fields}
    context.question.model, context.question.stream = "scripted", True
    context.question.wants_usage = True
    return context


def cut_and_continue(context: RequestContext, tokens: TokenEngine, cuts: list[int], step: int = 10_000) -> bytes:
    """The bytes the client gets when the n-th engine's stream ends after cuts[n] bytes."""
    engine = cast(Engine, FakeEngine(tokens))
    relay = StreamRelay(context, GUARD, tap_for(context))
    question = EngineQuestion(
        context.endpoint.target, lambda engine: question_body(context, engine, return_token_ids=True)
    )
    joined, out = None, b""
    places = iter(cuts)
    while True:
        data = b"".join(tokens.stream(question.target.decode(), json.loads(question.body(engine))))
        place = next(places, None)
        data = data if place is None else data[:place]
        for start in range(0, len(data), step):
            piece = data[start : start + step]
            out += relay.feed(piece if joined is None else joined.feed(piece))
            if joined is not None and joined.done:
                asyncio.run(joined.settle())
                break
        if place is None:
            break
        relay.cut()
        if relay.complete:
            break
        context.answer.usage_reported = False
        part = next_part(context, relay.tap, EngineQuestion(context.endpoint.target, question.body))
        question, joined = part.question, part.answer
        if question.prepare is not None:
            asyncio.run(question.prepare(engine))
    assert relay.complete
    if not context.answer.usage_reported:
        assert relay.tap is not None
        relay.end(usage_event(relay.tap.first, relay.tap.prompt_tokens, relay.tap.completion_tokens))
    return out + relay.close()


def events_of(data: bytes) -> list[dict[str, Any]]:
    assert data.endswith(b"data: [DONE]\n\n")
    return [json.loads(event.removeprefix(b"data: ")) for event in data.split(b"\n\n")[:-2]]


def told(data: bytes) -> dict[str, Any]:
    """What a client makes of a stream."""
    events = events_of(data)
    choices = [choice for event in events for choice in event["choices"]]
    parts = [choice.get("delta", choice) for choice in choices]
    return {
        "text": "".join(part.get("content", part.get("text")) or "" for part in parts),
        "roles": [part["role"] for part in parts if "role" in part],
        "finish": [choice["finish_reason"] for choice in choices if choice["finish_reason"]],
        "stop": [choice["stop_reason"] for choice in choices if choice.get("stop_reason")],
        "usage": [event["usage"] for event in events if event.get("usage")],
        "names": {(event["id"], event["object"], event["created"], event["model"]) for event in events},
    }


answers = st.lists(st.sampled_from(PIECES), min_size=1, max_size=14).filter(
    lambda pieces: "\ufffd" not in b"".join(pieces).decode(errors="replace")
)


@settings(max_examples=300)
# The second engine tells the end of the stop string and a token behind it in one event.
@example([b"Hello", b" STOP", b" there", b"Hello"], [2], [405], 1, ["END", " STOP "], False, None, "chat")
@given(
    pieces=answers,
    steps=st.lists(st.integers(1, 3), min_size=1, max_size=4),
    cuts=st.lists(st.integers(0, 1500), min_size=1, max_size=3),
    step=st.sampled_from([1, 17, 10_000]),
    stop=st.sampled_from([None, "STOP", ["END", " STOP "], "\n"]),
    include=st.booleans(),
    limit=st.sampled_from([None, 3, 100]),
    endpoint=st.sampled_from(["chat", "completions"]),
)
def test_whatever_is_cut_the_client_sees_one_answer(
    pieces: list[bytes],
    steps: list[int],
    cuts: list[int],
    step: int,
    stop: Any,
    include: bool,
    limit: int | None,
    endpoint: str,
) -> None:
    fields: dict[str, Any] = {"max_tokens": limit or 200}
    if stop is not None:
        fields |= {"stop": stop, "include_stop_str_in_output": include}
    uncut = told(cut_and_continue(context_for(endpoint, **fields), TokenEngine(pieces, steps), [], step))

    continued = told(cut_and_continue(context_for(endpoint, **fields), TokenEngine(pieces, steps), cuts, step))

    assert len(continued.pop("names")) == len(uncut.pop("names")) == 1
    assert continued == uncut


def test_tokens_are_not_shown_to_a_client_that_did_not_ask() -> None:
    data = cut_and_continue(context_for(), TokenEngine([b"a", b"b", b"c"]), [700])

    assert b'"token_ids":null' in data
    assert b'token_ids":[' not in data


def test_a_client_that_asked_for_tokens_gets_each_once() -> None:
    data = cut_and_continue(context_for(return_token_ids=True), TokenEngine([b"c", b"b", b"a", b"d"]), [900])

    ids = [
        token_id
        for event in events_of(data)
        for choice in event["choices"]
        for token_id in choice.get("token_ids") or ()
    ]
    assert ids == [2, 1, 0, 3]
    assert [event["prompt_token_ids"] for event in events_of(data) if "prompt_token_ids" in event] == [QUESTION]


@pytest.mark.parametrize("steps", [[1], [2]], ids=["held back for a stop string", "sent together"])
def test_tokens_behind_a_stop_string_across_the_cut_are_not_counted(steps: list[int]) -> None:
    def usages(cuts: list[int]) -> Any:
        tokens = TokenEngine([b"one", b" ST", b"OP ", b"two", b"six"], steps)
        return told(cut_and_continue(context_for(stop="STOP", max_tokens=9), tokens, cuts))["usage"]

    assert usages([600]) == usages([]) == [{"prompt_tokens": 3, "completion_tokens": 3, "total_tokens": 6}]


def body_after(num_tokens: int, **fields: Any) -> dict[str, Any]:
    """What the second engine is asked after so many tokens of the first."""
    tokens = TokenEngine([b"one ", b"two ", b"one ", b"three ", b"four "])
    context = context_for(**{"max_tokens": 40, **fields})
    context.mark.scheme, context.mark.key_id, context.mark.permit = "gumbel", "mk1-x", "mk1-x.0"
    context.question.cache_salt = "salt"
    events = tokens.stream("/v1/chat/completions", {**context.question.body, "return_token_ids": True})
    relay = StreamRelay(context, GUARD, tap_for(context))
    relay.feed(b"".join(events[: num_tokens + 1]))
    engine = cast(Engine, FakeEngine(tokens))
    part = next_part(context, relay.tap, EngineQuestion(context.endpoint.target, lambda _: b""))
    assert isinstance(part, ChoiceContinuation)
    assert part.question.prepare is not None
    asyncio.run(part.question.prepare(engine))
    body: dict[str, Any] = json.loads(part.question.body(engine))
    return body


def test_sampling_settings_go_along_and_what_was_used_up_is_taken_off() -> None:
    body = body_after(
        3, temperature=0.7, top_p=0.9, top_k=5, min_p=0.1, min_tokens=5, ignore_eos=True, own_field=1, user="u"
    )

    kept = {"temperature": 0.7, "top_p": 0.9, "top_k": 5, "min_p": 0.1, "ignore_eos": True, "own_field": 1, "user": "u"}
    assert kept.items() <= body.items()
    assert (body["max_tokens"], body["min_tokens"]) == (37, 2)
    assert body["prompt"][:3] == QUESTION
    assert len(body["prompt"]) == 6
    assert "messages" not in body


def test_what_only_chats_have_stays_behind() -> None:
    body = body_after(2, verbosity="low", safety_identifier="s", service_tier="auto", prediction={"a": 1})

    assert not {"verbosity", "safety_identifier", "service_tier", "prediction"} & body.keys()


def test_the_continued_prompt_is_its_tenants() -> None:
    assert body_after(2)["cache_salt"] == "salt"


def test_the_mark_goes_on_and_the_plugin_is_told_where_the_answer_began() -> None:
    assert body_after(2, vllm_xargs={"theirs": 1})["vllm_xargs"] == {
        "theirs": 1,
        "signet_mark": "gumbel",
        "signet_key": "mk1-x.0",
        "signet_answer_start": 3,
    }


def test_a_seed_goes_on_with_other_numbers() -> None:
    seeds = {body_after(sent, seed=11)["seed"] for sent in (1, 2, 3)}

    assert len(seeds | {11}) == 4
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert body_after(2, seed=11)["seed"] == continued_seed(11, 2)


def test_a_frequency_penalty_counts_what_was_sent() -> None:
    body = body_after(3, frequency_penalty=0.5, logit_bias={"1": 2.0})

    one, two = body["prompt"][3], body["prompt"][4]
    expected = {"1": 2.0}
    expected[str(one)] = expected.get(str(one), 0.0) - 1.0
    expected[str(two)] = expected.get(str(two), 0.0) - 0.5
    assert body["logit_bias"] == expected
    assert body["frequency_penalty"] == 0.5


@pytest.mark.parametrize(
    "fields",
    [
        {"tools": [{"type": "function"}]},
        {"response_format": {"type": "json_object"}},
        {"structured_outputs": {"regex": "a*"}},
        {"logprobs": True},
        {"presence_penalty": 0.5},
        {"frequency_penalty": 0.5, "repetition_penalty": 1.1},
        {"echo": True},
        {"use_beam_search": True},
        {"bad_words": ["x"]},
        {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
    ],
)
def test_what_cannot_be_continued_is_not(fields: dict[str, Any]) -> None:
    with pytest.raises(CannotContinue):
        body_after(2, **fields)


def test_before_any_text_everything_can_be_asked_again() -> None:
    context = context_for(tools=[{"type": "function"}], logprobs=True)
    tap = tap_for(context)
    relay = StreamRelay(context, GUARD, tap)
    relay.feed(TokenEngine([b"a"]).stream("/v1/chat/completions", {"return_token_ids": True})[0])

    assert obstacle(context, tap) == ""


def test_reasoning_is_not_continued() -> None:
    context = context_for()
    relay = StreamRelay(context, GUARD, tap_for(context))
    event = {"id": "x", "choices": [{"index": 0, "delta": {"reasoning": "hm"}, "token_ids": [1]}]}
    relay.feed(b"data: " + json.dumps(event, separators=(",", ":")).encode() + b"\n\n")

    assert "reasoning" in obstacle(context, relay.tap)


def test_events_before_a_broken_one_are_not_lost() -> None:
    context = context_for()
    relay = StreamRelay(context, GUARD, tap_for(context))
    events = TokenEngine([b"one ", b"two ", b"three"]).stream("/v1/chat/completions", {"return_token_ids": True})

    with pytest.raises(StreamBroken) as caught:
        relay.feed(b"".join(events[:3]) + b"data: {broken\n\n")

    assert b"one " in caught.value.released


@given(
    text=st.text("abSTOP ", max_size=30),
    cut=st.integers(0, 30),
    held=st.integers(0, 3),
    pieces=st.lists(st.integers(1, 4), min_size=1),
    include=st.booleans(),
)
def test_a_stop_string_across_the_cut_ends_the_text(
    text: str, cut: int, held: int, pieces: list[int], include: bool
) -> None:
    stops = ["STOP", "ab"]
    before = text[:cut]
    if any(stop in before for stop in stops):
        return
    held = 0 if include else min(3, len(before))
    sent = before[: len(before) - held]
    joiner = StopStringJoiner(stops, sent, before[len(sent) :], include)

    out, rest, place, stopped = sent, text[cut:], 0, None
    while stopped is None:
        size = pieces[place % len(pieces)]
        place += 1
        piece, rest = rest[:size], rest[size:]
        new, stopped = joiner.feed(piece, final=not rest)
        out += new
        if not rest:
            break

    across = [(text.find(s, max(0, cut - len(s) + 1)), s) for s in stops]
    across = [(start, s) for start, s in across if 0 <= start < cut]
    if across:
        start, stop = min(across, key=lambda each: each[0] + len(each[1]))
        assert out == text[: start + len(stop) if include else start]
        assert stopped == stop
    else:
        assert out == text
