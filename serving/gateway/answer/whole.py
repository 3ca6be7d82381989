"""Answers in one piece: an engine's, and the policy's refusal of a question."""

from __future__ import annotations

from serving.gateway.answer.cached_counts import hides_cached, without_cached_counts
from serving.gateway.answer.outgoing import Outgoing, joined
from serving.gateway.answer.room import AnswerRoom
from serving.gateway.answer.settle import Settlement
from serving.gateway.cleaning import offload
from serving.gateway.context import RequestContext
from serving.gateway.endpoints.answer import clean_whole
from serving.gateway.endpoints.texts import FILTERED, Written
from serving.gateway.policy import PolicySteps
from serving.gateway.policy.answer import note_replaced, written_answer
from serving.gateway.policy.review import Review
from serving.gateway.records import HeardTexts
from serving.gateway.steps.receipt import receipt_comment
from serving.gateway.streams.answer import CleanAnswer, clean_answer
from serving.gateway.streams.broken import refuse_blocked
from serving.gateway.streams.chunks import encode
from serving.http.client import UpstreamResponse


async def relay_whole(
    context: RequestContext,
    response: UpstreamResponse,
    settlement: Settlement,
    policy_steps: PolicySteps,
    review: Review | None,
    room: AnswerRoom,
    outgoing: Outgoing,
) -> None:
    """Read, clean, judge and send an engine's answer.

    Raises:
        UpstreamError, EngineFailed: it is none, and nothing was sent.
        GatewayError: it may not be released.
    """
    if review is not None and review.reads_answer:
        context.answer.heard = HeardTexts()
    body = await room.read(response)
    answer = await offload(context.tenant, len(body), _cleaned, context, body)
    context.answer.counted_chars = context.answer.chars
    settlement.note_output(answer.reports)
    refuse_blocked(answer.reports)
    settlement.note_text_events()
    body = answer.body
    if review is not None:
        body = await policy_steps.judge_whole(context, review, answer.reports, body)
    await outgoing.commit()
    if hides_cached(context):
        body = await offload(context.tenant, len(body), without_cached_counts, body, is_stream=False)
    await outgoing.whole(body)


async def refuse_question(context: RequestContext, reason: str, outgoing: Outgoing) -> None:
    """Answer with the policy's reason, in the form that was asked for; no engine is asked."""
    choices = {choice: Written(reason, FILTERED) for choice in range(context.question.choices)}
    note_replaced(context, choices, ())
    context.answer.usage_reported = True
    await outgoing.commit()
    written = written_answer(context, choices)
    if not context.question.stream:
        await outgoing.whole(encode(context.endpoint.write_answer(written)))
        return
    *events, last = context.endpoint.write_stream(written)
    await outgoing.last(joined([*events, *receipt_comment(context), last]))


def _cleaned(context: RequestContext, body: bytes) -> CleanAnswer:
    assert context.answer_guard is not None
    clean = clean_answer if context.endpoint.has_choices else clean_whole
    return clean(context, context.answer_guard, body)
