"""When traffic counts as drifted."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from monitoring.drift import DriftReport, Window, compare
from monitoring.telemetry import DriftSettings


def traffic(
    samples: int = 2000, seed: int = 1, scale: float = 1.0, refusals: float = 0.02, hits: float = 0.1
) -> Window:
    """Log-normal lengths, as of chats."""
    random = np.random.default_rng(seed)
    return Window(
        samples=samples,
        refused=round(samples * refusals),
        guarded=round(samples * hits),
        prompt_tokens=Counter((random.lognormal(4.0, 0.8, samples) * scale).astype(int).tolist()),
        completion_tokens=Counter(random.lognormal(5.0, 0.6, samples).astype(int).tolist()),
    )


def report(window: Window, reference: Window | None = None, **settings: float) -> DriftReport:
    chosen = DriftSettings.model_validate(settings)
    return compare("bot@1", (reference or traffic(5000)).as_reference(), window, 0.0, 60.0, chosen)


def drifted(found: DriftReport) -> list[str]:
    return [feature.feature for feature in found.features if feature.drifted]


def test_the_same_traffic_has_not_drifted() -> None:
    for seed in range(2, 30):
        found = report(traffic(seed=seed))

        assert drifted(found) == []
        assert found.drifted is False


@pytest.mark.parametrize(
    ("window", "feature"),
    [
        pytest.param(traffic(seed=2, scale=2.0), "prompt_tokens", id="longer prompts"),
        pytest.param(traffic(seed=2, scale=0.5), "prompt_tokens", id="shorter prompts"),
        pytest.param(traffic(seed=2, refusals=0.12), "refusal_rate", id="more refusals"),
        pytest.param(traffic(seed=2, hits=0.01), "guard_hit_rate", id="fewer guard hits"),
    ],
)
def test_a_feature_that_moved_is_named(window: Window, feature: str) -> None:
    found = report(window)

    assert drifted(found) == [feature]
    assert found.drifted is True


def test_a_small_difference_is_no_drift_however_significant() -> None:
    found = report(traffic(200_000, seed=2, refusals=0.03), traffic(200_000))
    refusals = next(feature for feature in found.features if feature.feature == "refusal_rate")

    assert refusals.p_value < 1e-9
    assert not refusals.drifted


def test_a_large_difference_of_a_few_answers_is_no_drift() -> None:
    found = report(traffic(20, seed=2, refusals=0.1), min_samples=10)
    refusals = next(feature for feature in found.features if feature.feature == "refusal_rate")

    assert refusals.effect > 0.05
    assert not refusals.drifted


@pytest.mark.parametrize(
    ("window", "reference", "says"),
    [
        (traffic(99), traffic(500), "99 answers in the window"),
        (traffic(500), traffic(99), "the reference has 99 answers"),
    ],
)
def test_too_few_answers_are_not_compared(window: Window, reference: Window, says: str) -> None:
    found = report(window, reference)

    assert says in found.note
    assert found.features == ()
    assert found.drifted is None


def test_values_are_shown_in_their_own_unit() -> None:
    found = report(traffic(seed=2, refusals=0.04))
    features = {feature.feature: feature for feature in found.features}

    assert features["refusal_rate"].reference == pytest.approx(0.02)
    assert features["refusal_rate"].current == pytest.approx(0.04)
    assert features["refusal_rate"].effect == pytest.approx(0.02)
    assert 60 < features["prompt_tokens"].current < 100
