"""The measure of what a model knows of a canary."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from loadtests.benchmarks.canaries import (
    NAME,
    SYMBOLS,
    VOCABULARY,
    canary_rows,
    chance_bits,
    exposure,
    linked_exposures,
)


class Knows(nn.Module):
    """Foresees the rows that it was given, from their names, and of others nothing."""

    def __init__(self, rows: torch.Tensor) -> None:
        super().__init__()
        self.rows = {tuple(row[:NAME].tolist()): row for row in rows}

    def forward(self, ids_BL: torch.Tensor) -> torch.Tensor:
        logits = torch.zeros(*ids_BL.shape, VOCABULARY)
        for at, ids in enumerate(ids_BL):
            row = self.rows.get(tuple(ids[:NAME].tolist()))
            if row is not None:
                logits[at, torch.arange(len(ids)), row[1:]] = 5.0
        return logits


def test_a_secret_that_is_known_is_exposed_and_one_that_is_not_is_at_chance() -> None:
    random = np.random.default_rng(0)
    known, unknown = canary_rows(8, random), canary_rows(8, random)
    others = torch.from_numpy(random.integers(0, SYMBOLS, (255, 8)))
    model = Knows(known)

    assert all(exposure(model, row, others) == 8 for row in known)
    assert list(linked_exposures(model, known)) == [3.0] * 8
    # Equal losses count against the canary.
    assert all(exposure(model, row, others) == 0 for row in unknown)


@pytest.mark.parametrize("count", [2, 64, 1024])
def test_chance_is_the_mean_over_all_ranks(count: int) -> None:
    assert chance_bits(count) == pytest.approx(np.mean([math.log2(count / rank) for rank in range(1, count + 1)]))
