"""How a key draws the next token under each scheme that keeps the model's distribution.

Chance comes in where the scheme itself asks for it: which of two keys decides, who wins a tournament's last round.
It follows from the position, and from the request's `seed` where there is one: a step computed again draws alike.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np

from serving.engine.plugin import kernel, tournament
from serving.engine.plugin.words import NO_TOKEN, key_words
from serving.provenance.schemes import SCHEMES, dual_gumbel, synthid

if TYPE_CHECKING:
    from numpy.typing import NDArray

# More than this share of the probability never goes unmarked under SynthID; see `TournamentDraw`.
TAIL = 1e-3


class Draw(Protocol):
    """The keyed choice of one request."""

    @property
    def context_width(self) -> int:
        """How many tokens before it decide about a token."""

    def __call__(
        self, logits: NDArray[np.float32], among: NDArray[np.int64] | None, context: NDArray[np.uint32], position: int
    ) -> int:
        """The token to take, of `among` or of all; -1 leaves it to vLLM. logits [V]: divided by the temperature."""


class GumbelDraw:
    """The keyed Gumbel maximum."""

    context_width = SCHEMES["gumbel"].context_width

    def __init__(self, seed: int) -> None:
        self.key = key_words(seed)

    def __call__(
        self, logits: NDArray[np.float32], among: NDArray[np.int64] | None, context: NDArray[np.uint32], position: int
    ) -> int:
        if among is None:
            return int(kernel.keyed_argmax(logits, self.key, context))
        return int(kernel.keyed_argmax_among(logits, among, self.key, context))


class DualGumbelDraw:
    """The keyed Gumbel maximum of one of two keys, by chance."""

    context_width = SCHEMES["dual-gumbel"].context_width

    def __init__(self, seed: int, chance_seed: int) -> None:
        self._draws = tuple(GumbelDraw(key) for key in dual_gumbel.key_pair(seed))
        self._chance = key_words(chance_seed)

    def __call__(
        self, logits: NDArray[np.float32], among: NDArray[np.int64] | None, context: NDArray[np.uint32], position: int
    ) -> int:
        draw = self._draws[int(kernel.uniform(self._chance, position, 0) < dual_gumbel.ALPHA)]
        return draw(logits, among, context, position)


class TournamentDraw:
    """SynthID's tournament among the likelier tokens.

    The others, of which the vocabulary has tens of thousands and which hold a thousandth of the probability at most,
    keep their own: that changes nothing on average over keys and saves nearly all of the work.
    """

    context_width = SCHEMES["synthid"].context_width

    def __init__(self, seed: int, chance_seed: int) -> None:
        self._bits = tournament.round_bits(synthid.round_keys(seed))
        self._chance = key_words(chance_seed)

    def __call__(
        self, logits: NDArray[np.float32], among: NDArray[np.int64] | None, context: NDArray[np.uint32], position: int
    ) -> int:
        if context.max() == NO_TOKEN:
            return -1  # transformers' detector reads whole contexts only
        possible = logits if among is None else logits[among]
        weights = np.exp(possible - possible.max())
        head, mass, total = tournament.likeliest(weights, 1 - TAIL)
        chance = kernel.uniform(self._chance, position, 0) * total
        if chance < mass:
            tokens = head if among is None else among[head]
            last = kernel.uniform(self._chance, position, 1)
            return int(tournament.winner(weights[head], tokens, context, self._bits, last))
        weights[head] = 0.0
        index = min(int(np.searchsorted(np.cumsum(weights, dtype=np.float64), chance - mass)), len(weights) - 1)
        return index if among is None else int(among[index])


def make_draw(scheme: str, seed: int, chance_seed: int) -> Draw:
    """The draw of a scheme that keeps the model's distribution."""
    if scheme == "dual-gumbel":
        return DualGumbelDraw(seed, chance_seed)
    return TournamentDraw(seed, chance_seed) if scheme == "synthid" else GumbelDraw(seed)


def warm_up() -> None:
    """Compile (or load) every kernel for the types that are passed here, so that no request waits for it."""
    kernel.warm_up()
    tournament.warm_up()
