"""Numbers as the compiled generators take them: 32-bit words."""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

NO_TOKEN = 0xFFFFFFFF
"""What stands for tokens before the answer: -1."""


def key_words(seed: int) -> NDArray[np.uint32]:
    """The low, then the high word of 64 bits."""
    return np.array([seed & 0xFFFFFFFF, seed >> 32], np.uint32)


def chance_seed(seed: int | None, unseeded: random.Random) -> int:
    """64 bits that chance follows from: a request's `seed`, which may be negative, or the engine's next.

    The processes of one engine (tensor parallelism) must agree, so theirs begin with the engine's seed.
    """
    return (unseeded.getrandbits(64) if seed is None else seed) & 0xFFFFFFFFFFFFFFFF


def context_words(context: Sequence[int]) -> NDArray[np.uint32]:
    """Tokens of a context, oldest first."""
    return np.array(context, np.int64).astype(np.uint32)
