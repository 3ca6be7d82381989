"""The study's own arithmetic; what it measures needs a real engine and is run by hand."""

import math
from pathlib import Path

import numpy as np
import pytest

from loadtests.benchmarks.mark_schemes import (
    SIMULATED_VOCABULARY,
    Answer,
    perplexity_of,
    predicted_and_seen,
    simulated,
)
from serving.engine.plugin.draws import make_draw
from serving.engine.plugin.words import context_words
from serving.provenance import Keyring, MarkKey
from training.studies.marks.detection_study import log_p
from training.studies.marks.engine import mark
from training.studies.marks.foreign import foreign_detector

VOCABULARY = 500


@pytest.fixture
def key(tmp_path: Path) -> MarkKey:
    return Keyring.open(tmp_path / "keyring.json", create=True).mark_key("acme")


def written(scheme: str, key: MarkKey, length: int = 200) -> Answer:
    """An answer of a model to which twenty tokens are equally likely at each step, others impossible."""
    rng, ids = np.random.default_rng(2), []
    draw = make_draw(scheme, key.seed_for(scheme), 1)
    for position in range(length):
        possible = rng.choice(VOCABULARY, 20, replace=False)
        logits = np.full(VOCABULARY, -np.inf, np.float32)
        logits[possible] = 0.0
        token = draw(logits, None, context_words(([-1] * 4 + ids)[-4:]), position)
        ids.append(token if token >= 0 else int(possible[0]))
    return Answer(ids, [math.log(1 / 20)] * length)


@pytest.mark.parametrize("scheme", ["gumbel", "dual-gumbel", "synthid"])
def test_a_marked_answer_scores_what_its_probabilities_predict(key: MarkKey, scheme: str) -> None:
    answer = written(scheme, key)

    predicted, seen = predicted_and_seen(scheme, key, answer)

    assert seen == pytest.approx(predicted, rel=0.2)
    assert log_p(scheme, key.seed_for(scheme), answer.token_ids) < math.log(1e-20)
    assert foreign_detector(scheme, key, VOCABULARY)(answer.token_ids)


@pytest.mark.parametrize("scheme", ["gumbel", "dual-gumbel", "synthid", "kgw-lefthash"])
def test_detectors_of_others_find_nothing_where_nothing_is(key: MarkKey, scheme: str) -> None:
    ids = np.random.default_rng(8).integers(0, VOCABULARY, 60).tolist()

    assert not foreign_detector(scheme, key, VOCABULARY)(ids)


def test_perplexity_of_even_chances_is_their_number() -> None:
    assert perplexity_of([Answer([1, 2], [math.log(0.25)] * 2)]) == pytest.approx(4)


def test_no_scheme_asks_for_no_mark(key: MarkKey) -> None:
    assert mark(None, key) == {}
    assert mark("kgw", key) == {"vllm_xargs": {"signet_mark": "kgw", "signet_key": key.permit("kgw")}}


@pytest.mark.parametrize("scheme", ["gumbel", "kgw"])
def test_simulated_answers_are_found_and_their_entropy_is_that_of_the_distributions(scheme: str) -> None:
    log_p_value, entropy = simulated(scheme, 1e-6, 60, run=1)

    assert entropy == pytest.approx(math.log(SIMULATED_VOCABULARY), rel=1e-3)
    assert log_p_value < math.log(1e-9)
