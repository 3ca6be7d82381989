"""The guard: cleans what goes to the model and what comes back.

In come requests as parsed JSON, and answers as whole texts or piece by piece; out go the same with invisible
characters gone, control tokens inert and personal data and secrets masked, and reports that count what was done.
A leaf: it imports nothing of ours, does no I/O after it was made, and keeps no text beyond one stream.
"""

from serving.guard.answer.answer import AnswerCleaner, Answers, TextStream
from serving.guard.answer.refusal import looks_like_refusal
from serving.guard.detector import CONTEXT, Detector, Rest, Span
from serving.guard.guard import Guard
from serving.guard.outcome import GuardRefusal, GuardReport
from serving.guard.question.request import EndpointName
from serving.guard.question.served_tokens import control_tokens_of
from serving.guard.settings import EntityActions, GuardSettings
from serving.guard.text.stream import MAX_HELD, StreamCleaner

__all__ = [
    "CONTEXT",
    "MAX_HELD",
    "AnswerCleaner",
    "Answers",
    "Detector",
    "EndpointName",
    "EntityActions",
    "Guard",
    "GuardRefusal",
    "GuardReport",
    "GuardSettings",
    "Rest",
    "Span",
    "StreamCleaner",
    "TextStream",
    "control_tokens_of",
    "looks_like_refusal",
]
