"""The study's own arithmetic; what it measures needs a real engine and is run by hand."""

from __future__ import annotations

import math

import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from tests.training.studies.marks.test_detection import TEXT
from training.studies.marks.bigram import Bigram
from training.studies.marks.detection_study import log_p
from training.studies.marks.paraphrase import Comparison, compared, row, share_kept

SEED = 2**40 + 7


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    made = Tokenizer(WordLevel({f"w{number}": number for number in range(60)}, unk_token="w0"))
    made.pre_tokenizer = Whitespace()
    return made


def test_a_copy_keeps_the_mark_and_other_words_do_not(tokenizer: Tokenizer) -> None:
    marked, other = (Bigram(TEXT, 2.0, seed=number).answer(150, SEED if number else None).tokens for number in (1, 0))
    original, rewritten = (" ".join(f"w{token}" for token in ids) for ids in (marked, other))

    copy = compared(tokenizer, "gumbel", SEED, original, original)
    paraphrase = compared(tokenizer, "gumbel", SEED, original, rewritten)

    assert (copy.runs_kept, copy.words_kept, copy.length) == (1.0, 1.0, 1.0)
    assert copy.before == copy.after == log_p("gumbel", SEED, marked)
    assert copy.after < math.log(1e-6)
    assert paraphrase.runs_kept < 0.1
    assert paraphrase.after > math.log(1e-3)


def test_shares_are_of_the_other_text() -> None:
    assert share_kept([1, 2, 3, 4], [2, 3, 9], 2) == pytest.approx(1 / 2)
    assert share_kept([1, 2, 3, 4], [3, 3, 3], 1) == 1.0
    assert share_kept([1, 2], [5], 5) == 0.0


def test_nothing_to_read_is_no_evidence() -> None:
    assert log_p("synthid", SEED, [1, 2]) == 0.0


def test_a_row_counts_what_is_found_before_and_after() -> None:
    found = [
        Comparison(-100, -50, 0.5, 0.8, 1.0),
        Comparison(-100, 0, 0.1, 0.6, 0.5),
        Comparison(-9, -1, 0.0, 0.1, 0.2),
    ]

    line = row("kgw", 200, found)

    assert line == "| kgw, 200 tokens | 3 | 1.00, 1e-43 | **0.33**, 1e-0 | 10% | 60% | 50% |"
