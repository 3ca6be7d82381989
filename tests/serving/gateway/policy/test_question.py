from __future__ import annotations

from typing import Any

import pytest

from serving.gateway.policy.question import question_texts

PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}


def of(body: dict[str, Any]) -> list[tuple[str, str]]:
    return [(text.role, text.text) for text in question_texts(body)]


@pytest.mark.parametrize(
    ("body", "texts"),
    [
        ({"messages": [{"role": "system", "content": "a"}, {"role": "user", "content": "b"}]}, ["system a", "user b"]),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}, PICTURE]}]}, ["user a"]),
        ({"messages": [{"role": "function", "content": "a"}]}, ["tool a"]),
        ({"system": [{"type": "text", "text": "a"}], "messages": []}, ["system a"]),
        ({"instructions": "a", "input": "b"}, ["system a", "user b"]),
        ({"input": [{"type": "function_call_output", "output": "a"}]}, ["tool a"]),
        ({"messages": [{"role": "user", "content": [{"type": "tool_result", "content": "a"}]}]}, ["tool a"]),
        ({"prompt": ["a", "b"], "suffix": "c"}, ["user a", "user b", "user c"]),
        ({"prompt": [1, 2]}, []),
        ({"messages": [{"role": "assistant", "tool_calls": [{"function": {"arguments": "a"}}]}]}, ["assistant a"]),
        ({"model": "a", "tools": [{"function": {"description": "a"}}]}, []),
    ],
)
def test_every_text_is_found_with_whose_it_is(body: dict[str, Any], texts: list[str]) -> None:
    assert [" ".join(found) for found in of(body)] == texts


def test_a_text_can_be_replaced_where_it_stands() -> None:
    body = {"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}]}], "prompt": ["b"]}

    for text in question_texts(body):
        text.holder[text.key] = text.text.upper()

    assert of(body) == [("user", "A"), ("user", "B")]
