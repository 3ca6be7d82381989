"""The mark's arithmetic against published vectors, against vLLM's own code, and against simulation."""

import math

import numpy as np
import pytest
import torch
from scipy.special import digamma, gammaincc, polygamma
from vllm.v1.watermarking import GumbelWatermarkDetector, PhiloxPRF

from serving.provenance.schemes import SCHEMES
from serving.provenance.schemes.gumbel import harmonic, tetragamma, trigamma, uniforms
from serving.provenance.schemes.tails import log_gamma_tail
from tests.support import philox_reference

GUMBEL = SCHEMES["gumbel"]
SEEDS = [0, 1, 2**64 - 1, 0x0123456789ABCDEF, 0xFFFFFFFF, 1 << 32]


# Random123's kat_vectors, philox4x32 with 10 rounds.
@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [
        pytest.param([0] * 4, [0] * 2, [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8], id="zeros"),
        pytest.param([2**32 - 1] * 4, [2**32 - 1] * 2, [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD], id="ones"),
        pytest.param(
            [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
            [0xA4093822, 0x299F31D0],
            [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
            id="digits-of-pi",
        ),
    ],
)
def test_philox_gives_the_published_words(counter: list[int], key: list[int], expected: list[int]) -> None:
    words = philox_reference.philox4x32(
        [np.array([word], np.uint64) for word in counter], [np.array([word], np.uint64) for word in key]
    )

    assert [int(word[0]) for word in words] == expected


def test_draws_equal_vllms_generator_bit_for_bit() -> None:
    rng = np.random.default_rng(7)
    contexts = rng.integers(-1, 200_000, (500, 4))
    contexts[0] = -1
    tokens = rng.integers(0, 200_000, 500)

    ours = uniforms(SEEDS, contexts, tokens)

    for row, seed in zip(ours, SEEDS, strict=True):
        theirs = PhiloxPRF(seed).uniform(torch.tensor(contexts), torch.tensor(tokens).unsqueeze(-1)).squeeze(-1)
        assert np.array_equal(row, theirs.numpy())


def test_draws_are_uniform_and_inside_the_open_interval() -> None:
    rng = np.random.default_rng(1)
    draws = uniforms([42], rng.integers(0, 50_000, (100_000, 4)), rng.integers(0, 50_000, 100_000))[0]

    assert draws.min() > 0
    assert draws.max() < 1
    assert abs(draws.mean() - 0.5) < 0.005
    assert np.abs(np.histogram(draws, 20, (0, 1))[0] / 5000 - 1).max() < 0.06


def test_p_value_equals_vllms_where_no_context_repeats() -> None:
    token_ids = np.random.default_rng(3).integers(0, 49_152, 300).tolist()
    pairs = GUMBEL.pairs(token_ids)

    for seed, score in zip(SEEDS, GUMBEL.token_scores(SEEDS, pairs).sum(axis=1), strict=True):
        ours = math.exp(GUMBEL.log_p_value(float(score), len(pairs)))
        theirs = GumbelWatermarkDetector(seed).detect(token_ids)
        assert theirs.num_scored_tokens == len(pairs) == 300
        assert ours == pytest.approx(theirs.p_value, rel=1e-9)


@pytest.mark.parametrize("num_tokens", [1, 2, 10, 200, 5000])
@pytest.mark.parametrize("ratio", [0.01, 0.5, 1.0, 1.3, 2.0])
def test_p_value_is_the_gamma_tail(num_tokens: int, ratio: float) -> None:
    score = num_tokens * ratio

    expected = float(gammaincc(num_tokens, score))

    if expected > 1e-290:
        assert math.exp(log_gamma_tail(score, num_tokens)) == pytest.approx(expected, rel=1e-8)


def test_p_value_has_no_underflow_in_its_logarithm() -> None:
    assert log_gamma_tail(5000.0, 200) < -3000
    assert log_gamma_tail(0.0, 0) == 0.0


def test_repeated_pairs_count_once_where_they_stand_first() -> None:
    pairs = GUMBEL.pairs([1, 2, 3, 4, 5] * 40)

    # The first five have their own contexts, the padded ones included; then five cyclic ones, one of them seen.
    assert len(pairs) == 9
    assert pairs.contexts.shape == (9, 4)
    assert pairs.positions.tolist() == list(range(9))
    assert pairs.tokens.tolist() == [1, 2, 3, 4, 5, 1, 2, 3, 4]


def test_one_context_with_two_tokens_is_two_pairs() -> None:
    pairs = GUMBEL.pairs([1, 2, 3, 4, 5, 1, 2, 3, 4, 6])

    assert len(pairs) == 10
    assert pairs.select(np.flatnonzero(pairs.positions > 8)).contexts.tolist() == [[1, 2, 3, 4]]


def test_empty_text_has_nothing_to_score() -> None:
    pairs = GUMBEL.pairs([])

    assert pairs.contexts.shape == (0, 4)
    assert GUMBEL.token_scores([1, 2], pairs).shape == (2, 0)


def test_harmonic_numbers_of_whole_numbers_and_fractions() -> None:
    numbers = np.array([1.0, 2.0, 10.0, 1e6, 1.5])

    expected = digamma(numbers + 1) + np.euler_gamma

    assert harmonic(numbers) == pytest.approx(expected, rel=1e-10)


def test_expected_score_is_what_the_winner_of_a_keyed_choice_scores() -> None:
    probabilities = np.array([0.6, 0.3, 0.1])
    rng = np.random.default_rng(4)
    draws = rng.random((400_000, 3))
    won = np.argmax(np.log(probabilities) - np.log(-np.log(draws)), axis=1)
    scores = -np.log1p(-draws[np.arange(len(won)), won])

    told = GUMBEL.marked_scores(probabilities)

    for token in range(3):
        mine = scores[won == token]
        assert mine.mean() - 1 == pytest.approx(told.mean[token], abs=0.02)
        assert mine.var() == pytest.approx(told.variance[token], rel=0.03)
        assert ((mine - mine.mean()) ** 3).mean() == pytest.approx(told.third[token], rel=0.1)


def test_polygamma_functions() -> None:
    numbers = np.array([1.0, 1.5, 2.0, 7.3, 1e6])

    assert trigamma(numbers) == pytest.approx(polygamma(1, numbers), rel=1e-7)
    assert tetragamma(numbers) == pytest.approx(polygamma(2, numbers), rel=1e-6)
