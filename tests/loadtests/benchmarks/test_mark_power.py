"""The study's own arithmetic; what it measures needs a real engine and is run by hand."""

import math
from pathlib import Path

import numpy as np
import pytest
from click import ClickException

from loadtests.benchmarks.mark_power import Study, tokens_needed
from serving.provenance import Keyring, MarkKey
from serving.provenance.schemes.gumbel import uniforms
from training.studies.marks.engine import PROMPTS, served_model


@pytest.fixture
def key(tmp_path: Path) -> MarkKey:
    return Keyring.open(tmp_path / "keyring.json", create=True).mark_key("acme")


def marked_tokens(seed: int, length: int) -> list[int]:
    answer: list[int] = []
    for _ in range(length):
        context = np.tile(np.array(([-1] * 4 + answer)[-4:]), (100, 1))
        answer.append(int(uniforms([seed], context, np.arange(100))[0].argmax()))
    return answer


def test_tokens_needed_is_the_first_length_at_which_the_mark_is_found(key: MarkKey) -> None:
    assert tokens_needed(marked_tokens(key.seed, 40), key) == 5


def test_tokens_needed_is_infinite_without_a_mark(key: MarkKey) -> None:
    assert math.isinf(tokens_needed(marked_tokens(key.seed ^ 1, 40), key))


def test_a_missed_bar_is_remembered() -> None:
    study = Study([], [])

    assert study.bar(True, "power") == "held"
    assert study.bar(False, "cost") == "MISSED"
    assert study.missed == ["cost"]


def test_prompts_are_a_hundred_different_ones() -> None:
    assert len(set(PROMPTS)) == 100


def test_an_engine_that_does_not_answer_is_one_line() -> None:
    with pytest.raises(ClickException, match="does not answer"):
        served_model("http://127.0.0.1:9")
