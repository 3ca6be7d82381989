"""The study of distortion: its tests see what differs and nothing else."""

import numpy as np
import pytest

from loadtests.benchmarks.mark_distortion import TESTS, by_position, continuations, whole_answers
from training.studies.marks.bigram import Bigram

TEXT = np.random.default_rng(0).integers(0, 40, 3000).tolist()


def answers(seed: int, shares: list[float], number: int = 800) -> np.ndarray:
    return np.random.default_rng(seed).choice(len(shares), (number, 5), p=shares)


@pytest.mark.parametrize("name", TESTS)
def test_samples_of_one_distribution_are_not_told_apart(name: str) -> None:
    assert TESTS[name](answers(1, [0.5, 0.3, 0.2]), answers(2, [0.5, 0.3, 0.2])) > 0.01


@pytest.mark.parametrize("name", TESTS)
def test_another_share_of_tokens_is_seen(name: str) -> None:
    assert TESTS[name](answers(1, [0.5, 0.3, 0.2]), answers(2, [0.4, 0.4, 0.2])) < 0.01


def test_dependence_between_tokens_is_seen_where_the_tokens_alone_show_nothing() -> None:
    alike = answers(3, [0.5, 0.5])
    alike[:, 1] = alike[:, 0]
    apart = answers(4, [0.5, 0.5])

    assert by_position(alike, apart, 1) > 0.01
    assert by_position(alike, apart, 2) < 1e-6
    assert whole_answers(alike, apart, 200) < 0.01


def test_each_answer_has_its_own_key() -> None:
    model = Bigram(TEXT, 2.0)

    marked = continuations(model, "gumbel", 60, 4, 40, seed=1)

    assert marked.shape == (60, 4)
    assert len(np.unique(marked, axis=0)) > 30
