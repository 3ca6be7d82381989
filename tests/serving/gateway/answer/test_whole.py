"""Whole answers by themselves: an engine's on its way to the client, and the policy's in place of one."""

from __future__ import annotations

import json
from collections.abc import Iterable
from itertools import product
from types import SimpleNamespace
from typing import Any

import pytest

from serving.gateway.answer.outgoing import Outgoing
from serving.gateway.answer.whole import refuse_question, relay_whole
from serving.gateway.context import RequestContext
from serving.gateway.endpoints import ENDPOINTS
from serving.gateway.errors import EngineFailed, GatewayError, LedgerDown
from serving.guard import Guard, GuardReport, GuardSettings
from serving.guard.settings import EntityActions
from tests.serving.gateway.answer.ends import Process, Recorded, Response, Sent, room_in
from tests.serving.gateway.endpoints.written import data_of
from tests.support.questions import request

ADDRESS = "anna@example.org"


class Settled(Recorded):
    """What a settlement was told."""

    def __init__(self, is_down: bool = False) -> None:
        super().__init__(is_down)
        self.hits = self.events = 0

    def note_output(self, reports: Iterable[GuardReport]) -> None:
        self.hits += sum(report.total for report in reports)

    def note_text_events(self, num_text_events: int = 1) -> None:
        self.events += num_text_events


class Judge:
    """A policy that shouts."""

    async def judge_whole(self, context: RequestContext, review: Any, reports: Any, body: bytes) -> bytes:
        return body.upper()


def asked(path: str = "/v1/chat/completions", guard: GuardSettings | None = None, **known: Any) -> RequestContext:
    context = request(None, ENDPOINTS[path], **known)
    context.input_report, context.answer_guard = Guard(guard or GuardSettings()).ask(
        context.question.body, context.endpoint.name
    )
    context.answer.engine = SimpleNamespace(is_vllm=lambda model: True)  # type: ignore[assignment]
    return context


def chat(text: str) -> bytes:
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    usage = {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12}
    # Spaced as no encoder of ours would.
    return json.dumps({"id": "c", "choices": [choice], "usage": usage}, indent=1).encode()


async def relay(context: RequestContext, body: bytes, settled: Settled | None = None, review: Any = None) -> Sent:
    sent, settled = Sent(), settled or Settled()
    outgoing = Outgoing(context, settled, sent, sent)  # type: ignore[arg-type]
    response: Any = Response([body], has_come=True)
    room = room_in(Process(free=0))
    await relay_whole(context, response, settled, Judge(), review, room, outgoing)  # type: ignore[arg-type]
    return sent


async def test_an_answer_with_nothing_to_clean_leaves_as_the_bytes_that_came() -> None:
    context, body = asked(), chat("Hello.")

    sent = await relay(context, body)

    assert (sent.status, sent.bodies) == (200, [body])
    assert (context.answer.prompt_tokens, context.answer.completion_tokens) == (5, 7)
    assert (context.answer.finish_reason, context.answer.chars, context.answer.is_counted) == ("stop", 6, True)


async def test_what_the_guard_finds_is_masked_and_counted() -> None:
    settled = Settled()

    sent = await relay(asked(), chat(f"Write to {ADDRESS}."), settled)

    assert ADDRESS.encode() not in sent.bodies[0]
    assert json.loads(sent.bodies[0])["choices"][0]["message"]["content"].startswith("Write to [")
    assert (settled.hits, settled.events, settled.commits) == (1, 1, 1)


async def test_nothing_is_sent_of_an_answer_that_is_blocked() -> None:
    settled = Settled()
    context = asked(guard=GuardSettings(output=EntityActions(email_address="block")))

    with pytest.raises(GatewayError) as refused:
        await relay(context, chat(f"Write to {ADDRESS}."), settled)

    assert ADDRESS not in refused.value.message
    assert (settled.hits, settled.commits) == (1, 0)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        *product(["/v1/chat/completions", "/v1/messages"], [b"", b"no json", b"[]", chat("x")[:-20]]),
        ("/v1/chat/completions", b'{"choices": 7}'),
        ("/v1/chat/completions", b'{"choices": []}'),
    ],
)
async def test_what_is_no_answer_is_the_engines_failure(path: str, body: bytes) -> None:
    settled = Settled()

    with pytest.raises(EngineFailed):
        await relay(asked(path), body, settled)
    assert settled.commits == 0


@pytest.mark.parametrize("reads", [True, False])
async def test_the_policy_has_the_last_word(reads: bool) -> None:
    context = asked()

    sent = await relay(context, chat("Hello."), review=SimpleNamespace(reads_answer=reads))

    assert sent.bodies == [chat("Hello.").upper()]
    heard = context.answer.heard
    assert [text.text for text in heard.all()] == ["Hello."] if heard is not None else not reads


async def test_an_answer_that_is_not_on_record_is_not_sent() -> None:
    context, sent, settled = asked(), Sent(), Settled(is_down=True)
    outgoing: Any = Outgoing(context, settled, sent, sent)  # type: ignore[arg-type]

    with pytest.raises(LedgerDown):
        await relay_whole(
            context,
            Response([chat("Hello.")], has_come=True),  # type: ignore[arg-type]
            settled,  # type: ignore[arg-type]
            Judge(),  # type: ignore[arg-type]
            None,
            room_in(Process(free=0)),
            outgoing,
        )
    assert sent.messages == []


async def refuse(context: RequestContext) -> Sent:
    sent = Sent()
    await refuse_question(context, "Not here.", Outgoing(context, Recorded(), sent, sent))  # type: ignore[arg-type]
    return sent


async def test_a_refused_question_is_answered_with_the_reason_as_often_as_answers_were_asked_for() -> None:
    context = request(choices=2)

    sent = await refuse(context)

    choices = json.loads(sent.bodies[0])["choices"]
    assert [choice["message"]["content"] for choice in choices] == ["Not here."] * 2
    assert context.answer.finish_reason == "content_filter"
    assert context.answer.is_counted


async def test_and_streamed_where_a_stream_was_asked_for() -> None:
    sent = await refuse(request(stream=True))

    [body] = sent.bodies
    assert body.endswith(b"data: [DONE]\n\n")
    assert data_of(body.split(b"\n\n")[:-1])[0]["choices"][0]["delta"]["content"] == "Not here."
