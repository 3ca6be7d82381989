"""Adjustments to text that repeats itself, learned from windows of it."""

from pathlib import Path

import numpy as np
import pytest

from serving.provenance import MarkKey, detect
from serving.provenance.adjustment import Adjustment
from serving.provenance.detection.calibrate import calibrate, windows_of
from tests.serving.provenance.fixed_keyring import fixed_keyring


@pytest.fixture
def keys(tmp_path: Path) -> list[MarkKey]:
    ring = fixed_keyring(tmp_path)
    return [ring.mark_key(f"tenant-{number}") for number in range(10)]


def letters(number: int, seed: int, share: float) -> list[list[int]]:
    """Windows of 200 tokens of which a share are phrases from a small stock."""
    rng = np.random.default_rng(seed)
    stock = np.random.default_rng(99).integers(0, 500, (6, 12))
    made = []
    for _ in range(number):
        parts = [stock[rng.integers(6)] if rng.random() < share else rng.integers(0, 500, 12) for _ in range(17)]
        made.append(np.concatenate(parts)[:200].tolist())
    return made


def rates(windows: list[list[int]], keys: list[MarkKey], adjustments: list[Adjustment]) -> np.ndarray:
    used = {one.subject: one for one in adjustments}
    found = [detect(window, keys, adjustments=used, tokenizer="t").per_key for window in windows]
    by_key = [{score.key_id: score.p_value for score in per_key} for per_key in found]
    return np.array([np.mean([scores[key.id] < 0.02 for scores in by_key]) for key in keys])


def test_calibration_brings_false_alarms_of_repetitive_text_below_the_stated_rate(keys: list[MarkKey]) -> None:
    asked = letters(150, 2, share=0.6)
    adjustments = calibrate(letters(300, 1, share=0.6), keys, "t")

    before, after = rates(asked, keys, []), rates(asked, keys, adjustments)

    assert before.max() > 0.08
    assert after.max() < 0.06
    assert after.mean() < 0.02


def test_fresh_text_needs_hardly_any_adjustment(keys: list[MarkKey]) -> None:
    adjustments = calibrate(letters(200, 3, share=0.0), keys, "t")

    assert max(one.shift for one in adjustments) < 0.03
    assert max(one.spread for one in adjustments) < 1.5
    assert {one.windows for one in adjustments} == {200}


@pytest.mark.parametrize("scheme", ["kgw", "synthid"])
def test_other_schemes_are_calibrated_by_their_own_null(keys: list[MarkKey], scheme: str) -> None:
    (adjustment,) = calibrate(letters(100, 4, share=0.0), keys[:1], "t", scheme)

    assert adjustment.scheme == scheme
    assert 1 <= adjustment.spread < 2


def test_few_windows_are_refused(keys: list[MarkKey]) -> None:
    with pytest.raises(ValueError, match="10 windows are too few"):
        calibrate(letters(10, 5, share=0.5), keys, "t")


def test_windows_leave_the_rest_out() -> None:
    assert windows_of(list(range(7)), 3) == [[0, 1, 2], [3, 4, 5]]


def test_no_adjustment_makes_a_text_look_better_marked() -> None:
    with pytest.raises(ValueError, match="no text look better"):
        Adjustment("mk1-" + "0" * 20, "gumbel", "t", -0.1, 1.0, 100, 100, 0)
