"""The compiled maximum against vLLM's own watermarker, and against its contract at the edges."""

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from vllm.v1.watermarking import GumbelWatermarker

from serving.engine.plugin.kernel import TOKENS_PER_BLOCK, compiled, keyed_argmax, keyed_argmax_among

KEY = 0xFEDCBA9876543210
KEY_WORDS = np.array([KEY & 0xFFFFFFFF, KEY >> 32], np.uint32)


def words(context: NDArray[np.int64]) -> NDArray[np.uint32]:
    return context.astype(np.uint32)


@pytest.mark.parametrize("size", [1, 3, 1000, TOKENS_PER_BLOCK, TOKENS_PER_BLOCK + 1, 49_152, 151_936])
@pytest.mark.parametrize("spread", [0.01, 1.0, 4.0, 12.0])
def test_choice_is_vllms(size: int, spread: float) -> None:
    rng = np.random.default_rng(size)
    for _ in range(8):
        logits = (rng.normal(size=size) * spread + rng.normal() * 30).astype(np.float32)
        context = rng.integers(-1, 150_000, 4)

        theirs = GumbelWatermarker(KEY).sample(torch.tensor(logits)[None], torch.tensor(context)[None]).token_ids

        assert keyed_argmax(logits, KEY_WORDS, words(context)) == int(theirs)


def test_choice_among_survivors_is_the_choice_with_the_rest_masked() -> None:
    rng = np.random.default_rng(5)
    for _ in range(50):
        logits = rng.normal(size=5000).astype(np.float32)
        among = rng.permutation(5000)[: rng.integers(1, 200)]
        masked = np.full_like(logits, -np.inf)
        masked[among] = logits[among]
        context = words(rng.integers(0, 5000, 4))

        winner = keyed_argmax_among(logits, among, KEY_WORDS, context)

        assert winner in among
        assert winner == keyed_argmax(masked, KEY_WORDS, context)


def test_masked_tokens_never_win() -> None:
    logits = np.full(49_152, -np.inf, np.float32)
    logits[40_001] = -300.0

    assert keyed_argmax(logits, KEY_WORDS, words(np.arange(4))) == 40_001


@pytest.mark.parametrize("value", [-np.inf, np.nan])
def test_no_finite_logit_has_no_winner(value: float) -> None:
    assert keyed_argmax(np.full(3000, value, np.float32), KEY_WORDS, words(np.arange(4))) == -1


def test_over_many_contexts_tokens_come_as_often_as_the_model_says() -> None:
    logits = np.log(np.array([0.5, 0.25, 0.15, 0.1], np.float32))
    wins = np.bincount([keyed_argmax(logits, KEY_WORDS, words(np.full(4, i))) for i in range(20_000)], minlength=4)

    assert wins / 20_000 == pytest.approx([0.5, 0.25, 0.15, 0.1], abs=0.012)


def test_kernels_compile_where_no_cache_can_be_written() -> None:
    """As in a pod with a read-only file system; here, code without a file, beside which nothing can be cached."""
    namespace: dict[str, Any] = {}
    exec("def double(x):\n    return 2 * x", namespace)

    assert compiled(namespace["double"])(21) == 42
