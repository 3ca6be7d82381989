"""Answers of made-up traffic, for the tests of what watches them."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

import numpy as np

from monitoring.drift.features import Answer

_rows = count(1)
HOUR_S = 3600.0


def answers(
    number: int,
    start: float,
    *,
    seed: int = 1,
    every_s: float = 30.0,
    model: str = "bot",
    version: str = "",
    scale: float = 1.0,
    refused: float = 0.03,
) -> list[Answer]:
    """Log-normal lengths; `scale` stretches the prompts'."""
    random = np.random.default_rng(seed)
    prompts = (random.lognormal(5, 1, number) * scale).round()
    lengths = random.lognormal(5, 0.7, number).round() + 1
    refusals = random.random(number) < refused

    def each() -> Iterator[Answer]:
        for index in range(number):
            yield Answer(
                row=next(_rows),
                created_at=start + index * every_s,
                model=model,
                version=version,
                prompt_tokens=float(prompts[index]),
                completion_tokens=float(lengths[index]),
                answer_chars=float(lengths[index] * 4),
                refused=float(refusals[index]),
                guarded=0.0,
                marked=1.0,
                truncated=0.0,
                first_token_s=0.2,
                duration_s=1.0,
            )

    return list(each())
