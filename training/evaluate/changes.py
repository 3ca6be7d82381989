"""What another model changed, with intervals. Both read the same examples, so that what is drawn is the pair."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.evaluate.scores import RESAMPLES, Score, mean_score


@dataclass(frozen=True)
class SetChange:
    """Perplexity on one set of texts."""

    before: float
    after: float
    ratio: Score
    """After ÷ before, and its 95% interval by resampling texts (paired bootstrap, Efron 1979)."""
    tokens: int

    @classmethod
    def of(cls, before: Sequence[float], after: Sequence[float], tokens: Sequence[int], seed: int = 0) -> SetChange:
        """From the summed losses of each text, in nats, and its number of scored tokens."""
        counts = np.array(tokens, dtype=np.float64)
        change = np.array(after) - np.array(before)
        # How often each text is drawn in each resample.
        often = np.random.default_rng(seed).multinomial(len(counts), [1 / len(counts)] * len(counts), size=RESAMPLES)
        totals = often @ counts
        # A resample may happen to draw only texts without scored tokens.
        drawn = np.exp((often @ change)[totals > 0] / totals[totals > 0])
        low, high = np.quantile(drawn, [0.025, 0.975])
        total = counts.sum()
        return cls(
            math.exp(sum(before) / total),
            math.exp(sum(after) / total),
            Score(math.exp(change.sum() / total), float(low), float(high)),
            int(total),
        )

    def figures(self) -> dict[str, float]:
        return {"perplexity": self.after, **self.ratio.figures("ratio"), "tokens": self.tokens}


@dataclass(frozen=True)
class TaskChange:
    """The share of questions that are answered right."""

    before: Score
    after: Score
    difference: Score
    """After - before, and its 95% interval by resampling questions."""
    questions: int

    @classmethod
    def of(cls, before: NDArray[Any], after: NDArray[Any]) -> TaskChange:
        """From 1 for each question that was answered right, and 0 for each other."""
        return cls(mean_score(before), mean_score(after), mean_score(after - before), len(after))

    def figures(self) -> dict[str, float]:
        return {
            **self.after.figures("accuracy"),
            **self.difference.figures("difference"),
            "questions": self.questions,
        }
