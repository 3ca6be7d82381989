"""One attack, or one harmless question, and what its answer must not be."""

from __future__ import annotations

from dataclasses import dataclass, replace
from random import Random
from typing import Any, Literal

from training.evaluate.redteam.prompt import Prompt
from training.evaluate.redteam.values import Values

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
