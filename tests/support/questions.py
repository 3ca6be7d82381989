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
    """`known`: fields of the context; `headers`, `tenant` and the principal's own, in `holder`."""
    headers, holder = known.pop("headers", {}), known.pop("holder", {})
    body = {"model": "m", "messages": CONVERSATION} if body is None else body
    context = RequestContext(endpoint, headers, json.dumps(body).encode())
    context.body = body
    context.model = context.asked_model = body.get("model", "m")
    context.principal = Principal("key_1", known.pop("tenant", "acme"), **holder)
    for name, value in known.items():
        setattr(context, name, value)
    return context
