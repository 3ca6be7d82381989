"""What tokens were drawn from, told from twenty log-probabilities before temperature, against whole distributions."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from serving.provenance.detection import drawn
from serving.provenance.detection.drawn import PLAIN, Sampling, drawn_from
from serving.provenance.schemes import SCHEMES

Floats = NDArray[np.float64]
VOCABULARY = 20_000
PLACES = 60


@pytest.fixture(scope="module")
def places() -> list[Floats]:
    """Distributions as a model's: ranks to some power, and noise."""
    rng = np.random.default_rng(0)
    ranks = np.arange(1, VOCABULARY + 1)
    shapes = [ranks ** -rng.uniform(1.0, 3.0) * np.exp(rng.normal(0, 1, VOCABULARY)) for _ in range(PLACES)]
    return [shape / shape.sum() for shape in shapes]


def as_drawn(probabilities: Floats, sampling: Sampling) -> Floats:
    """The distribution after temperature, top-k, top-p: slowly, token by token."""
    tempered = probabilities ** (1 / sampling.temperature)
    order = np.argsort(-tempered)[: sampling.top_k or len(tempered)]
    total, above = tempered[order].sum(), 0.0
    kept = np.zeros_like(tempered)
    for token in order:
        if above >= sampling.top_p * total:
            break
        kept[token] = tempered[token]
        above += tempered[token]
    found: Floats = kept / kept.sum()
    return found


def likeliest(probabilities: Floats, number: int = 20) -> list[float]:
    listed: list[float] = np.log(np.sort(probabilities)[::-1][:number]).tolist()
    return listed


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(),
        Sampling(0.3),
        Sampling(0.7),
        Sampling(1.3),
        Sampling(0.7, 50, 0.95),
        Sampling(1.0, 5),
        Sampling(1.0, 0, 0.5),
        Sampling(1.0, 0, 0.97),
    ],
    ids=str,
)
def test_twenty_of_twenty_thousand_are_enough(places: list[Floats], sampling: Sampling) -> None:
    rng = np.random.default_rng(1)
    whole = [as_drawn(place, sampling) for place in places]
    came = [int(rng.choice(VOCABULARY, p=place)) for place in whole]
    own = [math.log(place[token]) for place, token in zip(places, came, strict=True)]

    told = drawn_from(own, [likeliest(place) for place in places], sampling)

    near = 0.12 if sampling.temperature <= 1 else 0.4  # the tail weighs more, and here it is longer than assumed
    truth = np.array([place[token] for place, token in zip(whole, came, strict=True)])
    assert np.log(told.probabilities) == pytest.approx(np.log(truth), abs=0.2)
    assert np.mean(np.log(told.probabilities / truth)) == pytest.approx(0, abs=0.05)
    assert told.collision_nats == pytest.approx([-math.log(np.square(place).sum()) for place in whole], abs=near)
    assert told.rivals is not None
    rivals = [np.square(place).sum() - place[token] ** 2 for place, token in zip(whole, came, strict=True)]
    assert told.rivals.collision == pytest.approx(rivals, abs=0.02)


@pytest.mark.parametrize("sampling", [Sampling(1.5), Sampling(0.7, 15_000, 0.99)], ids=str)
def test_whole_distributions_leave_nothing_to_assume(places: list[Floats], sampling: Sampling) -> None:
    whole = [as_drawn(place, sampling) for place in places[:4]]
    came = [int(place.argmax()) for place in whole]
    own = [math.log(place[token]) for place, token in zip(places, came, strict=False)]

    told = drawn_from(own, [likeliest(place, VOCABULARY) for place in places[:4]], sampling)

    assert told.probabilities == pytest.approx([place.max() for place in whole], rel=1e-6)
    assert told.collision_nats == pytest.approx([-math.log(np.square(place).sum()) for place in whole], rel=1e-6)


def test_what_the_settings_rule_out_was_not_drawn_by_them() -> None:
    listed = [math.log(0.6), math.log(0.3), math.log(0.05)]

    for sampling in (Sampling(1.0, 2), Sampling(1.0, 0, 0.8), Sampling(0.0)):
        told = drawn_from([listed[2], math.log(1e-4)], [listed, listed], sampling)
        assert told.probabilities.tolist() == [1.0, 1.0], sampling


def test_greedy_answers_have_no_alternatives_but_to_a_green_list() -> None:
    listed = [math.log(0.6), math.log(0.3)]
    told = drawn_from([listed[0], listed[1]], [listed, listed], Sampling(0.0))

    assert told.probabilities.tolist() == [1.0, 1.0]
    assert told.collision_nats == pytest.approx([0.0, 0.0], abs=1e-6)
    green = SCHEMES["kgw"].marked_scores(told.probabilities, told.rivals).mean + 0.25
    assert green[0] == pytest.approx(0.25 / (0.25 + 0.75 * 0.75), abs=0.02)
    assert green[1] == pytest.approx(1.0, abs=0.01)


def test_unknown_tokens_count_as_certain() -> None:
    told = drawn_from([None, -1.0, -1.0], [None, [], [-1.0, -1.5]], Sampling(0.5))

    assert told.probabilities[:2].tolist() == [1.0, 1.0]
    assert told.probabilities[2] < 1
    assert told.collision_nats is not None
    assert told.collision_nats[:2].tolist() == [0.0, 0.0]
    assert SCHEMES["kgw"].marked_scores(told.probabilities, told.rivals).mean[:2] == pytest.approx([0.0, 0.0])


def test_without_the_likeliest_only_temperature_1_can_be_told() -> None:
    told = drawn_from([-1.0, None])

    assert told.probabilities == pytest.approx([math.exp(-1), 1.0])
    assert (told.collision_nats, told.rivals, told.sampling) == (None, None, PLAIN)
    with pytest.raises(ValueError, match="top_logprobs only"):
        drawn_from([-1.0], None, Sampling(0.7))
    with pytest.raises(ValueError, match="2 log-probabilities and 1 lists"):
        drawn_from([-1.0, -1.0], [[-1.0]])


def test_numbers_at_the_ends_of_floating_point() -> None:
    listed = [[0.0, -80.0], [-1e-12, -200.0], [-3.0] * 20]

    for temperature in (0.0, 1e-4, 0.01, 5.0):
        told = drawn_from([-80.0, 0.0, -45.0], listed, Sampling(temperature, 0, 0.9))
        assert np.isfinite(told.probabilities).all()
        assert ((told.probabilities > 0) & (told.probabilities <= 1)).all()
        for scheme in SCHEMES.values():
            assert all(np.isfinite(one).all() for one in scheme.marked_scores(told.probabilities, told.rivals))


def test_no_tokens_are_no_places() -> None:
    assert len(drawn_from([], [], Sampling(0.7)).probabilities) == 0


def test_a_tail_holds_what_the_listed_leave_over() -> None:
    for left, number in ((0.3, 20), (0.1, 20), (0.9, 3)):
        power = drawn._tail_power(np.log([left / 0.01]), np.array([number]))
        ranks = np.arange(number, drawn.LAST_RANK)
        assert 0.01 * ((ranks + 0.5) / number) ** -power[0] @ np.ones(len(ranks)) == pytest.approx(left, rel=0.05)
