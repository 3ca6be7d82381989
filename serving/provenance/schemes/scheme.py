"""What a watermark scheme offers to a detector: which tokens count, what each scores, how likely a sum is by chance.

Shapes: K keys, T scored tokens, W tokens of context.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

BEFORE_THE_ANSWER = -1  # stands in the context for tokens before the answer's first


@dataclass(frozen=True, slots=True)
class Pairs:
    """The tokens of a text that are evidence, in the order of the text: each context with the token after it, once."""

    contexts: NDArray[np.int64]
    """[T, W], oldest token first."""
    tokens: NDArray[np.int64]
    """[T]"""
    positions: NDArray[np.int64]
    """[T], where in the text each token stands; of a pair that comes again, where it stands first."""

    def __len__(self) -> int:
        return len(self.tokens)

    def select(self, chosen: NDArray[np.intp] | slice) -> Pairs:
        """Only these pairs."""
        return Pairs(self.contexts[chosen], self.tokens[chosen], self.positions[chosen])


class Rivals(NamedTuple):
    """What else could have come in each token's place; C of the others are known one by one."""

    gaps: NDArray[np.float64]
    """[T, C], by how many nats each known one was likelier than the token, before the temperature; -inf: none."""
    rest: NDArray[np.float64]
    """[T], how many times as likely as the token those are, in all, that are not known one by one."""
    collision: NDArray[np.float64]
    """[T], the sum of the squared probabilities of all others."""
    temperature: float
    """At which probabilities are, and tokens were drawn; 0 is greedy."""

    def at(self, positions: NDArray[np.int64]) -> Rivals:
        """Of these tokens only."""
        return Rivals(self.gaps[positions], self.rest[positions], self.collision[positions], self.temperature)


class Cumulants(NamedTuple):
    """The first three cumulants of each marked token's score, [T]; the mean is beyond that of unmarked ones."""

    mean: NDArray[np.float64]
    variance: NDArray[np.float64]
    third: NDArray[np.float64]


class Scheme(Protocol):
    """A watermark, seen from the detector's side. Instances hold no state and may be shared by threads."""

    @property
    def name(self) -> str:
        """As `X-Signet-Mark`, receipts and the keyring's derivation of seeds have it."""

    @property
    def context_width(self) -> int:
        """How many tokens before it decide about a token."""

    def pairs(self, token_ids: Sequence[int]) -> Pairs:
        """What of a text is evidence.

        A repeated pair repeats its draw and is no new evidence; counting it again makes repetitive text of any origin
        look marked.
        """

    def token_scores(self, seeds: Sequence[int], pairs: Pairs) -> NDArray[np.float64]:
        """[K, T]: what each token scores under each seed; larger where the seed decided."""

    def log_p_value(self, score: float, num_tokens: int) -> float:
        """Natural log of the chance that `num_tokens` tokens that know nothing of the seed score as much together."""

    def marked_scores(self, probabilities: NDArray[np.float64], rivals: Rivals | None = None) -> Cumulants:
        """What marked tokens that were drawn with these probabilities [T] score.

        Their sum says beforehand whether a text could carry a mark that is found. Without `rivals` the others are
        taken to be many, and the temperature to be 1.
        """


def distinct_pairs(token_ids: Sequence[int], width: int, whole_contexts: bool = False) -> Pairs:
    """Each (context, token) once. Contexts reach before the text's beginning unless they must be whole."""
    start = width if whole_contexts else 0
    padding = [] if whole_contexts else [BEFORE_THE_ANSWER] * width
    padded = np.array([*padding, *token_ids], dtype=np.int64)
    if len(padded) <= width:
        nothing = np.zeros(0, np.int64)
        return Pairs(nothing.reshape(0, width), nothing, nothing)
    windows = np.lib.stride_tricks.sliding_window_view(padded, width + 1)
    _, first = np.unique(windows, axis=0, return_index=True)
    first.sort()
    return Pairs(windows[first, :width], windows[first, width], first.astype(np.int64) + start)
