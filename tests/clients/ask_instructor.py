"""Instructor, over OpenAI's and Anthropic's clients, without retries: the first answer has to be right."""

from __future__ import annotations

import asyncio
from typing import Any

import anthropic
import instructor
import openai
from checks import ASKED, KEY, MODEL, TOO_LONG, URL, V1, WRONG_KEY, Person
from instructor import Mode
from instructor.core import InstructorRetryException

ASK: dict[str, Any] = {"model": MODEL, "messages": ASKED, "max_tokens": 80, "max_retries": 0}


def client(mode: Mode = Mode.TOOLS, key: str = KEY) -> Any:
    return instructor.from_openai(openai.OpenAI(base_url=V1, api_key=key, max_retries=0), mode=mode)


def created(mode: Mode = Mode.TOOLS, key: str = KEY, **changed: Any) -> Any:
    return client(mode, key).create(response_model=Person, **{**ASK, **changed})


def created_async() -> Any:
    made = instructor.from_openai(openai.AsyncOpenAI(base_url=V1, api_key=KEY, max_retries=0))
    return asyncio.run(made.create(response_model=Person, **ASK))


def messages() -> Any:
    made = instructor.from_anthropic(anthropic.Anthropic(base_url=URL, api_key=KEY, max_retries=0))
    return made.create(response_model=Person, **ASK)


def cause(check: Any) -> Any:
    """What the client raised, inside Instructor's own error."""
    try:
        return check()
    except InstructorRetryException as error:
        raise error.__cause__ or error from None


CHECKS = {
    "structured": created,
    "structured_strict": lambda: created(Mode.TOOLS_STRICT),
    "structured_by_schema": lambda: created(Mode.JSON_SCHEMA),
    "structured_async": created_async,
    "structured_stream": lambda: [*client().create_partial(response_model=Person, **ASK)][-1],
    "structured_responses": lambda: created(Mode.RESPONSES_TOOLS),
    "structured_messages": messages,
    "wrong_key": lambda: cause(lambda: created(key=WRONG_KEY)),
    "too_long": lambda: cause(lambda: created(messages=[{"role": "user", "content": TOO_LONG}])),
}
