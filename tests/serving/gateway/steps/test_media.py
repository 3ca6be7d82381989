from __future__ import annotations

import time
from typing import Any

import pytest

from serving.gateway.steps.media import Media, media_of

DATA = "data:image/png;base64," + "A" * 1000


def asks(*parts: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": list(parts)}]}


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image_url", "image_url": {"url": DATA}},
        {"type": "input_image", "image_url": DATA},
        {"type": "image", "source": {"type": "base64", "data": DATA}},
        {"type": "input_audio", "input_audio": {"data": DATA}},
        {"type": "of_another_kind", "something": DATA},
        {"image_url": DATA},
        {"type": ["text"], "text": DATA},
    ],
)
def test_what_is_no_text_is_counted_with_its_length(part: dict[str, Any]) -> None:
    parts, chars = media_of(asks({"type": "text", "text": "What is this?"}, part))

    assert parts == 1
    assert len(DATA) <= chars <= len(DATA) + 20


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"messages": [{"role": "user", "content": "Hello."}]},
        asks({"type": "text", "text": DATA}),
        {"input": [{"type": "message", "content": [{"type": "input_text", "text": DATA}]}]},
        {"messages": [{"role": "assistant", "tool_calls": [{"type": "image", "image": DATA}]}]},
        {"messages": "no list", "input": 7, "system": None},
        {"tools": [{"type": "image", "image": DATA}]},
    ],
    ids=["nothing", "a text", "a text part", "an item", "what a tool was called with", "nonsense", "a tool"],
)
def test_text_is_no_media(body: dict[str, Any]) -> None:
    assert media_of(body) == Media(0, 0)


def test_media_are_found_within_a_tools_result_and_in_a_system_prompt() -> None:
    image = {"type": "image", "source": {"data": "AAAA"}}
    body = {**asks({"type": "tool_result", "content": [image, image]}), "system": [image]}

    assert media_of(body).parts == 3


def test_nesting_costs_no_more_than_length() -> None:
    deep: Any = {"type": "text", "text": "x"}
    for _ in range(20_000):
        deep = {"type": "text", "content": [deep]}
    began = time.process_time()

    assert media_of(asks(deep)) == Media(0, 0)
    assert time.process_time() - began < 1
