"""The guard as the gateway uses it."""

from __future__ import annotations

import pytest

from serving.guard import Guard, GuardReport, GuardSettings


def test_a_whole_text_is_cleaned_and_counted() -> None:
    text, report = Guard(GuardSettings()).clean_text("a@example.com, b@example.com\u200b, 555-123-4567")

    assert text == "[EMAIL_ADDRESS], [EMAIL_ADDRESS], [PHONE_NUMBER]"
    assert report.counts == {("EMAIL_ADDRESS", "mask"): 2, ("PHONE_NUMBER", "mask"): 1, ("invisible", "strip"): 1}


def test_a_clean_text_gives_an_empty_report() -> None:
    text, report = Guard(GuardSettings()).clean_text("Nothing to see here.\n\n```python\nx = 1\n```")

    assert text.endswith("```")
    assert not report


def test_directions_have_actions_of_their_own() -> None:
    guard = Guard(GuardSettings.model_validate({"input": {"email_address": "allow"}}))
    body = {"messages": [{"role": "user", "content": "a@example.com"}]}

    guard.clean_request(body, "chat")

    assert body["messages"][0]["content"] == "a@example.com"
    assert guard.clean_text("a@example.com")[0] == "[EMAIL_ADDRESS]"


def test_reports_add_up_and_are_truthy_when_something_happened() -> None:
    total, one = GuardReport(), GuardReport()
    assert not total
    one.add("API_KEY", "mask")
    total.merge(one)
    total.merge(one)
    total.add("invisible", "strip", 0)

    assert total.counts == {("API_KEY", "mask"): 2}
    assert repr(total) == "GuardReport({('API_KEY', 'mask'): 2})"


@pytest.mark.parametrize("text", ["", " ", "\u200b"])
def test_empty_texts(text: str) -> None:
    assert Guard(GuardSettings()).clean_text(text)[0] == text.replace("\u200b", "")
