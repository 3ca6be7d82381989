from __future__ import annotations

from typing import Any

import pytest

from serving.gateway.cleaning.cleaner import sanitize
from serving.gateway.errors import BadRequest
from serving.guard import Guard, GuardSettings
from serving.guard.settings import EntityActions
from tests.support.questions import request

ADDRESS = "anna@example.org"


def asks(text: str) -> dict[str, Any]:
    return {"model": "m", "messages": [{"role": "user", "content": text}]}


def test_the_question_is_cleaned_and_the_clients_body_left_alone() -> None:
    body = asks(f"Write to {ADDRESS}.")
    context = request(body)

    sanitize(context, Guard(GuardSettings()))

    assert ADDRESS not in str(context.question.body)
    assert ADDRESS in str(body)
    assert context.input_report is not None
    assert context.input_report.total == 1
    assert context.answer_guard is not None


def test_what_the_question_said_and_by_which_policy_is_noted() -> None:
    context = request(asks("Hello there."))
    guard = Guard(GuardSettings())

    sanitize(context, guard)

    assert context.question.prompt_chars == len("Hello there.")
    assert context.policy_digest == guard.of_tenant("acme").policy_digest
    assert context.question.body == asks("Hello there.")
    assert not context.input_report


def test_a_question_that_is_refused_changes_nothing_and_is_counted() -> None:
    context = request(asks(f"Write to {ADDRESS}."))
    guard = Guard(GuardSettings(input=EntityActions(email_address="block")))

    with pytest.raises(BadRequest) as refused:
        sanitize(context, guard)

    assert ADDRESS not in refused.value.message
    assert context.question.body == asks(f"Write to {ADDRESS}.")
    assert context.answer_guard is None
    assert context.input_report is not None
    assert context.input_report.total == 1
