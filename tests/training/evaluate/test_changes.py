from __future__ import annotations

import math

import numpy as np
import pytest

from training.evaluate.changes import SetChange, TaskChange


def test_the_ratio_of_perplexities_and_an_interval_around_it() -> None:
    generator = np.random.default_rng(1)
    tokens = generator.integers(20, 60, 200)
    before = tokens * generator.normal(3.0, 1.0, 200)
    after = before + tokens * generator.normal(0.09, 0.05, 200)

    change = SetChange.of(list(before), list(after), list(tokens))

    assert change.before == pytest.approx(math.exp(before.sum() / tokens.sum()))
    assert change.ratio.value == pytest.approx(change.after / change.before)
    assert change.ratio.low < change.ratio.value < change.ratio.high
    assert change.tokens == tokens.sum()
    # Texts differ from each other by 20 times as much as the models do: unpaired, the interval would be as wide.
    assert change.ratio.high - change.ratio.low == pytest.approx(2 * 1.96 * 0.05 / math.sqrt(200) * 1.09, rel=0.25)


def test_the_same_losses_have_a_ratio_of_one() -> None:
    change = SetChange.of([3.0, 4.0], [3.0, 4.0], [2, 2])

    assert (change.ratio.value, change.ratio.low, change.ratio.high) == (1, 1, 1)


def test_a_text_without_scored_tokens_changes_nothing() -> None:
    assert SetChange.of([3.0, 0.0], [3.3, 0.0], [3, 0]).ratio.high == pytest.approx(math.exp(0.1))


def test_questions_are_compared_one_by_one() -> None:
    change = TaskChange.of(np.array([1.0, 1.0, 0.0, 1.0]), np.array([1.0, 0.0, 0.0, 1.0]))

    assert (change.before.value, change.after.value, change.difference.value) == (0.75, 0.5, -0.25)
    assert change.difference.high <= 0
    assert change.figures()["questions"] == 4
