"""The study's own arithmetic, against the detector's."""

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from loadtests.bigram import Bigram
from loadtests.detection import main
from loadtests.detection_answers import main as answers_main
from loadtests.detection_human import CLAIM_TOKENS, first_places, previous_places, repeats, window_sums
from loadtests.detection_study import GUMBEL, WINDOW, keys_of_many_tenants
from serving.provenance import detect

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


def test_kept_answers_are_found_as_often_as_their_probabilities_say(tmp_path: Path) -> None:
    key, model = keys_of_many_tenants(1)[0], Bigram(TEXT, 2.0)
    said = [asdict(model.answer(200, key.seed)) for _ in range(3)]
    answers = [{"token_ids": each["tokens"], "logprobs": each["logprobs"]} for each in said]
    (tmp_path / "gumbel.json").write_text(json.dumps({"scheme": "gumbel", "seed": key.seed, "answers": answers}))
    (tmp_path / "unmarked.json").write_text(json.dumps({"scheme": None, "seed": None, "answers": answers}))

    result = CliRunner().invoke(answers_main, [str(tmp_path)])

    rows = [line for line in result.output.splitlines() if line.startswith(("| gumbel", "| unmarked"))]
    assert len(rows) == 1
    assert rows[0].endswith("| 1.00 / 1.00 |")


def test_repeats_are_left_out_of_claims() -> None:
    ids = TEXT[:300] * 2
    places = previous_places(first_places(ids))
    starts = np.array([4, 100])

    again, window_of = repeats(places, starts)

    for number, start in enumerate(starts.tolist()):
        scored = GUMBEL.pairs(ids[start - 4 : start + CLAIM_TOKENS]).select(slice(4, None))
        assert CLAIM_TOKENS - (window_of == number).sum() == len(scored)
        assert (again[window_of == number] >= start).all()
