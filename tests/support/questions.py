"""A request as the steps before have left it, for tests of one step."""

from __future__ import annotations

import json
from typing import Any

from serving.gateway.context import RequestContext
from serving.gateway.endpoints import CHAT
from serving.gateway.endpoints.endpoint import Endpoint
from serving.identity import Principal

CONVERSATION = [{"role": "user", "content": "Hello."}]


def request(body: dict[str, Any] | None = None, endpoint: Endpoint = CHAT, **known: Any) -> RequestContext:
    """`known`: fields of the context and its records; `headers`, `tenant` and the principal's own, in `holder`."""
    headers, holder = known.pop("headers", {}), known.pop("holder", {})
    body = {"model": "m", "messages": CONVERSATION} if body is None else body
    context = RequestContext(endpoint, headers, json.dumps(body).encode())
    context.question.body = body
    context.question.model = context.question.asked_model = body.get("model", "m")
    context.principal = Principal("key_1", known.pop("tenant", "acme"), **holder)
    for name, value in known.items():
        records = (context.question, context.answer, context)
        setattr(next(record for record in records if hasattr(record, name)), name, value)
    return context
