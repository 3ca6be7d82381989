"""Questions that are known by one check to break no rule."""

from __future__ import annotations

import math
from typing import Any

import pytest

from serving.gateway.fields.lists import CHAT, FIELDS, MESSAGES
from serving.gateway.fields.usual import is_usual

MESSAGE = {"role": "user", "content": "Hello"}
VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2, 101, 2**31, 2**63, -(2**63), 10**400, 0.0, 0.5, 1.0, 1e3, math.inf, math.nan),
    *("", "1", "x" * 1024, "x" * 1025, [], [1], ["x"], {}, {"a": True}, [MESSAGE]),
)


@pytest.mark.parametrize("path", FIELDS)
def test_what_is_usual_fits_the_kinds_of_its_fields(path: str) -> None:
    for name, kind in FIELDS[path].items():
        for value in VALUES:
            assert kind.fits(value) or not is_usual({name: value}, path), (name, value)


@pytest.mark.parametrize("path", FIELDS)
@pytest.mark.parametrize("name", ["tools", "image_url", "vllm_xargs", "cache_salt", "priority", "prompt", "input", "x"])
def test_what_has_rules_of_its_own_is_not_usual(path: str, name: str) -> None:
    for value in VALUES:
        assert not is_usual({name: value}, path)


@pytest.mark.parametrize(
    "message",
    [
        {**MESSAGE, "image_url": "http://10.0.0.1/"},
        {"content": "Hello", "image_url": "http://10.0.0.1/"},
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://10.0.0.1/"}}]},
        {**MESSAGE, "tool_calls": []},
        {"role": "user"},
        [MESSAGE],
        "Hello",
    ],
)
def test_messages_of_more_than_a_role_and_a_text_are_not_usual(message: Any) -> None:
    assert not is_usual({"model": "m", "messages": [MESSAGE, message]}, CHAT)


@pytest.mark.parametrize("path", [CHAT, MESSAGES])
def test_a_plain_chat_is_usual(path: str) -> None:
    assert is_usual({"model": "m", "messages": [MESSAGE], "max_tokens": 64, "temperature": 1, "stream": True}, path)
