"""Refuses beforehand what can only end in an answer that is too large: many answers with log-probabilities."""

from __future__ import annotations

from typing import Any

from serving.gateway.context import RequestContext
from serving.gateway.errors import BadRequest

# A token with its log-probability in JSON, at the least: `{"token":"a","logprob":-0.1,"bytes":[97]}` and a comma.
_BYTES_PER_LOGPROB = 40
_LENGTH_FIELDS = ("max_completion_tokens", "max_tokens", "max_output_tokens")


def check_answer_size(context: RequestContext, max_bytes: int) -> None:
    """Answers in one piece are read to `max_bytes`; what names a length that cannot fit need not be generated.

    Raises:
        BadRequest: answers x tokens x log-probabilities are more.
    """
    if context.stream:
        return
    body = context.body
    listed = _number(body.get("top_logprobs"))
    if (asked := body.get("logprobs")) is not None:
        listed = max(listed, _number(asked)) + 1 if asked is not False else 0
    if not listed:
        return
    length = max(_number(body.get(name)) for name in _LENGTH_FIELDS)
    least = context.choices * length * listed * _BYTES_PER_LOGPROB
    if least > max_bytes:
        raise BadRequest(
            f"{context.choices} answers of {length} tokens with {listed} log-probabilities each are more than "
            f"{max_bytes} bytes. Ask for fewer, or stream them.",
            code="answer_too_large",
            param="top_logprobs",
        )


def _number(value: Any) -> int:
    return value if type(value) is int and value > 0 else 0
