"""The green list, compiled. The construction is that of `serving.provenance.schemes.kgw` and `lefthash`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from serving.engine.plugin.kernel import CONTEXT_DOMAIN, TOKEN_DOMAIN, WIDTH, compiled, philox
from serving.provenance.schemes.kgw import GREEN_BELOW

if TYPE_CHECKING:
    from numpy.typing import NDArray

u32 = np.uint32
BELOW = u32(GREEN_BELOW)


@compiled
def add_green(
    logits: NDArray[np.float32], key: NDArray[np.uint32], context: NDArray[np.uint32], delta: np.float32
) -> None:
    """Add delta to the logits [V] of green tokens, in place.

    All of the vocabulary, because top-k and top-p come later and must see the list; it takes some tens of microseconds.
    """
    k0, k1 = key[0], key[1]
    s0, s1, s2, s3 = philox(u32(CONTEXT_DOMAIN ^ context[0]), u32(WIDTH ^ context[1]), context[2], context[3], k0, k1)
    token_k0, token_k1 = u32(k0 ^ s3), u32(k1 ^ TOKEN_DOMAIN)
    quads = logits.size // 4
    for quad in range(quads):
        w0, w1, w2, w3 = philox(u32(quad), s0, s1, s2, token_k0, token_k1)
        logits[4 * quad] += delta if w0 < BELOW else np.float32(0)
        logits[4 * quad + 1] += delta if w1 < BELOW else np.float32(0)
        logits[4 * quad + 2] += delta if w2 < BELOW else np.float32(0)
        logits[4 * quad + 3] += delta if w3 < BELOW else np.float32(0)
    words = philox(u32(quads), s0, s1, s2, token_k0, token_k1)
    for token in range(4 * quads, logits.size):
        lane = token & 3
        word = words[0] if lane == 0 else words[1] if lane == 1 else words[2]
        logits[token] += delta if word < BELOW else np.float32(0)


@compiled
def shuffled(words: NDArray[np.uint32], size: int) -> NDArray[np.int32]:
    """The first `len(words)` numbers of a Fisher-Yates shuffle of `size`, as torch's `randperm` makes it."""
    order = np.arange(size).astype(np.int32)
    for place in range(words.size):
        other = place + np.int64(words[place]) % (size - place)
        order[place], order[other] = order[other], order[place]
    return order[: words.size].copy()


def warm_up() -> None:
    """Compile (or load) both for the types that are passed."""
    add_green(np.zeros(9, np.float32), np.zeros(2, np.uint32), np.zeros(4, np.uint32), np.float32(1))
    shuffled(np.zeros(2, np.uint32), 8)
