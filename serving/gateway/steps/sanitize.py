"""The question is cleaned, or refused."""

from __future__ import annotations

from serving.gateway.context import RequestContext
from serving.gateway.errors import BadRequest
from serving.guard import Guard, GuardRefusal


def sanitize(context: RequestContext, guard: Guard) -> RequestContext:
    """Clean the question; nothing is changed before all of it is clean.

    Raises:
        BadRequest: it holds something that is refused rather than cleaned.
    """
    body = dict(context.question.body)
    try:
        report, answers = begin_cleaning(context, guard).ask(body, context.endpoint.name)
    except GuardRefusal as refusal:
        raise refused(context, refusal) from None
    context.question.body, context.input_report, context.answer_guard = body, report, answers
    return context


def begin_cleaning(context: RequestContext, guard: Guard) -> Guard:
    """Note what is to be known of a question that is not clean yet; returns what holds for its tenant."""
    context.question.prompt_chars = context.endpoint.prompt_chars(context.question.body)
    assert context.principal is not None
    guard = guard.of_tenant(context.principal.tenant)
    context.policy_digest = guard.policy_digest
    return guard


def refused(context: RequestContext, refusal: GuardRefusal) -> BadRequest:
    """The error for a question that the guard refuses; what it did until then is counted."""
    context.input_report = refusal.report
    return BadRequest(refusal.message, code=refusal.code, param=refusal.param)
