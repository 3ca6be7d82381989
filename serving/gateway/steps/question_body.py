"""A request's question as an engine gets it."""

from __future__ import annotations

from typing import Any

from serving.gateway.context import RequestContext
from serving.gateway.engines.engine import Engine
from serving.gateway.fields.engine_body import engine_body
from serving.gateway.fields.tools import bound_tools


def question_body(context: RequestContext, engine: Engine, **more: Any) -> bytes:
    """The question as `engine` gets it, with `more` fields.

    Usage is asked for where it does not come by itself, since the ledger needs it. The question itself stays as it is:
    the next engine may be asked for another mark.
    """
    question = context.question
    body, path = question.body, context.endpoint.path
    if question.stream and context.endpoint.has_choices:
        more["stream_options"] = {**(body.get("stream_options") or {}), "include_usage": True}
    if question.binds_tools and engine.is_vllm(question.model):
        more["tools"] = bound_tools(path, body)
    return engine_body(path, body, engine, question.cache_salt, mark_arguments(context), more)


def mark_arguments(context: RequestContext) -> dict[str, Any] | None:
    """What our plugin is told of the answer's mark."""
    mark = context.mark
    if mark.scheme == "off":
        return None
    return {"signet_mark": mark.scheme, "signet_key": mark.permit}
