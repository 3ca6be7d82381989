"""Values of a question: those that it held, and names in their place, so that an answer may repeat or restore them."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable, Mapping
from hashlib import blake2b
from typing import NoReturn

from serving.guard.text.folding import fold

MAX_DIGITS = 6
"""Of a placeholder's number: no request holds more values."""


class Vault:
    """Gives out placeholders, `PERSON_1` and so on, and knows what they stand for."""

    __slots__ = ("_last", "_names", "_taken", "_values", "_written")

    def __init__(self, entities: Iterable[str]) -> None:
        """`entities`: those that placeholders may be given out for."""
        self._written = re.compile(rf"(?i:(?:{'|'.join(entities)})_[0-9]{{1,{MAX_DIGITS}}}(?![0-9]))")
        self._names: dict[tuple[str, str], str] = {}
        self._values: dict[str, str] = {}
        self._last: dict[str, int] = {}
        self._taken: set[str] = set()

    def __repr__(self) -> str:
        return f"Vault({len(self._values)} values)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a vault is neither copied nor stored")

    def handed_over(self) -> dict[str, str]:
        """Name to value, for the process that restores them."""
        return dict(self._values)

    @classmethod
    def taken_over(cls, values: Mapping[str, str]) -> Vault:
        """One that gives values back, and no more names out."""
        vault = cls(())
        vault._values.update(values)
        vault._last = dict.fromkeys((name.rpartition("_")[0] for name in values), 0)
        return vault

    def avoid(self, texts: Iterable[str]) -> None:
        """Names that stand in these texts already are given to no value."""
        for text in texts:
            self._taken.update(match.group().upper() for match in self._written.finditer(fold(text)))

    def placeholder(self, entity: str, value: str) -> str:
        """What stands for a value: the same for the same value, numbered in the order in which values come."""
        known = self._names.get((entity, value))
        if known is not None:
            return known
        number = self._last.get(entity, 0) + 1
        while (name := f"{entity}_{number}") in self._taken:
            number += 1
        self._last[entity] = number
        self._names[entity, value] = name
        self._values[name] = value
        return name

    def value_of(self, name: str) -> str | None:
        """What a placeholder stands for, however its letters are written."""
        return self._values.get(name.upper())

    @property
    def entities(self) -> frozenset[str]:
        """Those that placeholders were given out for."""
        return frozenset(self._last)


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
