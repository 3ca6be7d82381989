"""Streams for the comparison of guards: one value each, cut within it, and at a seam of another's buffer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

ASKED = ["EMAIL_ADDRESS", "CREDIT_CARD", "IBAN_CODE", "PHONE_NUMBER", "US_SSN"]
"""presidio's names of what the values are; keys are asked of whom knows keys."""

_VALUES = {
    "e-mail address": "maria.lindqvist@example.org",
    "card": "4111 1111 1111 1111",
    "IBAN": "DE89 3704 0044 0532 0130 00",
    "phone": "+44 20 7946 0958",
    "social security": "078-05-1120",
    "key": "ghp_" + "h7Kd92mQx4LsT0vBnZ3RyPwCe5UaJf8GiE1o",
}
_LEAD, _TAIL = "As you asked, here it is: ", " and that is all."
BUFFER_PIECES = 200
"""NeMo Guardrails checks so many pieces at once, and keeps 50 of those before, by default."""


class Carried(NamedTuple):
    """Which value a stream carries."""

    kind: str
    value: str


def value_of(pieces: Sequence[str]) -> Carried:
    """The value in a stream."""
    whole = "".join(pieces)
    return next(Carried(kind, value) for kind, value in _VALUES.items() if value in whole)


def cut_once() -> list[list[str]]:
    """Every value, cut in two at each of its characters."""
    return [
        [_LEAD + value[:place], value[place:] + _TAIL] for value in _VALUES.values() for place in range(1, len(value))
    ]


def uncut() -> list[list[str]]:
    """Every value in one piece: what is not found here is not asked of a guard in streams."""
    return [[_LEAD + value + _TAIL] for value in _VALUES.values()]


def far_into_an_answer() -> list[list[str]]:
    """Every value but the key, in pieces of four characters as tokens are, round the seam of a buffer."""
    made = []
    for kind, value in _VALUES.items():
        if kind == "key":
            continue
        pieces = [value[place : place + 4] for place in range(0, len(value), 4)]
        for before in range(len(pieces) + 1):
            words = ["word "] * (BUFFER_PIECES - before)
            made.append([*words, *pieces, *([" then"] * BUFFER_PIECES)])
    return made
