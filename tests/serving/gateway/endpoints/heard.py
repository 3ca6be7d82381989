"""The texts of an answer, as the policy hears them while the answer is cleaned."""

from __future__ import annotations

import json
from typing import Any

from serving.gateway.context import RequestContext
from serving.gateway.endpoints.answer import clean_whole
from serving.gateway.endpoints.endpoint import Endpoint
from serving.gateway.endpoints.relay import EventRelay
from serving.gateway.endpoints.texts import AnswerText
from serving.gateway.policy.answer import answer_texts
from serving.gateway.records import AnswerRecord, HeardTexts, Question
from serving.gateway.streams.answer import clean_answer
from serving.gateway.streams.relay import StreamRelay
from serving.guard import Guard, GuardSettings

GUARD = Guard(GuardSettings())


def texts_of_answer(endpoint: Endpoint, answer: dict[str, Any]) -> list[AnswerText]:
    context = _heard(endpoint)
    clean = clean_answer if endpoint.has_choices else clean_whole
    clean(context, GUARD, json.dumps(answer).encode())
    return answer_texts(context)


def texts_of_stream(endpoint: Endpoint, events: list[bytes], choices: int = 1) -> list[AnswerText]:
    context = _heard(endpoint, choices)
    relay = StreamRelay(context, GUARD) if endpoint.has_choices else EventRelay(context, GUARD)
    relay.feed(b"".join(event.rstrip(b"\n") + b"\n\n" for event in events))
    relay.flush()
    return answer_texts(context)


def _heard(endpoint: Endpoint, choices: int = 1) -> RequestContext:
    return RequestContext(
        endpoint, {}, b"", question=Question(choices=choices, stream=True), answer=AnswerRecord(heard=HeardTexts())
    )
