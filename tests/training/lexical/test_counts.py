from __future__ import annotations

from math import log, sqrt

import pytest
import torch

from training.lexical.counts import inverse_document_frequency, weigh_texts

TEXTS = [[2, 5, 5, 3], [2, 6, 3], [2, 3]]


def test_weights_are_those_of_the_formula() -> None:
    idf_V = inverse_document_frequency(TEXTS, 9)
    found = weigh_texts(TEXTS, idf_V)

    rare = log(4 / 2) + 1
    assert idf_V.tolist() == pytest.approx([0, 0, 1, 1, 0, rare, rare, 0, 0])
    first = [1, 1, (1 + log(2)) * rare]
    length = sqrt(sum(weight**2 for weight in first))
    assert found.tokens.tolist() == [2, 3, 5, 2, 3, 6, 2, 3]
    assert found.weights.tolist()[:3] == pytest.approx([weight / length for weight in first])
    assert found.sizes.tolist() == [3, 3, 2]


def test_scores_are_sums_of_the_tables_rows() -> None:
    found = weigh_texts(TEXTS, inverse_document_frequency(TEXTS, 9))
    table_VC = torch.arange(18.0).view(9, 2)

    last = found.scores(table_VC)[2]

    assert last.tolist() == pytest.approx([(4 + 6) / sqrt(2), (5 + 7) / sqrt(2)])
    assert torch.equal(found.among(torch.tensor([False, False, True])).scores(table_VC)[0], last)


def test_what_no_text_had_says_nothing_and_takes_nothing() -> None:
    idf_V = inverse_document_frequency(TEXTS, 9)

    known, with_unknown, nothing_known = weigh_texts([[2, 5], [2, 5, 8], [7, 8]], idf_V).scores(torch.ones(9, 1))

    assert known == with_unknown > 0
    assert nothing_known == 0
