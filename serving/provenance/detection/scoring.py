"""Scores a text's tokens against keys and schemes, and says what follows."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from serving.provenance.adjustment import Adjustment, Subject
from serving.provenance.detection import scan, weighted
from serving.provenance.detection.drawn import PLAIN, Drawn, Sampling, drawn_from
from serving.provenance.detection.null import NULLS, ExponentialNull
from serving.provenance.detection.power import (
    ASSUMED_NATS,
    critical_score,
    fresh,
    marked_score,
    power,
    typical_score,
)
from serving.provenance.detection.result import Detection, KeyScore, MarkedSpan, Verdict
from serving.provenance.mark_key import MarkKey
from serving.provenance.schemes import DEFAULT_SCHEME, SCHEMES, Pairs

Floats = NDArray[np.float64]

# At this level one unmarked text in a thousand is called marked, whatever the number of keys, schemes and spans tried.
DEFAULT_THRESHOLD = 1e-3
# A round of keys stays in the processor's cache.
DRAWS_PER_ROUND = 32_768
MOST_KEYS_SHOWN = 100
# Of the chance of a false claim that is allowed in all, what the search for spans may use up: a whole marked text has
# evidence to spare, a part of one has not.
SHARE_OF_SPANS = 0.3
# A text is said not to be marked only where a marked one would have been found with this chance.
SURE_POWER = 0.95


@dataclass(frozen=True, slots=True)
class ScoringOptions:
    """How a text is scored."""

    threshold: float
    spans: bool
    nats_per_token: float
    adjustments: Mapping[Subject, Adjustment]
    tokenizer: str
    num_tests: int

    @property
    def share_of_whole(self) -> float:
        return 1 - SHARE_OF_SPANS if self.spans else 1.0


def detect(
    token_ids: Sequence[int],
    keys: Sequence[MarkKey],
    threshold: float = DEFAULT_THRESHOLD,
    *,
    schemes: Sequence[str] = (DEFAULT_SCHEME,),
    spans: bool = False,
    logprobs: Sequence[float | None] | None = None,
    top_logprobs: Sequence[Sequence[float] | None] | None = None,
    sampling: Sampling = PLAIN,
    nats_per_token: float = ASSUMED_NATS,
    adjustments: Mapping[Subject, Adjustment] | None = None,
    tokenizer: str = "",
) -> Detection:
    """Score tokens against every key and scheme; marked where the corrected p-value is below the threshold.

    The correction is Sidak's, 1 - (1 - p) ** tests, exact since seeds are independent. With `spans`, parts of the text
    are searched too, and the two share the chance of a false claim.

    Args:
        logprobs: natural logarithms of the tokens' probabilities before temperature, None where unknown: weights for
            the schemes whose null allows it, and a better prediction of the power.
        top_logprobs: the same of the likeliest tokens in each place. With them all holds for tokens drawn as `sampling`
            says; without them for temperature 1.
        nats_per_token: the entropy to predict the power with where `logprobs` are not given.
        adjustments: what calibration found; `tokenizer` is the digest that they are looked up by.
    """
    options = ScoringOptions(threshold, spans, nats_per_token, adjustments or {}, tokenizer, len(keys) * len(schemes))
    drawn = None if logprobs is None else drawn_from(logprobs, top_logprobs, sampling)
    tried = [_Trial(name, token_ids, keys, options, drawn) for name in schemes]
    scored = [trial for trial in tried if keys and len(trial.pairs)]
    num_tokens = max((len(trial.pairs) for trial in tried), default=0)
    if not scored:
        per_key = [
            KeyScore(key.id, key.tenant, 0.0, 1.0, schemes[0], key.model, key.revoked_at is not None) for key in keys
        ]
        return Detection(False, 1.0, num_tokens, None, None, per_key[:MOST_KEYS_SHOWN], keys_tried=len(keys))
    for trial in scored:
        trial.run()
    return _conclude(scored, keys, options)


class _Trial:
    """One scheme tried on the text under every key."""

    def __init__(
        self,
        name: str,
        token_ids: Sequence[int],
        keys: Sequence[MarkKey],
        options: ScoringOptions,
        drawn: Drawn | None,
    ) -> None:
        self.name = name
        self.scheme, self.null = SCHEMES[name], NULLS[name]
        self.pairs: Pairs = self.scheme.pairs(token_ids)
        self.keys, self.options = keys, options
        self.drawn = drawn
        self.weights: Floats | None = None
        if drawn is not None and isinstance(self.null, ExponentialNull):
            gains = self.scheme.marked_scores(drawn.probabilities[self.pairs.positions]).mean
            self.weights = weighted.weights_of(self.null.mean + gains)
        self.totals = np.zeros(len(keys))
        self.evidence = np.zeros(len(keys))
        self._scan = scan.Scan(self.null, self.weights)

    def run(self) -> None:
        """Fill in `totals`, and with spans `evidence`, of every key."""
        size = max(1, DRAWS_PER_ROUND // len(self.pairs))
        for first in range(0, len(self.keys), size):
            batch = self.keys[first : first + size]
            scores = self.token_scores(batch)
            totals = scores.sum(axis=1) if self.weights is None else scores @ self.weights
            self.totals[first : first + size] = totals
            if self.options.spans:
                self.evidence[first : first + size] = self._scan.strongest(scores)

    def token_scores(self, keys: Sequence[MarkKey]) -> Floats:
        """[keys, T], adjusted where calibration said so."""
        scores = self.scheme.token_scores([key.seed_for(self.name) for key in keys], self.pairs)
        for row, key in enumerate(keys) if self.options.adjustments else ():
            adjustment = self.adjustment(key)
            if adjustment is not None:
                excess = scores[row] - self.null.mean - adjustment.shift
                scores[row] = self.null.mean + excess / math.sqrt(adjustment.spread)
        return scores

    def adjustment(self, key: MarkKey) -> Adjustment | None:
        return self.options.adjustments.get((key.id, self.name, self.options.tokenizer))

    def log_p_value(self, score: float) -> float:
        if self.weights is not None:
            return weighted.log_p_value(score, self.weights)
        return self.scheme.log_p_value(score, len(self.pairs))

    def key_score(self, index: int) -> KeyScore:
        key, score = self.keys[index], float(self.totals[index])
        return KeyScore(
            key_id=key.id,
            tenant=key.tenant,
            score=score,
            p_value=_probability(self.log_p_value(score)),
            scheme=self.name,
            model=key.model,
            revoked=key.revoked_at is not None,
            calibrated=self.adjustment(key) is not None,
        )

    def power(self) -> float:
        """The chance that a marked text like this one is found."""
        level = -math.expm1(math.log1p(-self.options.threshold * self.options.share_of_whole) / self.options.num_tests)
        if self.drawn is None:
            num_fresh, nats = int(fresh(self.pairs).sum()), self.options.nats_per_token
            total = typical_score(self.scheme, self.null, len(self.pairs), num_fresh, nats)
        else:
            total = marked_score(self.scheme, self.null, self.drawn, self.pairs, self.weights)
        if self.weights is None:
            return power(total, _critical_score(self.name, len(self.pairs), level))
        return power(total, critical_score(self.log_p_value, level, float(self.weights.sum())))

    def spans(self) -> Iterator[MarkedSpan]:
        """The marked parts under each key that has any."""
        least = self._scan.least_evidence(self._level_of_spans, len(self.pairs), self.options.num_tests)
        for index in np.flatnonzero(self.evidence >= least):
            key = self.keys[index]
            for segment in self._scan.segments(self.token_scores([key])[0], least):
                # The first scored token of a marked part has its context in the part.
                first = max(0, int(self.pairs.positions[segment.first]) - self.scheme.context_width)
                yield MarkedSpan(
                    first_token=first,
                    num_tokens=int(self.pairs.positions[segment.last]) + 1 - first,
                    p_value=self._p_value_of_span(segment.evidence),
                    key_id=key.id,
                    tenant=key.tenant,
                    scheme=self.name,
                    model=key.model,
                    revoked=key.revoked_at is not None,
                )

    @property
    def _level_of_spans(self) -> float:
        return self.options.threshold * SHARE_OF_SPANS

    def _p_value_of_span(self, evidence: float) -> float:
        return _probability(self._scan.log_p_value(evidence, len(self.pairs), self.options.num_tests))


def _conclude(tried: list[_Trial], keys: Sequence[MarkKey], options: ScoringOptions) -> Detection:
    per_key = _best_keys(tried)
    best = per_key[0]
    p_value = _corrected(best.p_value, options.num_tests) / options.share_of_whole
    spans = _apart(span for trial in tried for span in trial.spans()) if options.spans else []
    named: KeyScore | MarkedSpan = best
    if spans:
        strongest = min(spans, key=lambda span: span.p_value)
        if strongest.p_value / SHARE_OF_SPANS < p_value:
            named, p_value = strongest, strongest.p_value / SHARE_OF_SPANS
    marked = p_value < options.threshold
    powers = {trial.name: trial.power() for trial in tried}
    found_with = powers[tried[0].name]
    verdict: Verdict = "marked" if marked else "not_marked" if found_with >= SURE_POWER else "cannot_tell"
    return Detection(
        marked=marked,
        p_value=min(1.0, p_value),
        tokens_scored=max(len(trial.pairs) for trial in tried),
        key_id=named.key_id if marked else None,
        tenant=named.tenant if marked else None,
        per_key=per_key,
        verdict=verdict,
        power=found_with,
        powers=powers,
        power_temperature=None if tried[0].drawn is None else tried[0].drawn.sampling.temperature,
        keys_tried=len(keys),
        scheme=named.scheme if marked else None,
        model=named.model if marked else None,
        revoked=named.revoked if marked else False,
        calibrated=best.calibrated,
        weighted=any(trial.weights is not None for trial in tried),
        spans=spans,
    )


@lru_cache(maxsize=1024)
def _critical_score(scheme: str, num_tokens: int, level: float) -> float:
    def log_p_value(score: float) -> float:
        return SCHEMES[scheme].log_p_value(score, num_tokens)

    return critical_score(log_p_value, level, NULLS[scheme].mean * num_tokens)


def _best_keys(tried: list[_Trial]) -> list[KeyScore]:
    """Those with the smallest p-values, each by its best scheme."""
    best: dict[str, KeyScore] = {}
    for trial in tried:
        order = np.argsort(-trial.totals, kind="stable")[:MOST_KEYS_SHOWN]
        for score in map(trial.key_score, order.tolist()):
            if score.key_id not in best or score.p_value < best[score.key_id].p_value:
                best[score.key_id] = score
    return sorted(best.values(), key=lambda score: (score.p_value, -score.score))[:MOST_KEYS_SHOWN]


def _apart(spans: Iterator[MarkedSpan]) -> list[MarkedSpan]:
    """The strongest spans that do not overlap, in the order of the text."""
    kept: list[MarkedSpan] = []
    for span in sorted(spans, key=lambda span: span.p_value):
        last = span.first_token + span.num_tokens
        if all(last <= other.first_token or other.first_token + other.num_tokens <= span.first_token for other in kept):
            kept.append(span)
    return sorted(kept, key=lambda span: span.first_token)


def _corrected(p_value: float, num_tests: int) -> float:
    return -math.expm1(num_tests * math.log1p(-p_value)) if p_value < 1 else 1.0


def _probability(log_p: float) -> float:
    """Keep it above zero: an exact 0 would claim certainty where floating point merely ends."""
    return max(math.exp(log_p), sys.float_info.min)
