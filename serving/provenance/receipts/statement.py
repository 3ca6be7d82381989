"""What a receipt says, how it is issued, and how it travels.

A receipt is a JWS (`jws`) whose payload is `Statement`. It travels *opened*: followed by its salts, each behind a `~`,
`JWS~answer:SALT~prompt:SALT~tenant:SALT`. Parts after the first may be cut off before it is shown to somebody.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, field

import msgspec

from serving.provenance.receipts.digests import MAX_TEXTS, AnswerDigests, Salts, salted, text_digest
from serving.provenance.receipts.jws import b64, kid_of, unb64
from serving.provenance.receipts.keys import ReceiptKeys

# Longest receipt without salts; the ledger's column is as wide.
MAX_RECEIPT_CHARS = 8192
_RECEIPT = re.compile(r"eyJ[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+(?:~[a-z]+:[A-Za-z0-9_-]*)*")


class AnswerClaims(msgspec.Struct, frozen=True, omit_defaults=True):
    """The claims about an answer besides its hashes. A receipt leaves out claims that have their defaults."""

    endpoint: str
    """`chat`, `completions`, …"""
    model: str
    """As served."""
    policy: str
    """Digest of the policy that the guard applied."""
    mark: str
    """Scheme of the watermark, or `off`."""
    prompt_tokens: int
    completion_tokens: int
    finish_reason: str
    mark_key: str = ""
    manifest: str = ""
    """Digest of the checkpoint that the engine said it runs; left out: it said nothing."""
    continued: int = 0
    """How often another engine went on with the answer."""
    earlier_manifests: list[str] = []
    """Where it was continued: what other engines before the last one ran, each once; empty where one said nothing."""


class Statement(AnswerClaims, frozen=True, omit_defaults=True, kw_only=True):
    """The claims of a receipt. `iss`, `jti` (the request's id) and `iat` are RFC 7519's."""

    iss: str
    jti: str
    iat: int
    tenant: str
    """Salted hash of the tenant's name."""
    prompt: str
    """Salted hash of the question as it was sent."""
    texts: dict[str, str]
    """Salted hashes of the released texts, by their names; see `digests.text_name`."""
    texts_left_out: int = 0
    """Texts beyond the first `MAX_TEXTS`, about which nothing is said."""


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Statement).decode


class NoStatement(ValueError):
    """The payload is signed and yet no receipt's."""


def read_statement(payload: bytes) -> Statement:
    """Raises NoStatement."""
    try:
        return _decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise NoStatement("does not say what a receipt says") from None


@dataclass(frozen=True, slots=True)
class Receipt:
    """A receipt: `signed` is the JWS, `salts` open its hashes as far as they are there."""

    signed: str
    salts: dict[str, bytes] = field(repr=False)

    @classmethod
    def parse(cls, text: str) -> Receipt:
        """The first receipt in `text`, with what salts follow it. Raises ValueError where there is none."""
        match = _RECEIPT.search(text)
        if match is None:
            raise ValueError("there is no receipt in it")
        signed, *parts = match[0].split("~")
        named = (part.split(":") for part in parts)
        return cls(signed, {name: unb64(salt) for name, salt in named if name in Salts._fields})

    @classmethod
    def reopen(cls, signed: str, keys: ReceiptKeys, request_id: str) -> Receipt:
        """A receipt from the ledger with its salts, if the secret of its key is still there."""
        secret = keys.salt_secret(kid_of(signed))
        return cls(signed, {} if secret is None else Salts.derive(secret, request_id)._asdict())

    @property
    def opened(self) -> str:
        """As it travels."""
        return "~".join([self.signed, *(f"{name}:{b64(salt)}" for name, salt in self.salts.items())])


class ReceiptIssuer:
    """Signs statements, under the key that is current at the moment."""

    def __init__(self, keys: ReceiptKeys, issuer: str) -> None:
        self.keys = keys
        self.issuer = issuer

    def issue(self, request_id: str, tenant: str, answer: AnswerClaims, digests: AnswerDigests) -> Receipt:
        """The receipt for one complete answer."""
        signer, secret = self.keys.current()
        salts = Salts.derive(secret, request_id)
        texts = digests.texts()
        named = {name: salted(salts.answer, digest) for name, digest in list(texts.items())[:MAX_TEXTS]}
        statement = Statement(
            *msgspec.structs.astuple(answer),
            iss=self.issuer,
            jti=request_id,
            iat=int(time.time()),
            tenant=salted(salts.tenant, text_digest(tenant)),
            prompt=salted(salts.prompt, digests.question),
            texts=named,
            texts_left_out=max(0, len(texts) - MAX_TEXTS),
        )
        return Receipt(signer.sign(_encode(statement)), salts._asdict())
