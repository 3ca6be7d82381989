"""Records an answer's length, its beginning and its token counts while it passes."""

from __future__ import annotations

from typing import Any

from serving.gateway.context import RequestContext
from serving.gateway.streams.chunks import PLAIN, Channel, token_count

# Enough of an answer's beginning to tell whether it is a refusal.
ANSWER_START_CHARS = 300


def record_text(context: RequestContext, channel: Channel, text: str) -> None:
    """Keep an answer's length and its beginning, which drift detection needs; the text itself is not kept."""
    answer = context.answer
    answer.chars += len(text)
    missing = ANSWER_START_CHARS - len(answer.start)
    if missing > 0 and channel[0] in PLAIN:
        answer.start += text[:missing]


def record_counts(context: RequestContext, usage: Any) -> None:
    """Keep what the engine counted, as far as it is a count; otherwise the text is counted in the end."""
    if isinstance(usage, dict):
        context.answer.note_usage(token_count(usage.get("prompt_tokens")), token_count(usage.get("completion_tokens")))
