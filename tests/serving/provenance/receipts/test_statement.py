"""What a receipt says can be checked, cannot be changed, and gives nothing away without its salts."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.provenance.receipts import (
    AnswerClaims,
    AnswerDigests,
    Receipt,
    ReceiptIssuer,
    ReceiptKeys,
    RunningDigest,
    Statement,
    check_prompt,
    check_signature,
    check_tenant,
    check_text,
    contradiction,
    receipt_of,
    verified,
)
from serving.provenance.receipts.digests import MAX_TEXTS, salted, text_digest
from serving.provenance.receipts.jws import b64, unb64
from serving.provenance.receipts.statement import MAX_RECEIPT_CHARS

MESSAGES = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Größe?"}]
BODY = {"model": "m", "temperature": 0.5, "messages": MESSAGES}
ANSWER = AnswerClaims(
    endpoint="chat",
    model="m",
    policy="ab" * 32,
    mark="gumbel",
    prompt_tokens=5,
    completion_tokens=7,
    finish_reason="stop",
    mark_key="mk1-0123",
    manifest="sha256:" + "cd" * 32,
    continued=1,
    earlier_manifests=[""],
)
REQUEST = "req_0123456789abcdef01234567"


@pytest.fixture(scope="module")
def issuer(tmp_path_factory: pytest.TempPathFactory) -> ReceiptIssuer:
    keys = ReceiptKeys.open(tmp_path_factory.mktemp("keys") / "receipt-keys.json", create=True)
    return ReceiptIssuer(keys, "https://signet.example.org")


def issue(issuer: ReceiptIssuer, *texts: str, body: dict[str, Any] = BODY, **changes: Any) -> Receipt:
    digests = AnswerDigests(body)
    for choice, text in enumerate(texts):
        digests.text(choice).add(text)
    return issuer.record(REQUEST, "acme", msgspec.structs.replace(ANSWER, **changes), digests).sign()


def stated(issuer: ReceiptIssuer, receipt: Receipt) -> Statement:
    statement, check = check_signature(receipt, issuer.keys.public())
    assert statement is not None, check
    return statement


def test_a_receipt_says_all_that_is_known_of_the_answer(issuer: ReceiptIssuer) -> None:
    statement = stated(issuer, issue(issuer, "Large."))

    assert {name: getattr(statement, name) for name in AnswerClaims.__struct_fields__} == msgspec.structs.asdict(ANSWER)
    assert (statement.iss, statement.jti) == ("https://signet.example.org", REQUEST)


def test_what_is_not_known_is_left_out(issuer: ReceiptIssuer) -> None:
    receipt = issue(issuer, "Large.", manifest="", continued=0, earlier_manifests=[], mark="off", mark_key="")

    claims = json.loads(unb64(receipt.signed.split(".")[1]))

    assert not {"manifest", "continued", "earlier_manifests", "mark_key", "texts_left_out"} & claims.keys()


CLAIMS = [*AnswerClaims.__struct_fields__, "iss", "jti", "iat", "tenant", "prompt", "texts"]


@pytest.mark.parametrize("claim", CLAIMS)
def test_no_claim_can_be_changed_or_taken_out(issuer: ReceiptIssuer, claim: str) -> None:
    receipt = issue(issuer, "Large.")
    head, payload, signature = receipt.signed.split(".")
    claims = json.loads(unb64(payload))
    changed = {**claims, claim: _other(claims[claim])}
    without = {name: value for name, value in claims.items() if name != claim}

    for forged in (changed, without):
        token = f"{head}.{b64(json.dumps(forged).encode())}.{signature}"
        statement, check = check_signature(replace(receipt, signed=token), issuer.keys.public())
        assert (statement, check.holds) == (None, False)


def _other(value: Any) -> Any:
    if isinstance(value, dict):
        return {**value, "1": "x"}
    return [*value, "x"] if isinstance(value, list) else value + type(value)(1)


def test_another_issuers_receipt_is_none_of_ours(issuer: ReceiptIssuer, tmp_path: Path) -> None:
    other = ReceiptIssuer(ReceiptKeys.open(tmp_path / "keys.json", create=True), issuer.issuer)

    statement, check = check_signature(issue(other, "Large."), issuer.keys.public())

    assert (statement, check.holds) == (None, False)
    assert not verified([check])


def test_a_receipt_outlives_its_key(issuer: ReceiptIssuer, tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    old = issue(ReceiptIssuer(ReceiptKeys.open(path, create=True), "us"), "Large.")
    ReceiptKeys.rotate(path)
    keys = ReceiptKeys.open(path)
    new = issue(ReceiptIssuer(keys, "us"), "Large.")

    for receipt in (old, new):
        statement, _ = check_signature(receipt, keys.public())
        assert statement is not None
        assert check_text(statement, receipt.salts, "Large.").holds
        assert receipt_of(receipt.signed, keys, REQUEST) == receipt
    assert old.salts != new.salts


@given(text=st.text(), cuts=st.lists(st.integers(0, 200), max_size=200))
def test_a_text_has_one_digest_however_it_is_cut(text: str, cuts: list[int]) -> None:
    running = RunningDigest()
    edges = [0, *sorted(cut for cut in cuts if cut < len(text)), len(text)]
    for start, end in pairwise(edges):
        running.add(text[start:end])

    assert running.digest() == text_digest(text)
    assert running.digest() == text_digest(text)


def test_the_released_text_is_known_to_the_letter(issuer: ReceiptIssuer) -> None:
    receipt = issue(issuer, "Large.", "Small.")
    statement = stated(issuer, receipt)

    assert check_text(statement, receipt.salts, "Large.").holds
    assert "choice 1" in check_text(statement, receipt.salts, "Small.\n").says
    for other in ("Large", "large.", "Large.\n\n", "Large.Small.", ""):
        assert check_text(statement, receipt.salts, other).holds is False


@pytest.mark.parametrize(
    ("body", "given"),
    [
        (BODY, json.dumps(BODY, indent=2)),
        (BODY, json.dumps(MESSAGES)),
        (BODY, json.dumps({"messages": [dict(reversed(message.items())) for message in MESSAGES]})),
        ({"messages": [{"role": "user", "content": "Hello"}]}, "Hello"),
        ({"messages": [{"role": "user", "content": "Hello"}]}, "Hello\n"),
        ({"prompt": "Once"}, "Once"),
        ({"input": ["a", "b"]}, '["a", "b"]'),
        ({"input": "Once", "instructions": "Rhyme."}, '{"instructions": "Rhyme.", "input": "Once"}'),
    ],
)
def test_the_question_is_known_as_a_user_has_it(issuer: ReceiptIssuer, body: dict[str, Any], given: str) -> None:
    receipt = issue(issuer, "x", body=body)

    assert check_prompt(stated(issuer, receipt), receipt.salts, given).holds


@pytest.mark.parametrize(
    "given", ["Größe", json.dumps(MESSAGES[1:]), json.dumps({"messages": []}), "[[[", "[" * 10_000]
)
def test_another_question_is_another(issuer: ReceiptIssuer, given: str) -> None:
    receipt = issue(issuer, "x")

    assert check_prompt(stated(issuer, receipt), receipt.salts, given).holds is False


def test_the_tenant_is_known_only_to_who_names_it(issuer: ReceiptIssuer) -> None:
    receipt = issue(issuer, "x")
    statement = stated(issuer, receipt)

    assert check_tenant(statement, receipt.salts, "acme").holds
    assert check_tenant(statement, receipt.salts, "other").holds is False
    assert "acme" not in unb64(receipt.signed.split(".")[1]).decode()


def test_a_receipt_without_salts_gives_nothing_away_and_verifies_no_text(issuer: ReceiptIssuer) -> None:
    receipt = issue(issuer, "yes")
    bare = Receipt.parse(receipt.signed)
    statement = stated(issuer, bare)

    checks = [
        check_text(statement, bare.salts, "yes"),
        check_prompt(statement, bare.salts, json.dumps(MESSAGES)),
        check_tenant(statement, bare.salts, "acme"),
    ]

    assert [check.holds for check in checks] == [None] * 3
    assert contradiction(checks) == checks[0]
    # Not even the same text under the next request looks the same.
    digests = AnswerDigests(BODY)
    digests.text(0).add("yes")
    again = stated(issuer, issuer.record("req_next", "acme", ANSWER, digests).sign())
    assert {statement.texts["0"], statement.prompt, statement.tenant}.isdisjoint(
        {again.texts["0"], again.prompt, again.tenant, salted(b"", text_digest("yes"))}
    )


def test_each_salt_opens_its_own_hash_alone(issuer: ReceiptIssuer) -> None:
    receipt = issue(issuer, "yes")
    shown = Receipt.parse("~".join(part for part in receipt.opened.split("~") if not part.startswith("prompt:")))
    statement = stated(issuer, shown)

    assert check_text(statement, shown.salts, "yes").holds
    assert check_prompt(statement, shown.salts, json.dumps(MESSAGES)).holds is None
    assert salted(shown.salts["answer"], text_digest("acme")) != statement.tenant


@pytest.mark.parametrize(
    "around", ["{}", ": signet-receipt {}\n\ndata: [DONE]\n\n", '{{"receipt": "{}"}}', "x-signet-receipt: {}\r\n"]
)
def test_a_receipt_is_found_in_whatever_holds_it(issuer: ReceiptIssuer, around: str) -> None:
    receipt = issue(issuer, "yes")

    assert Receipt.parse(around.format(receipt.opened)) == receipt


@pytest.mark.parametrize("text", ["", "hello", "eyJ.a", "a.b.c", "eyJhbGciOiJFZERTQSJ9.e30.AA~answer:A"])
def test_what_holds_none_is_said(text: str) -> None:
    with pytest.raises(ValueError, match=r"no receipt|not base64url"):
        Receipt.parse(text)


def test_a_receipt_is_bounded_and_says_what_it_leaves_out(issuer: ReceiptIssuer) -> None:
    digests = AnswerDigests(BODY)
    for choice in range(128):
        for call in range(3):
            digests.text(choice, "arguments", call).add("{}")
    longest = {"model": "\x01" * 255, "finish_reason": "x" * 255, "earlier_manifests": [ANSWER.manifest] * 8}
    receipt = issuer.record(REQUEST, "acme", msgspec.structs.replace(ANSWER, **longest), digests).sign()
    statement = stated(issuer, receipt)

    assert len(receipt.signed) < MAX_RECEIPT_CHARS
    assert (len(statement.texts), statement.texts_left_out) == (MAX_TEXTS, 3 * 128 - MAX_TEXTS)
    assert check_text(statement, receipt.salts, "other").holds is None


def test_names_of_texts_tell_answer_reasoning_and_calls_apart(issuer: ReceiptIssuer) -> None:
    digests = AnswerDigests(BODY)
    for field, call, text in (("content", 0, "a"), ("reasoning", 0, "b"), ("arguments", 1, "c")):
        digests.text(0, field, call).add(text)
    receipt = issuer.record(REQUEST, "acme", ANSWER, digests).sign()
    statement = stated(issuer, receipt)

    assert list(statement.texts) == ["0", "0.reasoning", "0.arguments.1"]
    assert "(arguments.1)" in check_text(statement, receipt.salts, "c").says
