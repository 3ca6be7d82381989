"""Distilling meanings: which words are in the table, and that eight bits keep what is alike."""

from __future__ import annotations

import numpy as np

from serving.guard.classifiers.meaning import NUM_DIMENSIONS, directions
from training.classifiers.examples import OpenData
from training.classifiers.meanings import compressed, vocabulary


def test_words_come_from_the_encoder_the_grammar_and_the_data() -> None:
    data = OpenData(train={"plain": [("some", "a zyzzyva here")] * 5 + [("some", "one quokka")]})
    ranks = vocabulary(["[PAD]", "the", "##ing", "ship", "1984"], data)

    assert ranks["ship"] == 3
    assert {"the", "zyzzyva", "methamphetamine"} <= ranks.keys()
    assert not {"[PAD]", "##ing", "1984", "quokka"} & ranks.keys()


def test_what_was_alike_stays_alike_and_frequent_words_tell_little() -> None:
    chance = np.random.default_rng(0)
    kinds = chance.normal(0, 1, (5, 90))
    vectors = np.concatenate([kind + chance.normal(0, 0.2, (40, 90)) for kind in kinds]).astype(np.float32)
    words = [f"word{chr(97 + n // 26)}{chr(97 + n % 26)}" for n in range(200)]
    table = compressed(words, vectors, np.arange(200) * 200, np.arange(200))
    read = table.sums(words)

    assert table.vectors.shape == (200, NUM_DIMENSIONS)
    assert np.linalg.norm(read[0]) < 0.2 * np.linalg.norm(read[199])
    close = directions(read) @ directions(read).T
    same = np.arange(200)[:, None] // 40 == np.arange(200) // 40
    assert close[same].mean() > 0.7 > close[~same].mean() + 0.4
