import itertools

import pytest

from training.methods.schedule import BatchPlan, learning_rate_factor
from training.recipes.sections import ScheduleSettings


def test_every_example_comes_once_in_each_pass() -> None:
    order = list(itertools.chain(*BatchPlan(num_examples=10, batch_size=3, seed=1).steps(10)))

    assert [sorted(order[start : start + 10]) for start in (0, 10, 20)] == [list(range(10))] * 3
    assert order[:10] != order[10:20]


def test_batch_may_be_larger_than_the_data() -> None:
    assert [len(batch) for batch in BatchPlan(num_examples=2, batch_size=5, seed=1).steps(2)] == [5, 5]


def test_order_depends_on_the_seed_alone() -> None:
    plans = [list(BatchPlan(50, 4, seed).steps(20)) for seed in (1, 1, 2)]

    assert plans[0] == plans[1]
    assert plans[0] != plans[2]


def test_learning_rate_rises_then_falls_and_is_never_zero() -> None:
    factors = [learning_rate_factor(step, 20, ScheduleSettings(warmup_fraction=0.25)) for step in range(20)]

    assert factors[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert factors[5] == 1.0
    assert factors[5:] == sorted(factors[5:], reverse=True)
    assert 0 < factors[-1] < 0.02


@pytest.mark.parametrize("warmup", [0.0, 0.1, 0.99])
def test_a_single_step_learns(warmup: float) -> None:
    assert learning_rate_factor(0, 1, ScheduleSettings(warmup_fraction=warmup)) == 1.0


def test_wsd_is_stable_until_it_decays() -> None:
    schedule = ScheduleSettings(shape="wsd", warmup_fraction=0.1, decay_fraction=0.2)

    factors = [learning_rate_factor(step, 20, schedule) for step in range(20)]

    assert factors == pytest.approx([0.5, 1.0, *[1.0] * 14, 1.0, 0.75, 0.5, 0.25])


def test_constant_stays_after_the_warm_up() -> None:
    schedule = ScheduleSettings(shape="constant", warmup_fraction=0)

    assert {learning_rate_factor(step, 9, schedule) for step in range(9)} == {1.0}
