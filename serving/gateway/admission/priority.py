"""What a request says about its priority and its deadline."""

from __future__ import annotations

import math

from serving.gateway.admission.demand import Demand
from serving.gateway.context import RequestContext
from serving.gateway.errors import BadRequest

PRIORITY_HEADER = b"x-signet-priority"
DEADLINE_HEADER = b"x-signet-deadline-ms"
TIMEOUT_HEADER = b"x-request-timeout"
LOWEST_PRIORITY = -10


def demand_of(context: RequestContext, *, is_queued: bool, engine_priority: bool) -> Demand:
    """What the request asks of the queue; where there is none (not `is_queued`), headers and body are left alone.

    Raises:
        BadRequest: priority or deadline are no numbers.
    """
    question = context.question
    assert context.principal is not None
    demand = Demand(context.principal.tenant, context.principal.weight, question.model, slots=question.sequences)
    if is_queued:
        demand.priority = question.priority = priority_of(context, engine_priority)
        limit_s = deadline_of(context)
        if limit_s is not None:
            demand.deadline = context.started + limit_s
    return demand


def priority_of(context: RequestContext, to_engine: bool) -> int:
    """The priority asked for, at most the key's; 0, or the key's where that is lower, when none is asked for.

    The body's `priority` is taken out, since most engines refuse it; with `to_engine` it goes on in vLLM's sense
    (lower is earlier).

    Raises:
        BadRequest: no whole number, or below the lowest.
    """
    assert context.principal is not None
    body, highest = context.question.body, context.principal.priority
    header = context.headers.get(PRIORITY_HEADER)
    if header is None and "priority" not in body:
        return min(0, highest)
    wanted: object = body.pop("priority", None)
    name = "priority"
    if header is not None:
        name, wanted = "X-Signet-Priority", _whole_number(header)
    if wanted is None:
        priority = min(0, highest)
    elif type(wanted) is not int or wanted < LOWEST_PRIORITY:
        raise BadRequest(f"{name!r} must be a whole number, at least {LOWEST_PRIORITY}.", param=name)
    else:
        priority = min(wanted, highest)
    if to_engine and priority:
        body["priority"] = -priority
    return priority


def deadline_of(context: RequestContext) -> float | None:
    """Seconds from the request's arrival within which its answer must begin; None: it does not say.

    Raises:
        BadRequest: no positive number.
    """
    headers = context.headers
    if (value := headers.get(DEADLINE_HEADER)) is not None:
        return _positive(value, "X-Signet-Deadline-Ms") / 1000
    if (value := headers.get(TIMEOUT_HEADER)) is not None:
        return _positive(value, "X-Request-Timeout")
    return None


def _whole_number(text: bytes) -> object:
    try:
        return int(text)
    except ValueError:
        return text


def _positive(text: bytes, name: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise BadRequest(f"{name!r} must be a positive number.", param=name)
    return value
