"""The study's own arithmetic, against the detector's."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from serving.provenance import detect
from serving.provenance.detection.drawn import Sampling
from serving.provenance.detection.power import OPENING_NATS
from serving.provenance.schemes import SCHEMES
from serving.provenance.schemes.gumbel import uniforms
from training.studies.marks.bigram import Bigram
from training.studies.marks.detection import main
from training.studies.marks.detection_answers import judged, levels_cell, power_cell, weighted_cell
from training.studies.marks.detection_answers import main as answers_main
from training.studies.marks.detection_human import (
    CLAIM_TOKENS,
    alarm_rates,
    first_places,
    previous_places,
    repeats,
    window_sums,
)
from training.studies.marks.detection_study import GUMBEL, WINDOW, keys_of_many_tenants

TEXT = np.random.default_rng(0).integers(0, 60, 4000).tolist()


def test_window_sums_are_what_the_detector_scores() -> None:
    ids = (TEXT[:150] * 3 + TEXT)[:900]  # phrases that come again, within windows and between them
    key = keys_of_many_tenants(1)[0]
    pairs = GUMBEL.pairs(ids)
    places = first_places(ids)
    scores = np.zeros(len(ids))
    scores[pairs.positions] = GUMBEL.token_scores([key.seed], pairs)[0]
    starts = np.array([4, 100, 151, 500])

    sums, counts = window_sums(scores[places], previous_places(places), starts)

    for start, total, count in zip(starts.tolist(), sums, counts, strict=True):
        window = GUMBEL.pairs(ids[start - 4 : start + WINDOW]).select(slice(4, None))
        assert count == len(window)
        assert total == pytest.approx(GUMBEL.token_scores([key.seed], window).sum())


@pytest.mark.parametrize("name", SCHEMES)
def test_alarms_are_those_of_the_detector(name: str) -> None:
    ids = (TEXT[:150] * 3 + TEXT)[:1500]
    keys, scheme, starts = keys_of_many_tenants(8), SCHEMES[name], np.array([4, 100, 151, 500, 900, 1200])
    levels = (0.4, 0.2, 0.1)

    rates = alarm_rates(scheme, ids, keys, starts, levels)

    for row, key in enumerate(keys):
        p_values = []
        for start in starts.tolist():
            window = scheme.pairs(ids[start - 4 : start + WINDOW])
            window = window.select(window.positions >= 4)
            score = float(scheme.token_scores([key.seed_for(name)], window).sum())
            p_values.append(math.exp(scheme.log_p_value(score, len(window))))
        assert rates[:, row].tolist() == [np.mean([p <= level for p in p_values]) for level in levels]
    assert 0 < rates[0].mean() < 1


def test_its_marked_answers_are_found_and_others_are_not() -> None:
    key = keys_of_many_tenants(1)[0]
    model = Bigram(TEXT, 2.0)

    assert detect(model.answer(150, key.seed).tokens, [key]).marked
    assert not detect(model.answer(150).tokens, [key]).marked


def test_keys_of_many_tenants_differ() -> None:
    assert len({key.seed for key in keys_of_many_tenants(500)}) == 500


def test_a_part_that_is_not_there_is_refused() -> None:
    result = CliRunner().invoke(main, ["--part", "nothing", "--data", ".", "--model-folder", "."])

    assert result.exit_code == 2
    assert "nothing" in result.output


def cool_answer(seed: int, temperature: float, length: int) -> dict[str, Any]:
    """As an engine marks it and tells of it: places of eight candidates, log-probabilities before the temperature."""
    rng, ids, told, nats = np.random.default_rng(seed), list[int](), list[tuple[float, list[float]]](), 0.0
    for _ in range(length):
        tokens, logs = rng.integers(0, 500, 8), np.log(rng.dirichlet(np.full(8, 0.5)) + 1e-6)
        tempered = np.exp(logs / temperature)
        tempered /= tempered.sum()
        draws = rng.random(8)
        if nats >= OPENING_NATS:
            draws = uniforms([seed], np.tile(np.array(([-1] * 4 + ids)[-4:]), (8, 1)), tokens)[0].astype(np.float64)
        nats -= math.log(np.square(tempered).sum())
        chosen = int((np.log(tempered) - np.log(-np.log(draws))).argmax())
        ids.append(int(tokens[chosen]))
        told.append((float(logs[chosen]), sorted(logs.tolist(), reverse=True)))
    own, listed = zip(*told, strict=True)
    return {"seed": seed, "token_ids": ids, "logprobs": own, "top_logprobs": listed}


def test_kept_answers_are_found_as_often_as_what_they_were_drawn_from_says() -> None:
    answers = [judged("gumbel", Sampling(0.4), cool_answer(seed, 0.4, 40), 40) for seed in range(100)]

    cell, off = power_cell(answers)

    found, told, blind = (float(part.split(" ")[0]) for part in cell.split(" / "))
    assert 0.1 < found < 0.9
    assert abs(found - told) < 0.1
    assert blind > told + 0.2  # as at temperature 1
    assert off < 0.02
    assert [float(share) for share in levels_cell(answers).split()][1] == found
    found_weighted, told_weighted = (float(part) for part in weighted_cell(answers).split(" / "))
    assert found_weighted > found
    assert abs(found_weighted - told_weighted) < 0.1


def test_kept_answers_are_shown_by_file(tmp_path: Path) -> None:
    kept = {"sampling": {"temperature": 1.0, "top_k": 0, "top_p": 1.0}, "answers": [cool_answer(1, 1.0, 20)] * 10}
    (tmp_path / "gumbel-prose-1.json").write_text(json.dumps({"scheme": "gumbel", **kept}))
    (tmp_path / "unmarked.json").write_text(json.dumps({"scheme": "unmarked", **kept}))

    result = CliRunner().invoke(answers_main, [str(tmp_path)])

    assert result.exit_code == 0, result.output
    rows = [line for line in result.output.splitlines() if line.startswith("| gumbel")]
    assert [line.split(" | ")[0] for line in rows] == [
        "| gumbel-prose-1",
        "| gumbel, temperature 1, all",
        *["| gumbel-prose-1"] * 2,
    ]
    assert rows[0].endswith(" | – | – | – | – | – |")


def test_repeats_are_left_out_of_claims() -> None:
    ids = TEXT[:300] * 2
    places = previous_places(first_places(ids))
    starts = np.array([4, 100])

    again, window_of = repeats(places, starts)

    for number, start in enumerate(starts.tolist()):
        scored = GUMBEL.pairs(ids[start - 4 : start + CLAIM_TOKENS]).select(slice(4, None))
        assert CLAIM_TOKENS - (window_of == number).sum() == len(scored)
        assert (again[window_of == number] >= start).all()
