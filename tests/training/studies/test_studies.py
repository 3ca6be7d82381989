"""Every study runs in its smallest form, and its page says what was found."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from training.studies import STUDIES
from training.studies.page import page, picture
from training.studies.study import Result, Sample, Trial, explanation, find_study

SOURCES = Path(__file__).parents[3] / "training" / "studies"


def smallest(name: str) -> Result:
    samples = [find_study(name).measure(Trial(seed, is_smallest=True)) for seed in range(2)]
    return Result(name, samples, "2026-01-31", f"signet study {name}", 1.0, {"torch": "2"})


@pytest.mark.parametrize("name", STUDIES)
def test_the_smallest_form_leads_to_a_page(name: str) -> None:
    result = smallest(name)

    assert math.isfinite(result.number.value)
    assert len({tuple(sample.table) for sample in result.samples}) == 1
    text, drawn = page(result), picture(result)
    assert find_study(name).claim in text
    assert all(figure in text for figure in result.table())
    assert drawn.startswith("<svg")
    assert "nan" not in drawn
    assert Result.from_json(result.as_json()) == result


@pytest.mark.parametrize("name", STUDIES)
def test_a_study_is_one_short_file_that_says_how_it_is_done(name: str) -> None:
    title, method = explanation(name)

    assert title
    assert len(method) > 200
    assert len((SOURCES / f"{name.replace('-', '_')}.py").read_text().splitlines()) <= 200


def test_the_same_seed_gives_the_same_figures() -> None:
    again: list[Sample] = [find_study("residuals").measure(Trial(3, is_smallest=True)) for _ in range(2)]

    assert again[0] == again[1]
