"""The generator for many keys against the plain one."""

import numpy as np
import pytest
from numpy.typing import NDArray

from serving.provenance.philox import PIECE, token_words
from tests.support.philox_reference import philox4x32


def word(value: int) -> NDArray[np.uint64]:
    return np.array([value & 0xFFFFFFFF], np.uint64)


def plain(seeds: list[int], contexts: NDArray[np.int64], tokens: NDArray[np.int64]) -> NDArray[np.uint64]:
    """The definition, written out for one key and token after the other."""
    out = np.empty((len(seeds), len(tokens)), np.uint64)
    for row, seed in enumerate(seeds):
        key = word(seed), word(seed >> 32)
        for column, token in enumerate(tokens.tolist()):
            a, b, c, d = (word(one) for one in contexts[column].tolist())
            s0, s1, s2, s3 = philox4x32((word(0x574D4358) ^ a, word(4) ^ b, c, d), key)
            block = philox4x32((word(token >> 2), s0, s1, s2), (key[0] ^ s3, key[1] ^ word(0x574D544B)))
            out[row, column] = block[token & 3][0]
    return out


@pytest.mark.parametrize(("num_keys", "num_tokens"), [(1, 1), (3, 40), (1, 0), (0, 5)])
def test_words_are_those_of_the_definition(num_keys: int, num_tokens: int) -> None:
    rng = np.random.default_rng(1)
    seeds = [int(seed) for seed in rng.integers(0, 2**64, num_keys, dtype=np.uint64)]
    contexts = rng.integers(-1, 50_000, (num_tokens, 4))
    tokens = rng.integers(0, 50_000, num_tokens)

    np.testing.assert_array_equal(token_words(seeds, contexts, tokens), plain(seeds, contexts, tokens))


def test_pieces_change_nothing() -> None:
    rng = np.random.default_rng(2)
    num_tokens = 700
    seeds = [int(seed) for seed in rng.integers(0, 2**64, 2 * PIECE // num_tokens + 3, dtype=np.uint64)]
    contexts, tokens = rng.integers(0, 50_000, (num_tokens, 4)), rng.integers(0, 50_000, num_tokens)

    whole = token_words(seeds, contexts, tokens)

    for row in (0, 46, 47, len(seeds) - 1):
        np.testing.assert_array_equal(whole[row : row + 1], token_words(seeds[row : row + 1], contexts, tokens))


def test_words_fill_32_bits() -> None:
    rng = np.random.default_rng(3)
    words = token_words([5], rng.integers(0, 50_000, (20_000, 4)), rng.integers(0, 50_000, 20_000))

    assert words.max() < 2**32
    assert words.mean() / 2**32 == pytest.approx(0.5, abs=0.01)
