"""What a receipt says, and how it travels.

A receipt is a JWS (`jws`) whose payload is `Statement`. It travels *opened*: followed by its salts, each behind a `~`,
`JWS~answer:SALT~prompt:SALT~tenant:SALT`. Parts after the first may be cut off before it is shown to somebody.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import msgspec

from serving.provenance.receipts.digests import Salts
from serving.provenance.receipts.jws import b64, unb64

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
    """The claims of a receipt. `iss`, `jti` (the request's id) and `iat` (when the answer ended) are RFC 7519's."""

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
    recorded_by: str = ""
    """Id of the key under which this was recorded, where it was retired before somebody wanted the receipt."""


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

    @property
    def opened(self) -> str:
        """As it travels."""
        return "~".join([self.signed, *(f"{name}:{b64(salt)}" for name, salt in self.salts.items())])
