"""Salted hashes of question and answer, counted while the text passes by.

A text's digest is SHA-256 of its UTF-8; a receipt holds SHA-256 of a salt of 16 bytes followed by that digest. Answer,
question and tenant have a salt each, which follow from a secret of the issuer's and the request's id: whoever has a
receipt without its salts cannot tell whether a guess is right, however short the text.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b, sha256
from typing import Any, NamedTuple

import msgspec

from serving.provenance.receipts.jws import b64

SALT_BYTES = 16
# Everything in a request that is part of the question, as OpenAI's and Anthropic's endpoints name it.
QUESTION_FIELDS = (
    *("documents", "functions", "input", "instructions", "messages", "prompt", "suffix", "system", "tools"),
    "variables",
)
# Bounds a receipt: an answer with more texts than that is covered in its first ones.
MAX_TEXTS = 32
# Pieces of a stream that are kept before they are hashed together: hashing each would cost more than its text.
_PIECES = 64

_canonical = msgspec.json.Encoder(order="sorted").encode


class Salts(NamedTuple):
    """What opens a receipt's hashes; each may be given away without the others."""

    answer: bytes
    prompt: bytes
    tenant: bytes

    @classmethod
    def derive(cls, secret: bytes, request_id: str) -> Salts:
        """Those of one request: nobody without the secret can make or guess them."""
        # Keyed BLAKE2b (RFC 7693) gives the length that is needed, at a third of the cost of an HMAC.
        derived = blake2b(request_id.encode(), key=secret, digest_size=3 * SALT_BYTES).digest()
        return cls(derived[:SALT_BYTES], derived[SALT_BYTES : 2 * SALT_BYTES], derived[2 * SALT_BYTES :])


def salted(salt: bytes, digest: bytes) -> str:
    """A digest as a receipt shows it. All that is hashed here has one length, so no HMAC is needed."""
    return b64(sha256(salt + digest).digest())


def text_digest(text: str) -> bytes:
    return sha256(text.encode()).digest()


def question_digest(body: Mapping[str, Any]) -> bytes:
    """Of the fields that hold the question, as the client sent them: JSON with sorted keys and no spaces."""
    return sha256(_canonical({name: body[name] for name in body.keys() & QUESTION_FIELDS})).digest()


class RunningDigest:
    """The digest of a text that comes in pieces."""

    __slots__ = ("_hash", "_pieces")

    def __init__(self) -> None:
        self._pieces: list[str] = []
        self._hash = sha256()

    def add(self, text: str) -> None:
        self._pieces.append(text)
        if len(self._pieces) >= _PIECES:
            self._fold()

    def digest(self) -> bytes:
        """Of all that has come so far."""
        self._fold()
        return self._hash.digest()

    def _fold(self) -> None:
        self._hash.update("".join(self._pieces).encode())
        self._pieces.clear()


class AnswerDigests:
    """Digests of one request's question and of the texts of its answer as they are released."""

    __slots__ = ("_texts", "question")

    def __init__(self, body: Mapping[str, Any]) -> None:
        self.question = question_digest(body)
        self._texts: dict[str, RunningDigest] = {}

    def text(self, choice: int, field: str = "content", call: int = 0) -> RunningDigest:
        """The digest of one text of a choice: the answer proper, its reasoning, a tool call's arguments."""
        name = text_name(choice, field, call)
        digest = self._texts.get(name)
        if digest is None:
            digest = self._texts[name] = RunningDigest()
        return digest

    def texts(self) -> dict[str, bytes]:
        """Digest by name, in the order in which the texts began."""
        return {name: running.digest() for name, running in self._texts.items()}


def text_name(choice: int, field: str, call: int) -> str:
    """A text's name in a receipt: `0` is the first choice's answer, `0.reasoning` and `0.arguments.1` go with it."""
    if field in ("content", "text"):
        return str(choice)
    return f"{choice}.arguments.{call}" if field == "arguments" else f"{choice}.{field}"
