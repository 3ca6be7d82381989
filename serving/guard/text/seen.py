"""Which values a question held, so that an answer may repeat them: salted hashes that die with the request."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable
from hashlib import blake2b

from serving.guard.text.folding import fold

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

    def handed_over(self) -> tuple[bytes, list[bytes]]:
        """Salt and digests, for the process that compares them."""
        return self._salt, list(self._digests)

    @classmethod
    def taken_over(cls, salt: bytes, digests: Iterable[bytes]) -> SeenValues:
        seen = cls()
        seen._salt, seen._digests = salt, set(digests)
        return seen

    def add(self, value: str) -> None:
        self._digests.add(self._digest(value))

    def __contains__(self, value: str) -> bool:
        return self._digest(value) in self._digests

    def _digest(self, value: str) -> bytes:
        plain = _WRITING.sub("", fold(value).casefold())
        return blake2b(plain.encode("utf-8", "replace"), key=self._salt, digest_size=16).digest()
