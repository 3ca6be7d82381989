"""What holds for every scheme: honest p-values, repetition counts once, and a power that is known beforehand."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import binomtest

from serving.provenance.schemes import DEFAULT_SCHEME, SCHEMES, Rivals, Scheme
from serving.provenance.schemes.dual_gumbel import ALPHA
from serving.provenance.schemes.kgw import DEFAULT_DELTA, green_chance
from serving.provenance.schemes.lefthash import Lefthash
from serving.provenance.schemes.synthid import DEPTH, ONES

Floats = NDArray[np.float64]
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
    gain = scheme.marked_scores(np.array([1.0, 0.5, 0.1, 0.001])).mean

    assert gain[0] == pytest.approx(0.0, abs=1e-3)
    assert (np.diff(gain) > 0).all()


def rivals_of(probabilities: Floats, temperature: float = 1.0) -> tuple[Floats, Rivals]:
    """Each token's probability at the temperature, and its rivals, all of which are known."""
    logs = np.log(probabilities)
    gaps = logs[None, :] - logs[:, None]
    np.fill_diagonal(gaps, -np.inf)
    tempered = probabilities ** (1 / temperature)
    tempered /= tempered.sum()
    collision = np.square(tempered).sum() - tempered**2
    return tempered, Rivals(gaps, np.zeros(len(logs)), collision, temperature)


@pytest.mark.parametrize("temperature", [1.0, 0.4])
def test_green_tokens_are_as_often_drawn_as_said(temperature: float) -> None:
    probabilities = np.array([0.4, 0.25, 0.15, 0.1, 0.05, 0.05])
    rng, runs = np.random.default_rng(1), 60_000
    green = rng.random((runs, len(probabilities))) < 0.25
    weights = np.exp((np.log(probabilities) + DEFAULT_DELTA * green) / temperature)
    weights /= weights.sum(axis=1, keepdims=True)
    # P(green | token chosen), for every token at once.
    share = (weights * green).sum(axis=0) / weights.sum(axis=0)
    tempered, rivals = rivals_of(probabilities, temperature)

    assert share == pytest.approx(green_chance(tempered, DEFAULT_DELTA, rivals), abs=0.02)
    if temperature == 1:  # without rivals the green share of the others is taken at its mean
        assert share == pytest.approx(green_chance(tempered, DEFAULT_DELTA), abs=0.12)


def test_a_greedy_answer_is_green_where_a_list_could_decide() -> None:
    # Alone within two nats; runner-up of one; a nat behind one that must have been red; behind one out of reach.
    gaps = np.array([[-2.5], [-1.0], [1.0], [2.5]])
    rivals = Rivals(gaps, np.zeros(4), np.zeros(4), 0.0)

    green = green_chance(np.full(4, 0.5), 2.0, rivals)

    assert green == pytest.approx([0.25, 0.25 / (0.25 + 0.75 * 0.75), 1.0, 1.0], abs=1e-3)


def simulated_tournament(probabilities: Floats, runs: int) -> tuple[Floats, Floats]:
    """Mean and variance of each token's score where it wins, beyond half the rounds."""
    rng = np.random.default_rng(1)
    weights = np.tile(probabilities, (runs, 1))
    score = np.zeros((runs, len(probabilities)))
    for _ in range(DEPTH):
        g = rng.random(weights.shape) < 0.5
        score += g
        weights = weights * (1 + g - (weights * g).sum(axis=1, keepdims=True))
    mean = (weights * score).sum(axis=0) / weights.sum(axis=0)
    variance = (weights * (score - mean) ** 2).sum(axis=0) / weights.sum(axis=0)
    return mean - DEPTH / 2, variance


@pytest.mark.parametrize(
    ("probabilities", "near"),
    [
        pytest.param([0.5, 0.5], 0.12, id="one rival"),
        pytest.param([0.7, 0.2, 0.1], 0.12, id="two"),
        pytest.param([0.02] * 50, 0.1, id="many"),
        pytest.param([0.5, 0.2, 0.1, *[0.02] * 10], 0.25, id="few and many"),
    ],
)
def test_winners_of_a_tournament_score_as_said(probabilities: list[float], near: float) -> None:
    mean, variance = simulated_tournament(np.array(probabilities), 4000)
    scheme, (tempered, rivals) = SCHEMES["synthid"], rivals_of(np.array(probabilities))

    told = scheme.marked_scores(tempered, rivals)

    assert mean == pytest.approx(told.mean, rel=near)
    assert variance[0] == pytest.approx(told.variance[0], rel=0.25)
    assert mean == pytest.approx(scheme.marked_scores(tempered).mean, rel=0.4)
    assert pytest.approx(0.5, abs=0.005) == ONES


def test_two_keys_share_what_one_would_score() -> None:
    probability = 0.05
    rng, runs = np.random.default_rng(1), 400_000
    won = -np.log1p(-(rng.random(runs) ** probability))
    other = rng.exponential(size=runs)
    by_second = rng.random(runs) < ALPHA
    scores = (1 - ALPHA) * np.where(by_second, other, won) + ALPHA * np.where(by_second, won, other)

    told = SCHEMES["dual-gumbel"].marked_scores(np.array([probability]))

    assert scores.mean() - 1 == pytest.approx(told.mean[0], rel=0.01)
    assert scores.var() == pytest.approx(told.variance[0], rel=0.02)
    assert ((scores - scores.mean()) ** 3).mean() == pytest.approx(told.third[0], rel=0.1)
