import numpy as np
import pytest
import torch

from training.evaluate.retrieval import _ranks
from training.evaluate.scores import mean_score


def test_ranks_on_a_case_made_by_hand() -> None:
    texts = torch.eye(3)
    queries = torch.tensor([[1.0, 0.0, 0.0], [0.6, 0.5, 0.4], [0.5, 0.5, 0.0]])

    # The second query's best text is its second; the third's is as near as a wrong one, which counts against it.
    assert _ranks(queries, texts, [[0], [1, 2], [1]]).tolist() == [1, 2, 2]


def test_the_interval_of_a_mean() -> None:
    values = np.array([0.0] * 50 + [1.0] * 50)

    score = mean_score(values)

    assert score.value == 0.5
    assert score.low == pytest.approx(0.4, abs=0.03)
    assert score.high == pytest.approx(0.6, abs=0.03)
