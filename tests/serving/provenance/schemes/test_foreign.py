"""Each scheme's draws against the code of others: vLLM's dual keys, transformers' green lists and SynthID."""

import math

import numpy as np
import pytest
import torch
from transformers import PreTrainedConfig, WatermarkDetector, WatermarkingConfig
from transformers.generation.logits_process import SynthIDTextWatermarkLogitsProcessor, WatermarkLogitsProcessor
from vllm.v1.watermarking import DualKeyGumbelWatermarkDetector

from serving.provenance.schemes import SCHEMES
from serving.provenance.schemes.lefthash import Lefthash, green_list
from serving.provenance.schemes.synthid import CONTEXT_WIDTH, DEPTH, SAMPLING_TABLE, g_values, round_keys

SEEDS = [0, 1, 2**64 - 1, 0x0123456789ABCDEF]
VOCABULARY = 49_152


def text(length: int = 300, vocabulary: int = VOCABULARY) -> list[int]:
    ids: list[int] = np.random.default_rng(3).integers(0, vocabulary, length).tolist()
    return ids


def synthid_processor(seed: int) -> SynthIDTextWatermarkLogitsProcessor:
    """As `SynthIDTextWatermarkingConfig(keys, ngram_len=5)` builds it."""
    return SynthIDTextWatermarkLogitsProcessor(
        ngram_len=CONTEXT_WIDTH + 1,
        keys=list(round_keys(seed)),
        sampling_table_size=2**16,
        sampling_table_seed=0,
        context_history_size=1024,
        device=torch.device("cpu"),
    )


def test_dual_keys_score_as_vllms_detector() -> None:
    scheme = SCHEMES["dual-gumbel"]
    pairs = scheme.pairs(text())

    for seed, score in zip(SEEDS, scheme.token_scores(SEEDS, pairs).sum(axis=1), strict=True):
        theirs = DualKeyGumbelWatermarkDetector(seed).detect(text())
        assert float(score) == pytest.approx(theirs.score, rel=1e-12)
        # Theirs is one gamma variable with the same mean and variance: near, and not the same.
        assert math.exp(scheme.log_p_value(float(score), len(pairs))) == pytest.approx(theirs.p_value, rel=0.05)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("last_token", [0, 1, 30_000])
def test_green_lists_are_transformers_own(seed: int, last_token: int) -> None:
    processor = WatermarkLogitsProcessor(VOCABULARY, "cpu", hashing_key=seed)

    theirs = processor._get_greenlist_ids(torch.tensor([last_token]))

    assert green_list(seed, last_token, VOCABULARY).tolist() == theirs.tolist()


def test_lefthash_counts_as_transformers_detector() -> None:
    ids = text(60, 500)
    config = WatermarkingConfig(hashing_key=77, context_width=1)
    detector = WatermarkDetector(
        PreTrainedConfig(vocab_size=500, bos_token_id=None), "cpu", config, ignore_repeated_ngrams=True
    )

    theirs = detector(torch.tensor([ids]), return_dict=True)
    scheme = Lefthash(500)
    pairs = scheme.pairs(ids)

    assert len(pairs) == theirs.num_tokens_scored[0]
    assert scheme.token_scores([77], pairs).sum() == theirs.num_green_tokens[0]


@pytest.mark.parametrize("seed", SEEDS)
def test_g_values_are_transformers_own(seed: int) -> None:
    ids = text()

    theirs = synthid_processor(seed).compute_g_values(torch.tensor([ids]))[0].numpy()

    windows = np.lib.stride_tricks.sliding_window_view(np.array(ids), CONTEXT_WIDTH + 1)
    assert np.array_equal(g_values(round_keys(seed), windows[:, :-1], windows[:, -1]), theirs)
    assert theirs.shape == (296, DEPTH)


def test_the_sampling_table_is_transformers_own() -> None:
    assert np.array_equal(synthid_processor(0).sampling_table.numpy(), SAMPLING_TABLE)
