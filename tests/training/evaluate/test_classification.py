from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from training.evaluate.classification import best_thresholds, decide, judge


def rows(*lists: str) -> np.ndarray:
    return np.array([[character == "1" for character in row] for row in lists])


def test_figures_by_hand() -> None:
    # Of label 0: 2 right, 1 missed. Of label 1: 1 right, 1 false. Of label 2: nothing there, nothing given.
    has, given = rows("100", "100", "100", "010"), rows("100", "100", "010", "010")

    found = judge(has, given)

    assert found.accuracy.value == 0.75
    assert found.macro_f1.value == pytest.approx((2 * 2 / 5 + 2 * 1 / 3) / 2)
    assert found.micro_f1.value == 0.75
    assert found.accuracy.low < 0.75 < found.accuracy.high
    assert found.figures().keys() >= {"accuracy", "macro_f1", "micro_f1", "accuracy_low", "micro_f1_high", "texts"}


def test_several_labels_are_right_only_together() -> None:
    found = judge(rows("110", "001"), rows("100", "001"))

    assert found.accuracy.value == 0.5
    assert found.micro_f1.value == pytest.approx(2 * 2 / 5)


def test_intervals_hold_the_truth_about_as_often_as_they_say() -> None:
    chance = np.random.default_rng(3)
    held = 0
    for _ in range(60):
        right = chance.random(120) < 0.8
        has = np.eye(2, dtype=bool)[np.zeros(120, dtype=int)]
        accuracy = judge(has, np.eye(2, dtype=bool)[(~right).astype(int)]).accuracy
        held += accuracy.low <= 0.8 <= accuracy.high

    assert held >= 52  # 57 of 60 expected; fewer than 53 in a run of a thousand


def test_thresholds_are_the_best_on_these_texts() -> None:
    has = np.array([[1, 0], [1, 0], [0, 0], [0, 0]], dtype=bool)
    found = np.array([[0.4, 0.1], [0.3, 0.2], [0.2, 0.3], [0.1, 0.4]])

    first, second = best_thresholds(has, found)

    assert 0.2 < first <= 0.3
    assert second == 0.5


def test_a_rare_label_gets_the_threshold_of_the_others_not_that_of_its_few_texts() -> None:
    """One text of the rare label, which by chance has a probability of .97."""
    has = np.zeros((400, 2), dtype=bool)
    has[:100, 0] = has[0, 1] = True
    found = np.full((400, 2), 0.05)
    found[:100, 0] = np.linspace(0.3, 0.9, 100)
    found[0, 1] = 0.97

    frequent, rare = best_thresholds(has, found)

    assert frequent < 0.31
    assert rare < 0.31


def test_a_text_that_reaches_no_threshold_gets_the_nearest_label_where_all_have_one() -> None:
    config = SimpleNamespace(problem_type="multi_label_classification", num_labels=2, signet_thresholds=[0.5, 0.2])
    model: Any = SimpleNamespace(config=config)
    found = np.array([[0.3, 0.19], [0.1, 0.3], [0.9, 0.9]])

    before = decide(model, found)
    config.signet_always_labelled = True

    assert before.tolist() == [[False, False], [False, True], [True, True]]
    assert decide(model, found).tolist() == [[False, True], [False, True], [True, True]]
