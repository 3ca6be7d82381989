"""The guard as the gateway uses it."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from serving.guard import Guard, GuardRefusal, GuardReport, GuardSettings
from tests.support.cuttings import assert_cutting_is_all_the_same


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


def test_a_value_that_is_blocked_refuses_the_request_and_is_not_named() -> None:
    guard = Guard(GuardSettings.model_validate({"input": {"card_number": "block"}}))
    body = {"messages": [{"role": "user", "content": "joe@example.com pays with 4111 1111 1111 1111"}]}

    with pytest.raises(GuardRefusal, match="CARD_NUMBER") as caught:
        guard.ask(body, "chat")

    refusal = caught.value
    assert (refusal.code, refusal.param) == ("content_blocked", "messages")
    assert "4111" not in f"{refusal!r} {refusal.message}"
    assert refusal.report is not None
    assert refusal.report.counts == {("EMAIL_ADDRESS", "mask"): 1, ("CARD_NUMBER", "block"): 1}


def test_a_value_that_is_blocked_in_an_answer_is_masked_and_reported() -> None:
    guard = Guard(GuardSettings.model_validate({"output": {"card_number": "block"}}))

    text, report = guard.clean_text("it is 4111 1111 1111 1111")

    assert (text, report.blocked, guard.blocks) == ("it is [CARD_NUMBER]", "CARD_NUMBER", True)


def test_an_answer_may_repeat_what_the_question_held() -> None:
    settings = {
        "input": {"email_address": "allow", "private_key": "allow", "api_key": "allow"},
        "output": {"email_address": "mask_new", "private_key": "mask_new", "api_key": "mask_new"},
    }
    guard = Guard(GuardSettings.model_validate(settings))
    armour = "-----{} PRIVATE KEY-----"
    key = "\n".join([armour.format("BEGIN"), "QUJD" * 16, "REVG" * 16, armour.format("END")])
    token = "ghp_" + "a1B2" * 9
    body = {"messages": [{"role": "user", "content": f"I am Joe@example.com\n{key}\n{token}"}]}

    report, answers = guard.ask(body, "chat")

    assert not report
    known = f"You are joe@example.com, not [EMAIL_ADDRESS].\n{key}\nand {token}."
    said = known.replace("[EMAIL_ADDRESS]", "ann@example.com")
    assert assert_cutting_is_all_the_same(answers.stream, said, times=40) == known
    other = said.replace("QUJD", "QUJE").replace("a1B2", "a1B3")
    assert assert_cutting_is_all_the_same(answers.stream, other, times=40) == (
        "You are joe@example.com, not [EMAIL_ADDRESS].\n[PRIVATE_KEY]\nand [API_KEY]."
    )
    assert "joe" not in repr(vars(answers))


def test_a_key_longer_than_can_be_compared_is_masked_however_it_is_cut() -> None:
    guard = Guard(GuardSettings.model_validate({"input": {"api_key": "allow"}, "output": {"api_key": "mask_new"}}))
    token = "ghp_" + "a1B2" * 1500
    _, answers = guard.ask({"messages": [{"role": "user", "content": token}]}, "chat")

    for size in (1, 1000, 5000):
        stream = answers.stream()
        pieces = [token[start : start + size] for start in range(0, len(token), size)]
        assert "".join(map(stream.feed, pieces)) + stream.finish() == "[API_KEY]"


def test_a_tenant_has_what_is_its_own_and_otherwise_what_everybody_has() -> None:
    settings = {
        "input": {"phone_number": "allow"},
        "tenants": {"bank": {"input": {"email_address": "pseudonymize"}, "output": {"email_address": "allow"}}},
    }
    guard = Guard(GuardSettings.model_validate(settings))
    bank = guard.of_tenant("bank")

    assert guard.of_tenant("other") is guard
    assert guard.of_tenant("bank") is bank is not guard
    assert (
        bank.policy_digest
        != guard.policy_digest
        == Guard(GuardSettings.model_validate({"input": {"phone_number": "allow"}})).policy_digest
    )
    for each, content in ((guard, "[EMAIL_ADDRESS] 555-123-4567"), (bank, "EMAIL_ADDRESS_1 555-123-4567")):
        body = {"messages": [{"role": "user", "content": "joe@example.com 555-123-4567"}]}
        each.clean_request(body, "chat")
        assert body["messages"][0]["content"] == content
    assert bank.clean_text("joe@example.com")[0] == "joe@example.com"


@pytest.mark.parametrize(
    "values",
    [
        *({"input": {"api_key": "mask_new"}}, {"output": {"api_key": "pseudonymize"}}),
        *(
            {"tenants": {"a": {"input": {"api_key": "mask_new"}}}},
            {"tenants": {"a": {"output": {"iban": "pseudonymize"}}}},
        ),
    ],
)
def test_actions_belong_to_a_direction(values: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match="cannot be an action"):
        GuardSettings.model_validate(values)
