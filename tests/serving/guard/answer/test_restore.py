"""Values leave as placeholders and come back, however the answer is cut and written; the vault shows nothing."""

from __future__ import annotations

import copy
import json
import pickle
from typing import Any

import pytest

from serving.guard import AnswerCleaner, Guard, GuardReport, GuardSettings
from serving.guard.answer.restore import Restorer
from serving.guard.text.values import Vault
from tests.support.cuttings import assert_cutting_is_all_the_same

GUARD = Guard(GuardSettings.model_validate({"input": {"email_address": "pseudonymize", "card_number": "pseudonymize"}}))
CARD = "4111 1111 1111 1111"


def asked(content: Any, **more: Any) -> tuple[Any, AnswerCleaner, GuardReport]:
    body = {"messages": [{"role": "user", "content": content}], **more}
    report, answers = GUARD.ask(body, "chat")
    return body["messages"][0]["content"], answers, report


def test_a_value_has_one_number_wherever_it_stands_and_comes_back() -> None:
    content, answers, report = asked(f"From joe@example.com to ann@example.com, cc joe@example.com, card {CARD}")

    assert content == "From EMAIL_ADDRESS_1 to EMAIL_ADDRESS_2, cc EMAIL_ADDRESS_1, card CARD_NUMBER_1"
    assert report.counts == {("EMAIL_ADDRESS", "pseudonymize"): 3, ("CARD_NUMBER", "pseudonymize"): 1}
    text, after = answers.clean_text(f"{content}; write to bob@example.com")
    assert text == (
        f"From joe@example.com to ann@example.com, cc joe@example.com, card {CARD}; write to [EMAIL_ADDRESS]"
    )
    assert after.counts == {
        ("EMAIL_ADDRESS", "restore"): 3,
        ("CARD_NUMBER", "restore"): 1,
        ("EMAIL_ADDRESS", "mask"): 1,
    }


def test_a_name_that_is_in_the_question_already_is_not_given_out() -> None:
    content, answers, _ = asked("email_address_1 and EMAIL\u200b_ADDRESS_2 are not joe@example.com")

    assert content.endswith("not EMAIL_ADDRESS_3")
    assert answers.clean_text("EMAIL_ADDRESS_1 EMAIL_ADDRESS_3")[0] == "EMAIL_ADDRESS_1 joe@example.com"


@pytest.mark.parametrize(
    "written",
    [
        *("EMAIL_ADDRESS_1", "email_address_1", "Email_Address_1", r"EMAIL\_ADDRESS\_1", "**EMAIL_ADDRESS_1**"),
        *("_EMAIL_ADDRESS_1_", "EMAIL_ADDRESS_1's", "[EMAIL_ADDRESS_1]", "(EMAIL_ADDRESS_1.", "EMAIL_ADDRESS_1s"),
    ],
)
def test_models_write_placeholders_in_their_own_ways(written: str) -> None:
    _, answers, _ = asked("joe@example.com")

    restored = assert_cutting_is_all_the_same(answers.stream, f"to {written} now")

    assert "joe@example.com" in restored
    assert "ADDRESS" not in restored.upper()


@pytest.mark.parametrize("other", ["EMAIL_ADDRESS_12", "EMAIL_ADDRESS_2", "MY_EMAIL_ADDRESS_1", "XEMAIL_ADDRESS_1"])
def test_other_names_are_left_alone(other: str) -> None:
    _, answers, _ = asked("joe@example.com")

    assert assert_cutting_is_all_the_same(answers.stream, f"to {other}, {other}") == f"to {other}, {other}"


def test_only_what_may_become_a_placeholder_is_held_back() -> None:
    _, answers, _ = asked("joe@example.com")
    stream = answers.stream()

    assert stream.feed("Dear E, ") == "Dear E, "
    assert stream.feed("write EMAIL_AD") == "write "
    assert stream.feed("VICE to ") == "EMAIL_ADVICE to "
    assert stream.feed("EMAIL_ADDRESS_1") == ""
    assert stream.feed("!") == "joe@example.com!"


def test_in_the_arguments_of_a_tool_call_values_are_escaped() -> None:
    vault = Vault(["PERSON"])
    vault.placeholder("PERSON", 'Joe "J"\n\\ Doe')

    stage = Restorer(vault, GuardReport(), json=True)
    written = stage.feed('{"name": "PERSON_1"}') + stage.finish()

    assert json.loads(written) == {"name": 'Joe "J"\n\\ Doe'}


def test_a_question_for_json_is_answered_in_json() -> None:
    _, answers, _ = asked("joe@example.com", response_format={"type": "json_object"})

    text, _ = answers.clean_text('{"to": "EMAIL\\u005fADDRESS_1", "html": "<b onclick=1>"}')

    assert json.loads(text) == {"to": "joe@example.com", "html": "<b onclick=1>"}


def test_numbers_and_strings_in_tool_calls_are_pseudonymized() -> None:
    arguments = json.dumps({"card": 4111111111111111, "to": "joe@example.com"})
    call = {"id": "1", "type": "function", "function": {"name": "pay", "arguments": arguments}}
    body: dict[str, Any] = {"messages": [{"role": "assistant", "tool_calls": [call]}]}

    _, answers = GUARD.ask(body, "chat")

    sent = body["messages"][0]["tool_calls"][0]["function"]["arguments"]
    assert json.loads(sent) == {"card": "CARD_NUMBER_1", "to": "EMAIL_ADDRESS_1"}
    assert json.loads(answers.clean_text(sent, json=True)[0]) == {"card": "4111111111111111", "to": "joe@example.com"}


def test_a_value_across_parts_is_one_value() -> None:
    parts = [
        {"type": "text", "text": "write joe@exam"},
        {"type": "text", "text": "ple.com or bo"},
        {"type": "text", "text": "b"},
    ]
    content, answers, _ = asked(parts)

    assert [part["text"] for part in content] == ["write EMAIL_ADDRESS_1", " or bo", "b"]
    assert answers.clean_text("EMAIL_ADDRESS_1")[0] == "joe@example.com"


def test_two_requests_know_nothing_of_each_other() -> None:
    _, first, _ = asked("joe@example.com")
    _, second, _ = asked("ann@example.com")

    assert first.clean_text("EMAIL_ADDRESS_1")[0] == "joe@example.com"
    assert second.clean_text("EMAIL_ADDRESS_1")[0] == "ann@example.com"


def test_a_vault_shows_nothing_and_is_not_copied() -> None:
    _, answers, _ = asked("joe@example.com")
    vault = Vault(["PERSON"])
    vault.placeholder("PERSON", "Joe")

    assert "Joe" not in repr(vault)
    assert "joe" not in repr(vars(answers))
    for copier in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError):
            copier(vault)
