"""A record becomes the receipt of its answer, as long as it is the record that was made, and nothing else does."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from serving.provenance.receipts import (
    AnswerClaims,
    AnswerDigests,
    NotSigned,
    Receipt,
    ReceiptIssuer,
    ReceiptKeys,
    RecordedReceipt,
    are_alike,
    check_prompt,
    check_signature,
    check_text,
    read_jwks,
    read_record,
    receipt_of,
)
from serving.provenance.receipts.jws import b64, unb64

REQUEST = "req_0123456789abcdef01234567"
ANSWER = AnswerClaims("chat", "support-desk", "ab" * 32, "off", 5, 7, "stop")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "receipt-keys.json"


@pytest.fixture
def keys(path: Path) -> ReceiptKeys:
    return ReceiptKeys.open(path, create=True)


def recorded(keys: ReceiptKeys, request: str = REQUEST) -> RecordedReceipt:
    digests = AnswerDigests({"prompt": "How large?"})
    digests.text(0).add("Large.")
    return ReceiptIssuer(keys, "https://signet.example.org").record(request, "acme", ANSWER, digests)


def with_payload(token: str, payload: bytes) -> str:
    head, _, seal = token.split(".")
    return f"{head}.{b64(payload)}.{seal}"


def test_whoever_fetches_a_receipt_gets_what_came_with_the_answer(keys: ReceiptKeys) -> None:
    answered = recorded(keys)

    fetched = receipt_of(answered.record, keys, REQUEST)

    assert fetched == answered.sign()
    statement, salts = read_record(answered.record, keys, REQUEST)
    assert (statement.jti, statement.recorded_by, salts) == (REQUEST, "", fetched.salts)


def test_it_is_checked_with_the_published_keys_alone(keys: ReceiptKeys) -> None:
    published = read_jwks(json.dumps(keys.jwks()).encode())
    shown = Receipt.parse(receipt_of(recorded(keys).record, keys, REQUEST).opened)

    statement, check = check_signature(shown, published)

    assert statement is not None, check
    assert check_text(statement, shown.salts, "Large.").holds
    assert check_prompt(statement, shown.salts, "How large?").holds


def test_a_record_is_no_receipt_and_tells_nobody_anything(keys: ReceiptKeys) -> None:
    record = recorded(keys).record

    statement, check = check_signature(Receipt.parse(record), keys.public())

    assert (statement, check.holds) == (None, False)
    assert "~" not in record
    assert b"acme" not in unb64(record.split(".")[1])


@pytest.mark.parametrize("claim", ["model", "completion_tokens", "iat", "jti", "texts", "policy"])
def test_nothing_that_was_edited_is_signed(keys: ReceiptKeys, claim: str) -> None:
    record = recorded(keys).record
    claims = json.loads(unb64(record.split(".")[1]))
    others = json.loads(unb64(recorded(keys, "req_other").record.split(".")[1]))
    changed = {**claims, claim: others[claim] if claims[claim] != others[claim] else claims[claim] * 2}

    for payload in (changed, {name: value for name, value in claims.items() if name != claim}):
        edited = with_payload(record, json.dumps(payload, separators=(",", ":")).encode())
        with pytest.raises(NotSigned, match="was changed after it was recorded"):
            receipt_of(edited, keys, REQUEST)
        with pytest.raises(NotSigned, match="was changed after it was recorded"):
            read_record(edited, keys, REQUEST)


def test_the_record_of_another_request_is_not_signed_for_this_one(keys: ReceiptKeys) -> None:
    with pytest.raises(NotSigned, match="speaks of another request"):
        receipt_of(recorded(keys, "req_other").record, keys, REQUEST)


def test_a_record_made_elsewhere_is_not_signed(keys: ReceiptKeys, tmp_path: Path) -> None:
    foreign = recorded(ReceiptKeys.open(tmp_path / "others.json", create=True)).record
    kid = keys.current().signer.kid
    header = json.loads(unb64(foreign.split(".")[0]))
    renamed = ".".join([b64(json.dumps({**header, "kid": kid}).encode()), *foreign.split(".")[1:]])

    for record, why in ((foreign, "a key that is not at hand"), (renamed, "never recorded under this key")):
        with pytest.raises(NotSigned, match=why):
            receipt_of(record, keys, REQUEST)


@pytest.mark.parametrize(
    "header", [{"alg": "none"}, {"alg": "EdDSA"}, {"typ": "signet-receipt+jwt"}, {"crit": ["exp"]}, {"typ": ""}]
)
def test_no_other_header_makes_a_record_pass(keys: ReceiptKeys, header: dict[str, object]) -> None:
    record = recorded(keys).record
    changed = b64(json.dumps({**json.loads(unb64(record.split(".")[0])), **header}).encode())

    with pytest.raises(NotSigned):
        read_record(".".join([changed, *record.split(".")[1:]]), keys, REQUEST)


@pytest.mark.parametrize("record", ["", "hello", "a.b.c", "eyJhbGciOiJIUzI1NiJ9", "eyJhbGciOiJIUzI1NiJ9.e30.AA"])
def test_what_is_no_record_is_said_to_be_none(keys: ReceiptKeys, record: str) -> None:
    with pytest.raises(NotSigned):
        receipt_of(record, keys, REQUEST)


def test_a_key_that_was_retired_meanwhile_is_named_and_has_to_be_trusted(path: Path, keys: ReceiptKeys) -> None:
    answered = recorded(keys)
    old = keys.current().signer.kid
    ReceiptKeys.rotate(path)
    keys = ReceiptKeys.open(path)

    fetched = receipt_of(answered.record, keys, REQUEST)

    statement, check = check_signature(fetched, keys.public())
    assert statement is not None
    assert statement.recorded_by == old
    assert keys.current().signer.kid in check.says
    assert check_text(statement, fetched.salts, "Large.").holds
    assert fetched.salts == answered.sign().salts
    assert are_alike(fetched.signed, answered.record)
    without_old = {kid: key for kid, key in keys.public().items() if kid != old}
    assert check_signature(fetched, without_old)[1] == (
        "receipt",
        False,
        "was recorded under a key that is not among the issuer's",
    )


def test_claims_of_a_later_version_survive_a_rotation(path: Path, keys: ReceiptKeys) -> None:
    payload = unb64(recorded(keys).record.split(".")[1])
    record = keys.current().sealer.seal(payload[:-1] + b',"later":1}')
    ReceiptKeys.rotate(path)

    signed = receipt_of(record, ReceiptKeys.open(path), REQUEST).signed

    assert json.loads(unb64(signed.split(".")[1]))["later"] == 1


def test_who_takes_a_stolen_key_out_of_the_file_signs_none_of_its_records(path: Path, keys: ReceiptKeys) -> None:
    record = recorded(keys).record
    ReceiptKeys.rotate(path)
    document = json.loads(path.read_text())
    del document["keys"][0]
    path.write_text(json.dumps(document))

    with pytest.raises(NotSigned, match="a key that is not at hand"):
        receipt_of(record, ReceiptKeys.open(path), REQUEST)


def test_records_of_earlier_versions_are_receipts(path: Path, keys: ReceiptKeys) -> None:
    answered = recorded(keys)
    ReceiptKeys.rotate(path)

    assert receipt_of(answered.sign().signed, ReceiptKeys.open(path), REQUEST) == answered.sign()


def test_statements_that_differ_are_not_alike(keys: ReceiptKeys) -> None:
    assert are_alike(recorded(keys).record, recorded(keys).sign().signed)
    assert not are_alike(recorded(keys).record, recorded(keys, "req_other").record)
    assert not are_alike(recorded(keys).record, "hello")


@pytest.mark.parametrize(
    ("deliver_to", "delivers"),
    [((), False), (("*",), True), (("acme",), True), (("key_1",), True), (("other",), False)],
)
def test_those_who_are_named_get_receipts_with_their_answers(
    keys: ReceiptKeys, deliver_to: tuple[str, ...], delivers: bool
) -> None:
    assert ReceiptIssuer(keys, "us", deliver_to).delivers("acme", "key_1") is delivers


def test_seals_and_salts_have_secrets_of_their_own(keys: ReceiptKeys) -> None:
    key = keys.current()

    assert key.salt_secret not in vars(key.sealer).values()
