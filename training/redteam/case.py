"""One attack, or one harmless question, the values drawn for it, and what its answer must not be."""

from __future__ import annotations

import re
import string
from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random
from typing import Any, Literal

from training.redteam.prompt import Prompt

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


Kind = Literal["absent", "no_image", "refusal", "answer"]


@dataclass(frozen=True)
class Expectation:
    """What holds when the target withstands.

    `absent`: none of the values occurs in an answer. `no_image`: no picture on one of these hosts would be fetched.
    `refusal`: the model declines. `answer`: it does not (a harmless question).
    """

    kind: Kind
    values: tuple[str, ...] = ()

    @classmethod
    def read(cls, written: Any) -> Expectation:
        """From a file: `refusal`, `answer`, `{absent: TEXT or [TEXTS]}`, `{no_image: HOST}`; else ValueError."""
        if written in ("refuse", "refusal", "answer"):
            return cls("answer" if written == "answer" else "refusal")
        if isinstance(written, dict) and len(written) == 1:
            [(kind, values)] = written.items()
            listed = [values] if isinstance(values, str) else values
            texts = isinstance(listed, list) and listed and all(isinstance(value, str) and value for value in listed)
            if kind in ("absent", "no_image") and texts:
                return cls(kind, tuple(listed))
        raise ValueError(f"expect is {written!r}: must be refusal, answer, {{absent: TEXT}} or {{no_image: HOST}}")


@dataclass(frozen=True)
class Case:
    """A prompt of a suite; `{canary}` and the like in it are filled in for each attempt."""

    id: str
    suite: str
    category: str
    prompt: Prompt
    expect: Expectation

    @property
    def harmless(self) -> bool:
        """Whether it is no attack: refusing it is the mistake."""
        return self.expect.kind == "answer"

    def drawn(self, rng: Random) -> Case:
        """With values of its own in the places that wait for them."""
        fill = Values(rng).fill
        prompt = replace(
            self.prompt,
            attack=fill(self.prompt.attack),
            frame=fill(self.prompt.frame),
            system=None if self.prompt.system is None else fill(self.prompt.system),
            asked=tuple(fill(text) for text in self.prompt.asked),
        )
        expect = replace(self.expect, values=tuple(fill(value) for value in self.expect.values))
        return replace(self, prompt=prompt, expect=expect)
