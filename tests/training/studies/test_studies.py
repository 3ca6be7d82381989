"""Every study runs in its smallest form, and its page says what was found."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest

from training.studies import STUDIES
from training.studies.page import page, picture
from training.studies.study import Result, Sample, Trial, explanation, find_study

SOURCES = Path(__file__).parents[3] / "training" / "studies"


def smallest(name: str) -> Result:
    sample = find_study(name).measure(Trial(0, is_smallest=True))
    # Another one that differs, for an interval, at no cost.
    other = replace(sample, number=sample.number * 1.1, table={key: value * 1.1 for key, value in sample.table.items()})
    return Result(name, [sample, other], "2026-01-31", f"signet study {name}", 1.0, 1.0, "one thread", {"torch": "2"})


@pytest.mark.parametrize("name", STUDIES)
def test_the_smallest_form_leads_to_a_page(name: str) -> None:
    result = smallest(name)

    assert math.isfinite(result.number.value)
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
