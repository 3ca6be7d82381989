"""One model: reference, alarms, restarts, memory."""

from __future__ import annotations

import json

import numpy as np
import pytest

from monitoring.drift.features import Answer
from monitoring.drift.standing import standing
from monitoring.drift.watched import Watched
from monitoring.telemetry import DriftSettings
from tests.support.drift_answers import HOUR_S, answers

SETTINGS = DriftSettings(reference_days=0.5, reference_samples=1000)
START = 1_000_000.0


def saved(watched: Watched, settings: DriftSettings = SETTINGS) -> Watched:
    return Watched.from_state(json.loads(json.dumps(watched.state())), settings)


def with_reference(settings: DriftSettings = SETTINGS) -> Watched:
    watched = Watched("bot", "", settings)
    assert watched.add(answers(1500, START)) == []
    assert watched.detector is not None
    return watched


def test_the_first_answers_are_the_reference_once_there_are_enough_for_long_enough() -> None:
    watched = Watched("bot", "", SETTINGS)

    watched.add(answers(1400, START))
    assert watched.detector is None
    watched.add(answers(100, START + 1400 * 30))

    assert watched.detector is not None
    # Half a day at one in thirty seconds, and the answer that ended it.
    assert watched.reference["prompt_tokens"].samples == 1441


def test_where_a_read_ends_makes_no_difference_to_the_reference() -> None:
    whole, cut = Watched("bot", "", SETTINGS), Watched("bot", "", SETTINGS)
    own = answers(2000, START)

    whole.add(own)
    for start in range(0, 2000, 130):
        cut.add(own[start : start + 130])

    assert cut.reference["prompt_tokens"].counts.tolist() == whole.reference["prompt_tokens"].counts.tolist()
    assert cut.detector is not None
    assert whole.detector is not None
    assert cut.detector.log_evidence == pytest.approx(whole.detector.log_evidence)


def test_ratings_are_not_answers_of_the_reference() -> None:
    watched = Watched("bot", "", SETTINGS)

    watched.add([Answer(row, START + row * 60, "bot", "", rating=1.0) for row in range(1, 1500)])

    assert watched.detector is None


def test_a_change_is_named_dated_and_held() -> None:
    watched = with_reference()
    changed_at = START + 1500 * 30

    alarms = watched.add(answers(400, changed_at, seed=2, scale=2.5))

    assert alarms[0].features == ("prompt_tokens",)
    stands = standing(watched, watched.last_at, SETTINGS)
    prompt = stands.features[0]
    assert stands.drifted is True
    assert (prompt.feature, prompt.drifted, prompt.what) == ("prompt_tokens", True, "rank higher")
    assert abs(prompt.since - changed_at) <= 1800
    assert prompt.current > 2 * prompt.reference
    assert prompt.effect > 0.2
    assert [own.feature for own in stands.features if own.drifted] == ["prompt_tokens"]


def test_drift_that_is_over_is_let_go_after_a_while() -> None:
    watched = with_reference()
    watched.add(answers(400, START + 1500 * 30, seed=2, scale=2.5))
    end = watched.last_at

    watched.add(answers(5000, end + 30, seed=3))

    assert not standing(watched, watched.last_at, SETTINGS).drifted


def test_drift_that_stays_is_held_and_keeps_its_beginning() -> None:
    watched = with_reference()
    changed_at = START + 1500 * 30
    watched.add(answers(400, changed_at, seed=2, scale=2.5))
    since = watched.drifted(watched.last_at)["prompt_tokens"].since

    watched.add(answers(6000, watched.last_at + 30, seed=3, scale=2.5))

    assert watched.drifted(watched.last_at)["prompt_tokens"].since == since


def test_a_restart_changes_nothing() -> None:
    """At every point: while the reference is collected, while evidence gathers, after an alarm."""
    straight, restarted = Watched("bot", "", SETTINGS), Watched("bot", "", SETTINGS)
    own = answers(1600, START) + answers(300, START + 1600 * 30, seed=2, scale=1.8)
    expected = straight.add(own)

    alarms = []
    for start in range(0, len(own), 190):
        restarted = saved(restarted)
        alarms += restarted.add(own[start : start + 190])

    assert len(expected) > 0
    assert [(alarm.at, alarm.since, alarm.features) for alarm in alarms] == [
        (alarm.at, alarm.since, alarm.features) for alarm in expected
    ]
    assert (
        restarted.window(restarted.last_at)["prompt_tokens"].total
        == straight.window(straight.last_at)["prompt_tokens"].total
    )
    assert saved(restarted).drifted(restarted.last_at).keys() == straight.drifted(straight.last_at).keys()


def test_evidence_beyond_another_tolerance_is_not_kept() -> None:
    watched = with_reference()
    watched.add(answers(100, START + 1500 * 30, seed=2))
    assert watched.detector is not None
    assert np.isfinite(watched.detector.log_evidence["prompt_tokens"])

    other = saved(watched, SETTINGS.model_copy(update={"tolerance": 0.3}))

    assert other.detector is not None
    assert other.detector.log_evidence["prompt_tokens"] == -np.inf


def test_the_window_is_the_last_hour() -> None:
    watched = with_reference()

    assert 100 <= watched.window(watched.last_at)["prompt_tokens"].samples <= 140
    assert watched.window(watched.last_at + 3 * HOUR_S)["prompt_tokens"].samples == 0


def test_memory_does_not_grow() -> None:
    watched = with_reference()
    before = len(json.dumps(watched.state()))

    for day in range(20):
        watched.add(answers(2880, START + 1500 * 30 + day * 86_400, seed=day))

    assert len(json.dumps(watched.state())) < 1.5 * before


def test_a_feature_that_the_reference_has_not_seen_is_not_watched() -> None:
    stands = standing(with_reference(), START, SETTINGS)

    rating = stands.features[-1]
    assert (rating.feature, rating.drifted) == ("rating", None)
    assert np.isnan(rating.evidence_s)
