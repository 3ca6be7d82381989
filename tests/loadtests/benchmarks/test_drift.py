"""The benchmark's own detectors find what its scenarios change, and nothing where nothing changes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from loadtests.benchmarks.drift import RATE, Traffic, alarms, detector, for_peers


@pytest.fixture
def traffic(tmp_path: Path) -> Traffic:
    random = np.random.default_rng(1)
    for name, mean in (("conv", 6), ("code", 8)):
        rows = [f"t,{prompt:.0f},{answer:.0f}" for prompt, answer in random.lognormal(mean, 0.8, (500, 2))]
        (tmp_path / f"AzureLLMInferenceTrace_{name}.csv").write_text(
            "\n".join(["TIMESTAMP,ContextTokens,GeneratedTokens", *rows])
        )
    return Traffic(tmp_path)


def test_changed_traffic_is_found_and_unchanged_is_not(traffic: Traffic) -> None:
    random = np.random.default_rng(2)
    reference = traffic.draw(random, 2000)

    assert alarms(detector(reference), traffic.draw(random, 3000), RATE) == []
    assert alarms(detector(reference), traffic.draw(random, 500, code=0.5), RATE)[0] < 200


def test_other_tools_get_standardized_features(traffic: Traffic) -> None:
    reference = traffic.draw(np.random.default_rng(3), 2000)

    scaled = for_peers(reference, reference)

    assert scaled.mean(axis=0) == pytest.approx(0, abs=1e-9)
    assert scaled.std(axis=0) == pytest.approx(1)
