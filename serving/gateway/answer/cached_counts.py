"""Counts of cached tokens in an answer's usage, taken out where the cache is not the tenant's own.

An engine that keeps no tenants apart tells by them how much of a prompt somebody has sent before.
"""

from __future__ import annotations

import re
from typing import Any

from serving.gateway.body import encode
from serving.gateway.context import RequestContext
from serving.gateway.endpoints.relay import with_data
from serving.gateway.streams.chunks import UNREADABLE, decode_any
from serving.http.sse import event_data

# A name in JSON follows a brace, a comma or a space; a quotation mark within a string follows a backslash.
_COUNT = re.compile(rb'(?<=[{,\s])"cached_tokens"\s*:\s*[0-9]+')
_ANTHROPIC = b'"cache_read_input_tokens"'
_APART = ("cache_read_input_tokens", "cache_creation_input_tokens")


def hides_cached(context: RequestContext) -> bool:
    """Whether the cache of the engine that answers is everybody's: it takes no salt."""
    return context.answer.engine is not None and not context.answer.engine.is_vllm(context.question.model)


def without_cached_counts(data: bytes, is_stream: bool) -> bytes:
    """A whole answer, or whole events of a stream, in which nothing of the prompt was cached."""
    if b'"cached_tokens"' in data:
        data = _COUNT.sub(b'"cached_tokens":0', data)
    if _ANTHROPIC not in data:
        return data
    if not is_stream:
        return _folded(data)
    return b"\n\n".join(_folded_event(event) for event in data.split(b"\n\n"))


def _folded(data: bytes) -> bytes:
    try:
        answer = decode_any(data)
    except UNREADABLE:
        return data
    return encode(answer) if _fold(answer) else data


def _folded_event(event: bytes) -> bytes:
    data = event_data(event) if _ANTHROPIC in event else None
    try:
        decoded = decode_any(data) if data else None
    except UNREADABLE:
        return event
    return with_data(event, decoded) if isinstance(decoded, dict) and _fold(decoded) else event


def _fold(answer: Any) -> bool:
    """Anthropic counts what came from the cache apart: here it goes to the rest. Whether there was any."""
    if not isinstance(answer, dict):
        return False
    changed = False
    for holder in (answer, answer.get("message")):
        usage = holder.get("usage") if isinstance(holder, dict) else None
        if isinstance(usage, dict):
            apart = [usage[name] for name in _APART if type(usage.get(name)) is int]
            if any(apart) and type(usage.get("input_tokens")) is int:
                usage["input_tokens"] += sum(apart)
                usage |= {name: 0 for name in _APART if name in usage}
                changed = True
    return changed
