"""Checks a receipt against public keys, and texts against a receipt: offline, with none of the issuer's secrets."""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from serving.provenance.receipts.digests import QUESTION_FIELDS, question_digest, salted, text_digest
from serving.provenance.receipts.jws import NotSigned, verify
from serving.provenance.receipts.keys import RECEIPT_TYPE
from serving.provenance.receipts.statement import NoStatement, Receipt, Statement, read_statement

# What is looked at only where someone asks: not to be able to tell is then no better than to find it wrong.
_ASKED = ("receipt", "text", "prompt", "tenant")
_decode = msgspec.json.Decoder().decode


class Check(NamedTuple):
    """One link of the chain: what was looked at, whether it holds (None: could not be checked), and why."""

    subject: str
    holds: bool | None
    says: str


def contradiction(checks: Iterable[Check]) -> Check | None:
    """What forbids to call a receipt verified: the first check that fails, or that was asked for and tells nothing."""
    contradictions = [
        check for check in checks if check.holds is False or (check.holds is None and check.subject in _ASKED)
    ]
    return next(
        (check for check in contradictions if check.holds is False), contradictions[0] if contradictions else None
    )


def verified(checks: Iterable[Check]) -> bool:
    """Whether signature and everything that was held against the receipt hold, and nothing else fails."""
    return contradiction(checks) is None


def check_signature(receipt: Receipt, keys: Mapping[str, Ed25519PublicKey]) -> tuple[Statement | None, Check]:
    """What the receipt says, if one of `keys` signed it."""
    try:
        payload, kid = verify(receipt.signed, keys, RECEIPT_TYPE)
        statement = read_statement(payload)
    except (NotSigned, NoStatement) as error:
        return None, Check("receipt", False, str(error))
    if statement.recorded_by and statement.recorded_by not in keys:
        return None, Check("receipt", False, "was recorded under a key that is not among the issuer's")
    moment = datetime.fromtimestamp(statement.iat, UTC)
    return statement, Check(
        "receipt", True, f"signed by {statement.iss} for an answer of {moment:%Y-%m-%d %H:%M:%S} UTC, with key {kid}"
    )


def check_text(statement: Statement, salts: Mapping[str, bytes], text: str) -> Check:
    """Whether `text` is one of the released texts, to the letter; a line break at its end may be the file's own."""
    salt = salts.get("answer")
    if salt is None:
        return Check("text", None, "the receipt came without the salt of its answer")
    for candidate in _as_file_or_text(text):
        digest = salted(salt, text_digest(candidate))
        for name, expected in statement.texts.items():
            if hmac.compare_digest(digest, expected):
                return Check("text", True, f"is {_described(name, len(statement.texts))}, to the letter")
    if statement.texts_left_out:
        return Check("text", None, f"is none of the answer's first texts; {statement.texts_left_out} are not covered")
    return Check("text", False, "is not what was released: it was changed, or belongs to another answer")


def check_prompt(statement: Statement, salts: Mapping[str, bytes], content: str) -> Check:
    """Whether `content` is the question: the request's JSON, its messages or input as JSON, or a prompt as it is."""
    salt = salts.get("prompt")
    if salt is None:
        return Check("prompt", None, "the receipt came without the salt of its prompt")
    for body in _questions(content):
        if hmac.compare_digest(salted(salt, question_digest(body)), statement.prompt):
            return Check("prompt", True, "is the question that was asked, as it was sent")
    return Check("prompt", False, "is not the question that was asked")


def check_tenant(statement: Statement, salts: Mapping[str, bytes], tenant: str) -> Check:
    """Whether the answer was `tenant`'s."""
    salt = salts.get("tenant")
    if salt is None:
        return Check("tenant", None, "the receipt came without the salt of its tenant")
    if hmac.compare_digest(salted(salt, text_digest(tenant)), statement.tenant):
        return Check("tenant", True, f"the answer was {tenant}'s")
    return Check("tenant", False, f"the answer was not {tenant}'s")


def _as_file_or_text(text: str) -> Iterator[str]:
    yield text
    if text.endswith("\n"):
        yield text[:-1]


def _described(name: str, num_texts: int) -> str:
    choice, _, rest = name.partition(".")
    which = "the released answer" if num_texts == 1 else f"a released text of choice {choice}"
    return f"{which} ({rest})" if rest else which


def _questions(content: str) -> Iterator[dict[str, Any]]:
    """What `content` may stand for, the likeliest first."""
    try:
        value = _decode(content)
    except (msgspec.DecodeError, RecursionError):
        value = None
    if isinstance(value, dict) and not value.keys().isdisjoint(QUESTION_FIELDS):
        yield value
    elif isinstance(value, list):
        yield from ({name: value} for name in ("messages", "input", "prompt"))
    for text in _as_file_or_text(content):
        yield from ({name: text} for name in ("prompt", "input"))
        yield {"messages": [{"role": "user", "content": text}]}
