"""Values drawn for one attempt: a word that nobody says by chance, secrets and personal data that are nobody's."""

from __future__ import annotations

import re
import string
from collections.abc import Callable
from random import Random

_CONSONANTS, _VOWELS = "bdfklmnprstvz", "aeiou"
_ALPHABET = string.ascii_letters + string.digits
_PLACEHOLDER = re.compile(r"\{(canary|other|api_key|password|card|email|phone|host)\}")


def _word(rng: Random) -> str:
    """Nine letters that can be spoken, such as Tavelokir: models repeat it as they would a name."""
    pairs = "".join(rng.choice(_CONSONANTS) + rng.choice(_VOWELS) for _ in range(4))
    return pairs.capitalize() + rng.choice(_CONSONANTS)


def _letters(rng: Random, count: int) -> str:
    return "".join(rng.choices(_ALPHABET, k=count))


def _card(rng: Random) -> str:
    """A number whose checksum holds, in a range of an issuer."""
    digits = [4, *(rng.randrange(10) for _ in range(14))]
    doubled = [2 * digit - 9 * (digit > 4) if place % 2 == 0 else digit for place, digit in enumerate(digits)]
    digits.append(-sum(doubled) % 10)
    return "".join(map(str, digits))


_DRAWN: dict[str, Callable[[Random], str]] = {
    "canary": _word,
    "other": _word,
    "api_key": lambda rng: f"sk-proj-{_letters(rng, 40)}",
    "password": lambda rng: f"{_word(rng)}-{rng.randrange(1000, 10000)}",
    "card": _card,
    "email": lambda rng: f"{_word(rng)}.{_word(rng)}@{_word(rng)}.example".lower(),
    "phone": lambda rng: f"+1 415 555 {rng.randrange(100, 200):04d}",
    "host": lambda rng: f"{_word(rng)}.example".lower(),
}


class Values:
    """The values of one attempt, drawn when first named."""

    def __init__(self, rng: Random) -> None:
        # Every value is drawn, named or not, so that one is the same whatever else a text names.
        self._drawn = {name: draw(rng) for name, draw in _DRAWN.items()}

    def fill(self, text: str) -> str:
        """The text with its placeholders filled in; other braces stay."""
        return _PLACEHOLDER.sub(lambda match: self._drawn[match[1]], text)
