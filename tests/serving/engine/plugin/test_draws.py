"""Draws against the published code of their schemes, and against the model's distribution."""

import random
from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.stats import chisquare
from transformers.generation.logits_process import SynthIDTextWatermarkLogitsProcessor
from vllm.v1.watermarking import GumbelWatermarker

from serving.engine.plugin import tournament
from serving.engine.plugin.draws import Draw, GumbelDraw, TournamentDraw, make_draw
from serving.engine.plugin.words import NO_TOKEN, chance_seed, context_words, key_words
from serving.provenance.schemes import dual_gumbel, synthid

SEED = 0xFEDCBA9876543210
DRAWS = 20_000


def chosen(make: Callable[[int], Draw], logits: NDArray[np.float32], among: NDArray[np.int64] | None) -> list[int]:
    """Choices under two hundred keys, each after a hundred contexts."""
    draws = [make(seed) for seed in range(200)]
    contexts = [context_words([1, 2, 3, last]) for last in range(DRAWS // len(draws))]
    return [draw(logits, among, context, place) for draw in draws for place, context in enumerate(contexts)]


@pytest.mark.parametrize("scheme", ["gumbel", "dual-gumbel", "synthid"])
@pytest.mark.parametrize("filtered", [False, True], ids=["all", "survivors"])
def test_over_keys_and_contexts_tokens_come_as_often_as_the_model_says(scheme: str, filtered: bool) -> None:
    """What is invisible in the text without the key; 20,000 draws would show a difference of a hundredth."""
    probabilities = np.array([0.4, 0.25, 0.2, 0.08, 0.04, 0.02, 0.0098, 0.0002])
    logits = np.log(probabilities).astype(np.float32)
    among = np.array([3, 0, 2, 5]) if filtered else None
    expected = np.zeros(8)
    expected[slice(None) if among is None else among] = probabilities[slice(None) if among is None else among]

    counts = np.bincount(chosen(lambda seed: make_draw(scheme, seed, seed), logits, among), minlength=8)

    possible = expected > 0
    assert counts[~possible].sum() == 0
    assert chisquare(counts[possible], expected[possible] / expected.sum() * DRAWS).pvalue > 1e-3


def test_unlikely_tokens_beyond_the_tournament_come_as_often_as_the_model_says() -> None:
    """A thousand tokens hold a thousandth together: no tournament, and still drawn."""
    probabilities = np.concatenate(([0.6, 0.3991], np.full(1000, 9e-7)))
    logits = np.log(probabilities).astype(np.float32)

    counts = np.bincount(chosen(lambda seed: TournamentDraw(seed, seed), logits, None), minlength=1002)

    observed = np.array([counts[0], counts[1], counts[2:].sum()])
    assert chisquare(observed, np.array([0.6, 0.3991, 0.0009]) / 1.0 * DRAWS).pvalue > 1e-3
    assert counts[2:].max() <= 3


def test_the_tournament_is_transformers_own() -> None:
    """Their update of the distribution, and the token that our last draw picks from it."""
    rng = np.random.default_rng(6)
    theirs = SynthIDTextWatermarkLogitsProcessor(
        ngram_len=5,
        keys=list(synthid.round_keys(SEED)),
        sampling_table_size=2**16,
        sampling_table_seed=0,
        context_history_size=1024,
        device=torch.device("cpu"),
    )
    bits = tournament.round_bits(synthid.round_keys(SEED))
    for _ in range(30):
        context, logits = rng.integers(0, 150_000, 4), rng.normal(size=60).astype(np.float32) * 2
        ngram_keys, _ = theirs._compute_keys(torch.tensor(context)[None], torch.arange(60)[None])
        g = theirs.sample_g_values(ngram_keys)
        probabilities = theirs.update_scores(torch.tensor(logits)[None].double(), g)[0].exp().numpy()
        for chance in (0.001, 0.3, 0.7, 0.999):
            winner = tournament.winner(
                np.exp(logits - logits.max()),
                np.arange(60),
                context_words(context),
                bits,
                chance,
            )
            below = probabilities[:winner].sum()
            assert below - 1e-5 <= chance <= below + probabilities[winner] + 1e-5


def test_the_tables_bits_are_the_schemes_g_values() -> None:
    rng = np.random.default_rng(8)
    contexts, tokens = rng.integers(0, 200_000, (500, 4)), rng.integers(0, 200_000, 500)
    keys = synthid.round_keys(SEED)

    bits = tournament.round_bits(keys)[synthid.places(contexts, tokens)]

    in_rounds = (bits[:, None] >> np.arange(synthid.DEPTH, dtype=np.uint32)) & 1
    assert np.array_equal(in_rounds, synthid.g_values(keys, contexts, tokens))


@pytest.mark.parametrize("scale", [0.0, 0.5, 3.0, 8.0, 60.0])
def test_the_likeliest_hold_their_share_and_no_octave_too_many(scale: float) -> None:
    logits = np.random.default_rng(4).normal(size=5001).astype(np.float32) * np.float32(scale)
    logits[::7] = -np.inf
    weights = np.exp(logits - logits.max())

    places, mass, total = tournament.likeliest(weights, 0.999)

    kept = weights[places]
    assert total == pytest.approx(weights.sum(dtype=np.float64), rel=1e-12)
    assert mass == pytest.approx(kept.sum(dtype=np.float64), rel=1e-12)
    assert mass >= 0.999 * total > kept[kept >= 2 * kept.min()].sum(dtype=np.float64)
    assert set(np.flatnonzero(weights >= kept.min())) == set(places)


def test_dual_keys_decide_as_often_as_vllm_lets_them() -> None:
    logits = np.zeros(2000, np.float32)
    a, b = (GumbelWatermarker(key) for key in dual_gumbel.key_pair(SEED))
    rng, draw = np.random.default_rng(1), make_draw("dual-gumbel", SEED, 5)
    by_key = [0, 0]
    for position in range(300):
        context = rng.integers(0, 2000, 4)
        token = draw(logits, None, context_words(context), position)
        for number, key in enumerate((a, b)):
            by_key[number] += token == int(
                key.sample(torch.tensor(logits)[None], torch.tensor(context)[None]).token_ids
            )

    assert sum(by_key) == 300
    assert 12 <= by_key[1] <= 52


def test_a_seed_makes_chance_repeatable_and_none_does_not() -> None:
    logits, context = np.zeros(5000, np.float32), context_words([1, 2, 3, 4])

    engine = random.Random(0)

    def choices(seed: int | None) -> list[int]:
        draw = make_draw("dual-gumbel", SEED, chance_seed(seed, engine))
        return [draw(logits, None, context, position) for position in range(100)]

    assert choices(5) == choices(5)
    assert choices(5) != choices(-5)
    assert choices(None) != choices(None)


def test_synthid_leaves_the_first_four_tokens_to_vllm() -> None:
    assert TournamentDraw(SEED, 1)(np.zeros(9, np.float32), None, context_words([-1, 1, 2, 3]), 3) == -1


def test_words_are_low_then_high() -> None:
    assert key_words(7 << 32 | 5).tolist() == [5, 7]
    assert key_words(chance_seed(-1, random.Random(0))).tolist() == [NO_TOKEN, NO_TOKEN]
    assert context_words([-1, 9]).tolist() == [NO_TOKEN, 9]
    assert GumbelDraw(7 << 32 | 5).key.tolist() == [5, 7]
