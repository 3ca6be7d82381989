"""The promise (mean time between false alarms), the power, and evidence that survives restarts."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable

import numpy as np
import pytest

from monitoring.drift.detector import PERIOD_S, Detector
from monitoring.drift.scores import Scores, make_scores
from monitoring.drift.sketch import Grid, Sketch

GRIDS = {"length": Grid("size"), "refused": Grid("flag")}
Draw = Callable[[int], list[np.ndarray]]


def traffic(random: np.random.Generator, scale: float = 1.0, refused: float = 0.03) -> Draw:
    return lambda number: [
        (random.lognormal(5, 1, number) * scale).round(),
        (random.random(number) < refused).astype(float),
    ]


def scores_of(draw: Draw, samples: int, tolerance: float = 0.0, error: float = 0.01) -> dict[str, Scores]:
    scores = {}
    for (name, grid), values in zip(GRIDS.items(), draw(samples), strict=True):
        reference = Sketch.empty(grid)
        reference.add(grid.bins(values), values)
        scores[name] = make_scores(grid, reference, error=error / len(GRIDS), tolerance=tolerance)
    return scores


def detector(draw: Draw, periods: float, samples: int = 1000, tolerance: float = 0.0, error: float = 0.01) -> Detector:
    return Detector(scores_of(draw, samples, tolerance, error), periods * PERIOD_S)


def bins(values: list[np.ndarray]) -> list[np.ndarray]:
    return [grid.bins(own) for grid, own in zip(GRIDS.values(), values, strict=True)]


def run(watching: Detector, draw: Draw, periods: int, rate: int, start: int = 0) -> list:
    times = (start + np.arange(periods * rate) / rate) * PERIOD_S
    return watching.update(bins(draw(periods * rate)), times)


@pytest.mark.parametrize("rate", [1, 20])
def test_false_alarms_are_as_rare_as_promised(rate: int) -> None:
    """Twenty references of 300 answers, each watched over 1,000 periods at a run length of 100: at most 200 alarms."""
    alarms = []
    for seed in range(20):
        draw = traffic(np.random.default_rng(seed))
        alarms += run(detector(draw, 100, samples=300, error=0.3), draw, 1000, rate)

    assert len(alarms) <= 200


def test_without_the_references_own_uncertainty_the_promise_would_not_hold() -> None:
    """What the band is for: with its middle taken as exact, the same references raise more alarms than allowed."""
    alarms = 0
    for seed in range(6):
        draw = traffic(np.random.default_rng(seed))
        scores = scores_of(draw, 300)
        exact = {
            name: dataclasses.replace(own, low=(own.low + own.high) / 2, high=(own.low + own.high) / 2)
            for name, own in scores.items()
        }
        alarms += len(run(Detector(exact, 100 * PERIOD_S), draw, 500, 20))

    assert alarms > 30


def test_changes_within_the_tolerance_are_no_drift() -> None:
    random = np.random.default_rng(5)
    watching = detector(traffic(random), 100, tolerance=0.2)

    assert run(watching, traffic(random, scale=1.1, refused=0.035), 2000, 20) == []


@pytest.mark.parametrize(
    ("changed", "feature", "score", "higher"),
    [
        ({"scale": 2.0}, "length", "rank", True),
        ({"scale": 0.5}, "length", "rank", False),
        ({"refused": 0.2}, "refused", "rate", True),
    ],
)
def test_a_change_is_found_named_and_dated(changed: dict[str, float], feature: str, score: str, higher: bool) -> None:
    random = np.random.default_rng(7)
    watching = detector(traffic(random), 5000)
    assert run(watching, traffic(random), 300, 20) == []

    alarms = run(watching, traffic(random, **changed), 30, 20, start=300)

    first = alarms[0]
    assert first.features == (feature,)
    assert (first.score, first.higher) == (score, higher)
    assert abs(first.since / PERIOD_S - 300) <= 3
    assert 0 < first.at / PERIOD_S - 300 < 20
    assert first.log_evidence >= np.log(5000)


def test_drift_that_stays_is_raised_again() -> None:
    random = np.random.default_rng(8)
    watching = detector(traffic(random), 1000)

    assert len(run(watching, traffic(random, scale=3), 100, 20)) > 5


def test_how_answers_are_cut_into_reads_makes_no_difference() -> None:
    random = np.random.default_rng(9)
    draw = traffic(random)
    whole, cut = detector(draw, 50), detector(traffic(np.random.default_rng(9)), 50)
    values = bins(traffic(random, scale=1.5)(900))
    times = np.arange(900) * 40.0

    expected = whole.update(values, times)
    alarms = []
    for start in range(0, 900, 7):
        alarms += cut.update([own[start : start + 7] for own in values], times[start : start + 7])

    assert len(expected) > 0
    assert [(alarm.at, alarm.since, alarm.features) for alarm in alarms] == [
        (alarm.at, alarm.since, alarm.features) for alarm in expected
    ]
    assert cut.log_evidence == pytest.approx(whole.log_evidence)


def test_a_restart_neither_loses_nor_doubles_evidence() -> None:
    random = np.random.default_rng(10)
    draw = traffic(random)
    first, second = detector(draw, 1000), detector(traffic(np.random.default_rng(10)), 1000)
    run(first, draw, 10, 7)

    second.restore(json.loads(json.dumps(first.state())))

    values, times = bins(traffic(random, scale=2)(200)), 70 * 100 + np.arange(200) * 10.0
    assert second.update(values, times) == first.update(values, times)
    assert second.log_evidence == first.log_evidence


def test_a_state_of_other_features_is_refused() -> None:
    draw = traffic(np.random.default_rng(11))
    state = detector(draw, 100).state()

    with pytest.raises(ValueError, match="other features"):
        detector(draw, 100).restore({name: own[:1] if isinstance(own, list) else own for name, own in state.items()})


def test_nothing_is_no_evidence() -> None:
    watching = detector(traffic(np.random.default_rng(12)), 10)

    assert watching.update(bins([np.empty(0), np.empty(0)]), np.empty(0)) == []
    unknown = np.full(5000, np.nan)
    assert watching.update(bins([unknown, unknown]), np.arange(5000) * PERIOD_S) == []
    assert set(watching.log_evidence.values()) == {-np.inf}


def test_state_stays_as_small_as_it_was() -> None:
    draw = traffic(np.random.default_rng(13))
    watching = detector(draw, 100)
    run(watching, draw, 10, 20)
    before = len(json.dumps(watching.state()))

    run(watching, draw, 2000, 20, start=10)

    assert len(json.dumps(watching.state())) < 1.3 * before
