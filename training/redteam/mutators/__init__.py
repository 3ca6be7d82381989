"""Disguises of an attack. Each is one function; `a+b` applies one after the other."""

from __future__ import annotations

from random import Random

from training.redteam.errors import SuiteError
from training.redteam.mutators import encodings, framings, languages, structures
from training.redteam.mutators.mutator import REGISTERED
from training.redteam.prompt import Prompt

__all__ = ["MUTATORS", "check_mutators", "describe", "mutate"]

_MODULES = (encodings, framings, structures, languages)

PLAIN = "plain"
"""No disguise."""

MUTATORS = (PLAIN, *REGISTERED)


def check_mutators(names: list[str]) -> None:
    """Raise SuiteError for a name that is no mutator."""
    for name in names:
        for part in name.split("+"):
            if part not in MUTATORS:
                raise SuiteError(f"there is no mutator {part!r}: see `signet redteam list`")


def mutate(prompt: Prompt, name: str, rng: Random) -> Prompt:
    """The prompt in a disguise, or in several joined by `+`."""
    for part in name.split("+"):
        if part != PLAIN:
            prompt = REGISTERED[part](prompt, rng)
    return prompt


def describe(name: str) -> str:
    """One line about a mutator."""
    return "As it is." if name == PLAIN else (REGISTERED[name].__doc__ or "").splitlines()[0]
