"""When traffic counts as drifted."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from monitoring.drift import DriftReport, Window, compare
from monitoring.drift.compare import compare_sketches
from monitoring.drift.features import FEATURES
from monitoring.drift.recorded import reference_of
from monitoring.drift.sketch import Sketch
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


def sketch(feature: int, values: np.ndarray) -> Sketch:
    grid = FEATURES[feature].grid
    made = Sketch.empty(grid)
    made.add(grid.bins(values), values)
    return made


def test_the_references_mean_is_the_traffics_own() -> None:
    """Answers of code: most are short, and a few very long."""
    lengths = np.random.default_rng(3).lognormal(2.0, 1.6, 3000).round()
    before = Window(3000, 0, 0, Counter(lengths.astype(int).tolist()), Counter(lengths.astype(int).tolist()))
    sketches = {name: sketch(0, lengths) for name in ("prompt_tokens", "completion_tokens")}

    found = compare("bot@1", reference_of(before, sketches), before, 0.0, 60.0, DriftSettings())

    for feature in found.features[:2]:
        assert feature.reference == pytest.approx(lengths.mean())
        assert feature.current == pytest.approx(feature.reference)


def test_a_mean_that_was_not_recorded_is_not_made_up() -> None:
    found = report(traffic(seed=2))

    assert np.isnan(found.features[0].reference)


def test_sketches_are_compared_in_ten_bins() -> None:
    random = np.random.default_rng(4)
    reference, same, longer = (sketch(0, random.lognormal(5, 1, 3000) * scale) for scale in (1, 1, 2))

    alike = compare_sketches(FEATURES[0], reference, same, DriftSettings())
    other = compare_sketches(FEATURES[0], reference, longer, DriftSettings())

    assert alike.effect < 0.05
    assert alike.p_value > 0.001
    assert other.effect > 0.2
    assert other.p_value < 1e-9


def test_sketches_of_rates_are_compared_as_rates() -> None:
    rare, frequent = (sketch(3, np.array([0.0] * (1000 - hits) + [1.0] * hits)) for hits in (20, 80))

    found = compare_sketches(FEATURES[3], rare, frequent, DriftSettings())

    assert found.effect == pytest.approx(0.06)
    assert found.p_value < 1e-6


def test_few_values_have_no_effect_to_speak_of() -> None:
    found = compare_sketches(FEATURES[0], sketch(0, np.ones(500)), sketch(0, np.ones(99)), DriftSettings())

    assert np.isnan(found.effect)
    assert found.reference == found.current == 1
