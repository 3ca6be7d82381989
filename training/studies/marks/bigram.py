"""A language model small enough to mark thousands of answers with in a minute: which tokens follow which in a text.

It stands in for a real one where only two things matter, the probabilities of the tokens and that they make text: how
surely it speaks is set, so that each kind of text is made from the same words.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from serving.provenance.schemes.gumbel import CONTEXT_WIDTH, uniforms

CANDIDATES = 48
# As the engine's plugin: the opening is unmarked until its draws could have differed by this much collision entropy.
OPENING_NATS = 4.6


@dataclass(frozen=True, slots=True)
class Answer:
    """Tokens and the natural logarithms of the probabilities that the model gave them."""

    tokens: list[int]
    logprobs: list[float]


class Bigram:
    """Tokens in the order of a text, each followed by what followed it there, or by what is frequent anywhere."""

    def __init__(self, text: Sequence[int], nats_per_token: float, seed: int = 0) -> None:
        """`nats_per_token` is the mean entropy to speak with."""
        ids = np.array(text, np.int64)
        self._rng = np.random.default_rng(seed)
        values, counts = np.unique(ids, return_counts=True)
        self._frequent = values[np.argsort(-counts)][:2000]
        self._starts = self._frequent[:200]
        order = np.argsort(ids[:-1], kind="stable")
        self._before, self._after = ids[:-1][order], ids[1:][order]
        self._known: dict[int, tuple[NDArray[np.int64], NDArray[np.float64]]] = {}
        self._sharpness = self._tuned(nats_per_token)

    def candidates(self, last: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """What may follow, and the natural logarithms of its probabilities."""
        if last not in self._known:
            self._known[last] = self._candidates(last)
        return self._known[last]

    def _candidates(self, last: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        first, end = np.searchsorted(self._before, [last, last + 1])
        tokens, counts = np.unique(self._after[first:end], return_counts=True)
        chosen = np.argsort(-counts, kind="stable")[:CANDIDATES]
        # The same others each time, so that a token's probability is a fact of the model.
        others = self._frequent[(last * 7919 + np.arange(8) * 131) % len(self._frequent)]
        tokens = np.concatenate((tokens[chosen], np.setdiff1d(others, tokens[chosen])))
        weights = np.concatenate((counts[chosen], np.full(len(tokens) - len(chosen), 0.5)))
        # No two alike: of equals it could never be sure.
        weights *= 1 + 0.3 * ((tokens * 7919 + last) * 2654435761 % 1000) / 1000
        # How sure it is differs from token to token, as in real text.
        sharp = self._sharpness * (0.4 + 1.2 * ((last * 2654435761) % 1000) / 1000)
        return tokens, _normalized(sharp * np.log(weights))

    def answer(self, num_tokens: int, key_seed: int | None = None, temperature: float = 1.0) -> Answer:
        """Speak; with a seed, as the Gumbel mark lets the key decide. Log-probabilities are at the temperature."""
        last = int(self._rng.choice(self._starts))
        said: list[int] = []
        logprobs: list[float] = []
        seen: set[tuple[int, ...]] = set()
        said_pairs: set[tuple[int, int]] = set()
        drawn_nats = 0.0
        for _ in range(num_tokens):
            tokens, logs = self.candidates(last)
            new = np.array([(last, token) not in said_pairs for token in tokens.tolist()])
            if new.any():  # no pair of words twice: without more memory, it would go round in circles
                tokens, logs = tokens[new], logs[new]
            logs = _normalized(logs / temperature)
            context = tuple(([-1] * CONTEXT_WIDTH + said)[-CONTEXT_WIDTH:])
            if key_seed is None or context in seen or drawn_nats < OPENING_NATS:
                drawn_nats -= float(np.log(np.exp(2 * logs).sum()))
                place = int(self._rng.choice(len(tokens), p=np.exp(logs)))
            else:
                contexts = np.tile(np.array(context), (len(tokens), 1))
                draws = uniforms([key_seed], contexts, tokens)[0].astype(np.float64)
                place = int((logs - np.log(-np.log(draws))).argmax())
            seen.add(context)
            said_pairs.add((last, int(tokens[place])))
            last = int(tokens[place])
            said.append(last)
            logprobs.append(float(logs[place]))
        return Answer(said, logprobs)

    def _tuned(self, nats_per_token: float) -> float:
        """The sharpness at which what it says has this entropy, by halving."""
        low, high = 0.05, 60.0
        for _ in range(10):
            self._sharpness = (low * high) ** 0.5
            self._known.clear()
            nats = -np.mean([self.answer(150).logprobs for _ in range(4)])
            low, high = (self._sharpness, high) if nats > nats_per_token else (low, self._sharpness)
        self._known.clear()
        return float((low * high) ** 0.5)


def _normalized(logs: NDArray[np.float64]) -> NDArray[np.float64]:
    """Logarithms of probabilities, in the proportions given; so that none is zero, however sure the model is."""
    largest = logs.max()
    normalized: NDArray[np.float64] = logs - largest - np.log(np.exp(logs - largest).sum())
    return normalized
