"""Which values a question held, so that an answer may repeat them: salted hashes that die with the request."""

from __future__ import annotations

import re
import secrets
from hashlib import blake2b

from serving.guard.folding import fold

_WRITING = re.compile(r"\\[nrt]|[\s().,/\\-]")
"""What differs between two ways to write one number or key."""


class SeenValues:
    """Values of one question."""

    __slots__ = ("_digests", "_salt")

    def __init__(self) -> None:
        self._salt = secrets.token_bytes(16)
        self._digests: set[bytes] = set()

    def __repr__(self) -> str:
        return f"SeenValues({len(self._digests)})"

    def add(self, value: str) -> None:
        self._digests.add(self._digest(value))

    def __contains__(self, value: str) -> bool:
        return self._digest(value) in self._digests

    def _digest(self, value: str) -> bytes:
        plain = _WRITING.sub("", fold(value).casefold())
        return blake2b(plain.encode("utf-8", "replace"), key=self._salt, digest_size=16).digest()
