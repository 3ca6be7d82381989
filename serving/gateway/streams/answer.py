"""The whole answer, not streamed: cleaned, and passed on as the bytes that came when nothing had to change."""

from __future__ import annotations

from dataclasses import dataclass

from serving.gateway.context import RequestContext
from serving.gateway.errors import EngineFailed
from serving.gateway.streams.chunks import (
    ABORTED,
    UNREADABLE,
    decode_answer,
    decode_any,
    encode,
    require_utf8,
    set_text,
    texts_of,
)
from serving.gateway.streams.relay import note_text
from serving.guard import Answers, GuardReport


@dataclass(frozen=True, slots=True)
class CleanAnswer:
    """What the client gets, and what the guard did to it."""

    body: bytes
    reports: list[GuardReport]


def clean_answer(context: RequestContext, guard: Answers, body: bytes) -> CleanAnswer:
    """Clean every text of an answer and note its usage in the context.

    Raises:
        EngineFailed: the engine's body is not an answer, or only a part of one.
    """
    try:
        require_utf8(body)
        answer = decode_answer(body)
    except UNREADABLE:
        raise EngineFailed("The engine sent what is no answer in JSON.") from None
    if answer.usage is not None:
        context.note_usage(answer.usage.prompt_tokens, answer.usage.completion_tokens)
    if any(choice.finish_reason == ABORTED for choice in answer.choices):
        raise EngineFailed("The engine gave the answer up when it was stopped.")
    changed: list[tuple[int, tuple[str, int], str]] = []
    reports: list[GuardReport] = []
    for position, choice in enumerate(answer.choices):
        context.finish_reason = choice.finish_reason or context.finish_reason
        for channel, text in texts_of(choice):
            note_text(context, channel, text)
            cleaned, report = guard.clean_text(text, json=channel[0] == "arguments")
            if context.passage is not None:
                context.passage.text(choice.index, *channel).add(cleaned)
            if cleaned != text:
                changed.append((position, channel, cleaned))
            if report:
                reports.append(report)
    if not changed:
        return CleanAnswer(body, reports)
    data = decode_any(body)
    for position, channel, cleaned in changed:
        set_text(data["choices"][position], channel, cleaned)
    return CleanAnswer(encode(data), reports)
