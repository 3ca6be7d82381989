"""Windows: every sentence is in one, and none is left out of a long text."""

from __future__ import annotations

from itertools import pairwise

import pytest

from serving.guard.classifiers.windows import chunks, sentences, windows


def test_sentences_are_alone_and_in_pairs() -> None:
    text = "The first sentence is here. The second sentence follows it. The third one is the last."
    found = windows(text, 300, 200)

    assert found[:3] == sentences(text, 300)
    assert found[3] == "The first sentence is here. The second sentence follows it."
    assert len(found) == 5


@pytest.mark.parametrize("count", [1, 10, 99, 101, 1000])
def test_nothing_is_left_out(count: int) -> None:
    told = [f"This is the sentence with the number {number}." for number in range(count)]
    found = windows(" ".join(told), 300, 200)

    assert len(found) <= 2 * 200
    assert all(any(sentence in window for window in found) for sentence in told)


def test_a_sentence_without_an_end_is_cut() -> None:
    found = sentences("word " * 500, 300)

    assert max(map(len, found)) <= 300
    assert " ".join(found).split() == ["word"] * 500


def test_chunks_overlap_and_hold_everything() -> None:
    told = [f"This is the sentence with the number {number}." for number in range(300)]
    found = chunks(" ".join(told), 1500)

    assert max(map(len, found)) <= 1500 + 50
    assert all(any(sentence in chunk for chunk in found) for sentence in told)
    assert any(told[40] in first and told[40] in second for first, second in pairwise(found))
