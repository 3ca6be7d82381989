"""The study's own arithmetic; what it measures needs a model and is run by hand."""

from __future__ import annotations

import numpy as np
import pytest

from training.studies.marks.detection_tails import errors


@pytest.mark.parametrize("temperature", [0.5, 1.0, 1.3])
def test_twenty_tokens_of_a_power_law_tell_the_rest(temperature: float) -> None:
    weights = np.arange(1, 10_001) ** -1.5
    logs = np.tile(np.log(weights / weights.sum()), (3, 1))

    own, nats = errors(logs, [0, 5, 3000], temperature)

    assert own == pytest.approx([0, 0, 0], abs=0.05)
    assert nats == pytest.approx([0, 0, 0], abs=0.05)
    assert np.abs(own).max() > 0 or temperature == 1.0
