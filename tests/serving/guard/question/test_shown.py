"""Markup is made inert where a client shows Markdown: in answers of chats, and nowhere else."""

from __future__ import annotations

from typing import Any, get_args

import pytest

from serving.guard import Guard, GuardSettings
from serving.guard.question.request import EndpointName

ACTIVE = "see ![a](https://evil.test/x) and <script>x</script>"
ASKED = [{"role": "user", "content": "Go on."}]


def left(body: dict[str, Any], endpoint: EndpointName, settings: GuardSettings | None = None) -> bool:
    """Whether markup stays in the answer, whole and streamed."""
    _, answers = Guard(settings or GuardSettings()).ask(body, endpoint)
    whole, _ = answers.clean_text(ACTIVE)
    stream = answers.stream()
    assert "".join(stream.feed(char) for char in ACTIVE) + stream.finish() == whole
    return whole == ACTIVE


def test_it_is_inert_in_chats_alone() -> None:
    inert = {endpoint for endpoint in get_args(EndpointName) if not left({"messages": list(ASKED)}, endpoint)}

    assert inert == {"chat", "responses", "messages"}


@pytest.mark.parametrize(
    "asked",
    [
        {"response_format": {"type": "json_object"}},
        {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {}}}},
        {"structured_outputs": {"regex": "<[a-z]+>"}},
        {"guided_json": {"type": "object"}},
        {"guided_grammar": "root ::= x"},
        {"text": {"format": {"type": "json_schema", "name": "x", "schema": {}}}},
        {"output_config": {"format": {"type": "json_schema", "schema": {}}}},
    ],
)
def test_it_stays_in_answers_of_a_form_that_was_asked_for(asked: dict[str, Any]) -> None:
    assert left({"messages": list(ASKED), **asked}, "chat")
    assert left({"messages": list(ASKED), **asked}, "responses")


@pytest.mark.parametrize("asked", [{"response_format": {"type": "text"}}, {"text": {"format": {"type": "text"}}}])
def test_a_question_for_text_is_one_for_prose(asked: dict[str, Any]) -> None:
    assert not left({"messages": list(ASKED), **asked}, "chat")


def test_it_is_the_same_where_values_are_remembered() -> None:
    settings = GuardSettings.model_validate({"input": {"email_address": "pseudonymize"}})

    assert left({"prompt": "Go on."}, "completions", settings)
    assert not left({"messages": list(ASKED)}, "chat", settings)
