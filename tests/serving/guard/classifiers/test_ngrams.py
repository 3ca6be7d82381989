"""Hashed n-grams: the fast way gives what the plain way would."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.guard.classifiers.ngrams import NUM_BUCKETS, hashed, normal, word_hashes


def slow_words(text: str) -> list[str]:
    words: list[str] = []
    for letter in text:
        kind = 0 if letter == " " else 1 if letter.isalnum() or letter in "_'" else 2
        if kind == 1 and words and words[-1] and words[-1] != " ":
            words[-1] += letter
        elif kind == 1:
            words.append(letter)
        if kind != 1:
            words += [letter, ""] if kind == 2 else [""]
    return [word for word in words if word]


@given(st.text(st.sampled_from("ab.c' !_1"), max_size=40))
def test_equal_words_have_equal_hashes_and_others_do_not(text: str) -> None:
    text = normal(text)
    words = slow_words(text)
    hashes = word_hashes(text)

    assert len(hashes) == len(words)
    by_hash = dict(zip(hashes.tolist(), words, strict=True))
    assert [by_hash[value] for value in hashes.tolist()] == words
    assert len(by_hash) == len(set(words))


@given(st.lists(st.text(max_size=60), min_size=1, max_size=5))
def test_texts_together_have_the_features_of_each_alone(texts: list[str]) -> None:
    texts = [normal(text) or " " for text in texts]
    together = hashed(texts)

    for place, text in enumerate(texts):
        alone = hashed([text])
        own = together.owners == place
        assert len(alone.buckets) > 0
        assert together.buckets[own].tolist() == alone.buckets.tolist()
        assert np.allclose(together.values[own], alone.values)
        assert int(alone.buckets.max()) < NUM_BUCKETS
        assert np.isfinite(alone.values).all()


def test_a_word_hashes_alike_wherever_it_stands() -> None:
    assert word_hashes("lantern")[0] == word_hashes("x" * 5000 + " lantern")[1]


@pytest.mark.parametrize("written", ["IGNORE  this", "Ｉｇｎｏｒｅ this", "ignore\nthis", "ig\u200bno\u00adre this"])
def test_writings_that_read_alike_are_alike(written: str) -> None:
    assert normal(written) == "ignore this"
