"""What holds for every scheme: honest p-values, repetition counts once, and a power that is known beforehand."""

import math

import numpy as np
import pytest
from scipy.stats import binomtest

from serving.provenance.schemes import DEFAULT_SCHEME, SCHEMES, Scheme
from serving.provenance.schemes.kgw import expected_green
from serving.provenance.schemes.lefthash import Lefthash
from serving.provenance.schemes.synthid import DEPTH, ONES

ALL: list[Scheme] = [*SCHEMES.values(), Lefthash(400)]


@pytest.fixture(params=ALL, ids=lambda scheme: scheme.name)
def scheme(request: pytest.FixtureRequest) -> Scheme:
    found: Scheme = request.param
    return found


def p_values(scheme: Scheme, token_ids: list[int], seeds: list[int]) -> list[float]:
    pairs = scheme.pairs(token_ids)
    return [
        math.exp(scheme.log_p_value(float(score), len(pairs)))
        for score in scheme.token_scores(seeds, pairs).sum(axis=1)
    ]


def seeds(number: int) -> list[int]:
    drawn: list[int] = np.random.default_rng(9).integers(0, 2**63, number).tolist()
    return drawn


def test_schemes_are_found_by_their_names() -> None:
    assert list(SCHEMES) == ["gumbel", "dual-gumbel", "kgw", "synthid"]
    assert all(name == scheme.name for name, scheme in SCHEMES.items())
    assert DEFAULT_SCHEME in SCHEMES


@pytest.mark.parametrize("repeated", [1, 8], ids=["plain", "repetitive"])
def test_unmarked_text_reaches_a_level_as_often_as_it_says(scheme: Scheme, repeated: int) -> None:
    number = 60 if isinstance(scheme, Lefthash) else 1500
    ids: list[int] = np.random.default_rng(5).integers(0, 400, 80).tolist() * repeated

    found = p_values(scheme, ids, seeds(number))

    for level in (0.05, 0.3):
        hits = sum(p < level for p in found)
        # Counts are whole numbers: a level between two of them is reached less often, never more.
        assert hits <= level * number or binomtest(hits, number, level).pvalue > 1e-4


@pytest.mark.parametrize("ids", [[], [1], [1, 2, 3, 4], [7] * 50], ids=["empty", "one", "four", "one-over-and-over"])
def test_short_and_dull_texts_are_no_evidence(scheme: Scheme, ids: list[int]) -> None:
    pairs = scheme.pairs(ids)

    assert len(pairs) <= 5
    assert pairs.contexts.shape == (len(pairs), scheme.context_width)
    assert scheme.token_scores([1, 2, 3], pairs).shape == (3, len(pairs))
    assert all(0 < p <= 1 for p in p_values(scheme, ids, [1, 2]))


def test_positions_tell_where_each_pair_stands_first(scheme: Scheme) -> None:
    ids = [*range(20), *range(20), 99]

    pairs = scheme.pairs(ids)

    assert pairs.positions.tolist() == sorted(set(pairs.positions.tolist()))
    assert [ids[place] for place in pairs.positions] == pairs.tokens.tolist()
    assert max(pairs.positions) == 40
    assert len(pairs) <= 25


def test_a_certain_token_carries_nothing_and_an_unlikely_one_most(scheme: Scheme) -> None:
    expected = scheme.expected_scores(np.array([1.0, 0.5, 0.1, 0.001]))

    assert expected[0] == pytest.approx(0.0, abs=1e-9)
    assert (np.diff(expected) > 0).all()


def test_expected_green_tokens_against_simulation() -> None:
    probabilities, delta = np.array([0.5, 0.2, 0.1, *[0.01] * 20]), 2.0
    rng, runs = np.random.default_rng(1), 60_000
    green = rng.random((runs, len(probabilities))) < 0.25
    weights = probabilities * np.exp(delta * green)
    weights /= weights.sum(axis=1, keepdims=True)
    # P(green | token chosen), for every token at once.
    share = (weights * green).sum(axis=0) / weights.sum(axis=0)

    expected = expected_green(probabilities, delta) + 0.25

    # The green share of the others is taken at its mean.
    assert share == pytest.approx(expected, abs=0.05)


def test_expected_tournament_score_against_simulation() -> None:
    probabilities = np.array([0.5, 0.2, 0.1, *[0.02] * 10])
    rng, runs = np.random.default_rng(1), 3_000
    weights = np.tile(probabilities, (runs, 1))
    score = np.zeros((runs, len(probabilities)))
    for _ in range(DEPTH):
        g = rng.random(weights.shape) < 0.5
        score += g
        weights = weights * (1 + g - (weights * g).sum(axis=1, keepdims=True))
    found = (weights * score).sum(axis=0) / weights.sum(axis=0) - DEPTH / 2

    expected = SCHEMES["synthid"].expected_scores(probabilities)

    # The bits of the others are taken at their mean: right in order of size, not to the digit.
    assert found == pytest.approx(expected, rel=0.35)
    assert pytest.approx(0.5, abs=0.005) == ONES
