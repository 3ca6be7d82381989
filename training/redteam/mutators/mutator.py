"""What a mutator is: a small pure function with a name, from a prompt to a prompt."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from random import Random

from training.redteam.prompt import Prompt

Mutator = Callable[[Prompt, Random], Prompt]

REGISTERED: dict[str, Mutator] = {}
"""By name, in the order of their modules."""


def mutator(name: str) -> Callable[[Mutator], Mutator]:
    """Register a function of prompts."""

    def register(function: Mutator) -> Mutator:
        REGISTERED[name] = function
        return function

    return register


def of_text(name: str) -> Callable[[Callable[[str, Random], str]], Callable[[str, Random], str]]:
    """Register a function of the attack's words alone; what they stand in stays."""

    def register(function: Callable[[str, Random], str]) -> Callable[[str, Random], str]:
        def mutate(prompt: Prompt, rng: Random) -> Prompt:
            return replace(prompt, attack=function(prompt.attack, rng))

        mutate.__doc__ = function.__doc__
        REGISTERED[name] = mutate
        return function

    return register
