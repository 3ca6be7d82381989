"""Two accountants, and what they are asked."""

import math

import pytest

from training.errors import RecipeError, TrainingError
from training.methods import accounting
from training.methods.accounting import find_noise, guarantee, renyi_divergence, spent
from training.recipes.sections import PrivacySettings


@pytest.mark.parametrize(
    ("noise", "rate", "steps", "delta"),
    [(1.1, 256 / 60_000, 14_000, 1e-5), (0.6, 0.01, 500, 1e-5), (2.0, 0.5, 100, 1e-6), (5.0, 1.0, 10, 1e-3)],
)
def test_our_accountant_agrees_with_opacus(noise: float, rate: float, steps: int, delta: float) -> None:
    ours = spent(noise, rate, steps, delta)

    assert ours == pytest.approx(accounting._spent_by_opacus(noise, rate, steps, delta), abs=1e-6)


def test_without_sampling_the_divergence_is_that_of_two_gaussians() -> None:
    assert renyi_divergence(3.0, 1.0, 2.0) == pytest.approx(3.0 / (2 * 2.0**2), rel=1e-9)


def test_the_divergence_of_order_two_is_the_closed_form() -> None:
    rate, sigma = 0.1, 0.8

    assert renyi_divergence(2.0, rate, sigma) == pytest.approx(math.log1p(rate**2 * math.expm1(1 / sigma**2)), rel=1e-9)


@pytest.mark.parametrize("epsilon", [0.1, 1.0, 8.0, 50.0])
def test_the_noise_that_is_found_spends_the_budget_and_no_more(epsilon: float) -> None:
    settings = PrivacySettings(epsilon=epsilon, delta=1e-5)

    made = guarantee(settings, find_noise(settings, 0.02, 300), 0.02, 300)

    assert epsilon * 0.99 <= made.epsilon <= epsilon + 1e-6


def test_less_noise_than_the_budget_asks_for_is_refused() -> None:
    settings = PrivacySettings(epsilon=1.0)

    with pytest.raises(TrainingError, match=r"epsilon [\d.]+ was spent, 1 allowed"):
        guarantee(settings, find_noise(settings, 0.02, 300) * 0.9, 0.02, 300)


def test_accountants_that_differ_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accounting, "_spent_by_opacus", lambda *_: 0.5)

    with pytest.raises(TrainingError, match="two accountants differ"):
        guarantee(PrivacySettings(epsilon=8.0), 1.0, 0.02, 300)


def test_a_budget_that_no_noise_reaches_is_one_line() -> None:
    with pytest.raises(RecipeError, match="no noise brings 1000000 steps down to epsilon 1e-05"):
        find_noise(PrivacySettings(epsilon=1e-5, delta=1e-12), 1.0, 1_000_000)
