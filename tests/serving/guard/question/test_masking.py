"""Values are masked in what people write, and left in what developers define."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.serving.guard.question.asking import GUARD, call, strings, user


@pytest.mark.parametrize(
    "body",
    [
        pytest.param({"prediction": {"type": "content", "content": "MAIL"}}, id="prediction"),
        pytest.param({"prediction": {"content": [{"type": "text", "text": "MAIL"}]}}, id="prediction in parts"),
        pytest.param({"chat_template_kwargs": {"persona": "MAIL"}}, id="template variable"),
        pytest.param({"chat_template_kwargs": {"documents": [{"text": "MAIL"}]}}, id="documents of a template"),
        pytest.param({"a_field_of_tomorrow": {"deep": [["MAIL"]]}}, id="unknown field"),
        pytest.param({"messages": [{"role": "user", "content": "a", "name": "MAIL"}]}, id="a person's name"),
        pytest.param({"messages": [{"role": "assistant", "content": "a", "name": "MAIL"}]}, id="an assistant's name"),
        pytest.param({"messages": [user([{"type": "file", "file": {"filename": "MAIL"}}])]}, id="file name"),
    ],
)
def test_values_are_masked_in_every_field_that_a_person_fills(body: dict[str, Any]) -> None:
    body = json.loads(json.dumps(body).replace("MAIL", "write to jane.doe@example.org"))

    GUARD.clean_request(body, "chat")

    assert "write to [EMAIL_ADDRESS]" in strings(body)
    assert not any("jane.doe" in text for text in strings(body))


def test_what_a_developer_defines_is_not_masked() -> None:
    tools = [{"type": "function", "function": {"name": "f", "description": "mails help@example.org"}}]
    body = {"tools": list(tools), "messages": [{"role": "tool", "name": "help@example.org", "content": "ok"}]}

    GUARD.clean_request(body, "chat")

    assert body["tools"] == tools
    assert body["messages"][0]["name"] == "help@example.org"


def test_values_are_masked_in_what_people_write() -> None:
    mail = "john@example.com"
    body = {
        "messages": [
            {"role": "system", "content": f"Boss: {mail}"},
            user([{"type": "text", "text": mail}, {"type": "image_url", "image_url": {"url": f"https://x/{mail}"}}]),
            call("send", json.dumps({"to": mail, "phone": 5551234567, "cards": [4111111111111111], "n": 12})),
            {"role": "tool", "tool_call_id": "call_4111111111111111", "content": mail},
        ],
        "documents": [{"text": mail}],
        "tools": [{"type": "function", "function": {"name": "send", "description": f"for example {mail}"}}],
        "user": mail,
    }

    report = GUARD.clean_request(body, "chat")

    messages = body["messages"]
    assert messages[0]["content"] == "Boss: [EMAIL_ADDRESS]"
    assert messages[1]["content"][0]["text"] == "[EMAIL_ADDRESS]"
    assert messages[1]["content"][1] == {"type": "image_url", "image_url": {"url": f"https://x/{mail}"}}
    assert json.loads(messages[2]["tool_calls"][0]["function"]["arguments"]) == {
        "to": "[EMAIL_ADDRESS]",
        "phone": "[PHONE_NUMBER]",
        "cards": ["[CARD_NUMBER]"],
        "n": 12,
    }
    assert messages[3] == {"role": "tool", "tool_call_id": "call_4111111111111111", "content": "[EMAIL_ADDRESS]"}
    assert body["documents"] == [{"text": "[EMAIL_ADDRESS]"}]
    assert body["tools"][0]["function"]["description"] == f"for example {mail}"
    assert body["user"] == mail
    assert report.counts == {("EMAIL_ADDRESS", "mask"): 5, ("PHONE_NUMBER", "mask"): 1, ("CARD_NUMBER", "mask"): 1}
