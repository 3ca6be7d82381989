"""Cuts texts in every way that tests need, and reads what comes out."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from itertools import pairwise

from serving.guard.answer.answer import Stage


def run(stage: Stage, text: str, places: Sequence[int]) -> str:
    """What a stage makes of a text that is cut at these places."""
    pieces = [text[start:end] for start, end in pairwise([0, *places, len(text)])]
    return "".join(stage.feed(piece) for piece in pieces) + stage.finish()


def assert_cutting_is_all_the_same(new: Callable[[], Stage], text: str, *, times: int = 5, seed: int = 1) -> str:
    """Cut a text in single characters and at random; returns what it becomes."""
    rng = random.Random(f"{seed}{text}")
    whole = run(new(), text, [])
    cuts = [
        list(range(len(text))),
        *(sorted(rng.choices(range(len(text) + 1), k=rng.randint(1, 8))) for _ in range(times)),
    ]
    for places in cuts:
        assert run(new(), text, places) == whole, (text, places)
    return whole
