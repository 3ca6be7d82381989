"""How a token's score is distributed where the text knows nothing of the key, for each scheme."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol

from serving.provenance.schemes import dual_gumbel, kgw, synthid
from serving.provenance.schemes.tails import log_binomial_tail, log_gamma_tail, log_two_gamma_tail


class Null(Protocol):
    """One token's score under the null."""

    @property
    def mean(self) -> float: ...
    @property
    def variance(self) -> float: ...
    @property
    def third(self) -> float:
        """The third cumulant."""
        ...

    def log_mgf(self, theta: float) -> float:
        """ln E exp(theta * score), for 0 <= theta where it is finite."""
        ...

    def theta(self, excess: float) -> float:
        """The tilt that raises the mean by about so many standard deviations."""
        ...

    def above(self, score: float, num_tokens: int, theta: float) -> float:
        """The chance that so many tokens' scores, tilted by theta, come to more than `score` together."""
        ...

    def overshoot(self, theta: float) -> float:
        """An upper bound on E exp(-theta * o) of tilted scores: o is what their sum is beyond any line it crosses."""
        ...


@dataclass(frozen=True, slots=True)
class ExponentialNull:
    """-ln(1 - u) of a uniform u."""

    mean: float = 1.0
    variance: float = 1.0
    third: float = 2.0

    def log_mgf(self, theta: float) -> float:
        return -math.log1p(-theta)

    def theta(self, excess: float) -> float:
        return excess / (1 + excess)

    def above(self, score: float, num_tokens: int, theta: float) -> float:
        return math.exp(log_gamma_tail((1 - theta) * score, num_tokens))

    def overshoot(self, theta: float) -> float:
        # Exponential scores remember nothing: beyond the line they are what they are, and this is no bound but exact.
        return 1 - theta


@dataclass(frozen=True, slots=True)
class TwoExponentialsNull:
    """The weighted sum of two such scores; the heavy one decides."""

    heavy: float
    light: float

    @property
    def mean(self) -> float:
        return self.heavy + self.light

    @property
    def variance(self) -> float:
        return self.heavy**2 + self.light**2

    @property
    def third(self) -> float:
        return 2 * (self.heavy**3 + self.light**3)

    def log_mgf(self, theta: float) -> float:
        return -math.log1p(-self.heavy * theta) - math.log1p(-self.light * theta)

    def theta(self, excess: float) -> float:
        return excess / (1 + excess) / self.heavy

    def above(self, score: float, num_tokens: int, theta: float) -> float:
        heavy, light = (scale / (1 - scale * theta) for scale in (self.heavy, self.light))
        return math.exp(log_two_gamma_tail(score, num_tokens, heavy, light))

    def overshoot(self, theta: float) -> float:
        # Beyond the line there is at least what is left of the heavy score.
        return 1 - self.heavy * theta


@dataclass(frozen=True, slots=True)
class BinomialNull:
    """The number of `draws` that come out with a chance of `share` each: green tokens, g-bits."""

    share: float
    draws: int = 1

    @property
    def mean(self) -> float:
        return self.draws * self.share

    @property
    def variance(self) -> float:
        return self.draws * self.share * (1 - self.share)

    @property
    def third(self) -> float:
        return self.variance * (1 - 2 * self.share)

    def log_mgf(self, theta: float) -> float:
        return self.draws * math.log1p(self.share * math.expm1(theta))

    def theta(self, excess: float) -> float:
        # No mean can be above what all draws together make.
        raised = min(self.mean + excess * math.sqrt(self.variance), 0.95 * self.draws) / self.draws
        return math.log(raised / (1 - raised)) - math.log(self.share / (1 - self.share))

    def above(self, score: float, num_tokens: int, theta: float) -> float:
        tilted = self.share * math.exp(theta - self.log_mgf(theta) / self.draws)
        return math.exp(log_binomial_tail(math.floor(score) + 1, num_tokens * self.draws, tilted))

    def overshoot(self, theta: float) -> float:
        return 1.0


NULLS: Mapping[str, Null] = MappingProxyType(
    {
        "gumbel": ExponentialNull(),
        "dual-gumbel": TwoExponentialsNull(1 - dual_gumbel.ALPHA, dual_gumbel.ALPHA),
        "kgw": BinomialNull(kgw.GREEN_SHARE),
        "synthid": BinomialNull(synthid.ONES, synthid.DEPTH),
    }
)
