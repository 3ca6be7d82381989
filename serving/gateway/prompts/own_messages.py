"""What a request may say beside a template that does not let everything stand beside its words.

A system message of the client's can do more than contradict: the chat templates of some models show the last one alone,
of others the first, and `instructions` and earlier responses come before the template's.
"""

from __future__ import annotations

import re
from typing import Any, Literal

from serving.gateway.errors import BadRequest

_ROLES = frozenset({"user", "assistant", "tool", "function"})
_BEFORE_THE_TEMPLATE = ("system", "instructions", "previous_response_id")
# Switches of chat templates: `enable_thinking`, `reasoning_effort: high`, a date. A sentence could replace a prompt.
_WORD = re.compile(r"[\w.:-]{1,64}")


def require_confined(body: dict[str, Any], endpoint: str, own: Literal["conversation", "none"]) -> None:
    """Raises BadRequest for system messages and what comes before the template's; with `none` for any message."""
    for name in _BEFORE_THE_TEMPLATE:
        if body.get(name):
            raise _refused(name)
    field = "input" if endpoint == "responses" else "messages"
    messages = body.get(field)
    if messages and own == "none":
        raise _refused(field)
    for number, message in enumerate(messages if isinstance(messages, list) else ()):
        if not _is_conversation(message):
            raise _refused(f"{field}[{number}].role")
    variables = body.get("chat_template_kwargs")
    for name, value in variables.items() if isinstance(variables, dict) else ():
        if not (value is None or isinstance(value, bool | int | float) or _is_word(value)):
            raise _refused(f"chat_template_kwargs.{name[:100]}")


def _is_conversation(message: Any) -> bool:
    """Whether it is what users, models and tools say. A role that is missing may be there under an odd name."""
    if not isinstance(message, dict):
        return False
    if "role" in message:
        return isinstance(message["role"], str) and message["role"] in _ROLES
    # Items of /v1/responses: calls and their results.
    return isinstance(message.get("type"), str) and message["type"] != "message"


def _is_word(value: Any) -> bool:
    return isinstance(value, str) and _WORD.fullmatch(value) is not None


def _refused(field: str) -> BadRequest:
    message = f"'{field}' cannot be sent with this prompt template, which takes no such words besides its own."
    return BadRequest(message, param=field, code="field_refused")
